"""A stand-in for Azure Resource Manager and Container Apps jobs, and for a machine's identity.

It keeps what is documented of both: a start replaces the whole template, has no idempotency key,
and is answered with 200 or with 202 and a Location; of ended executions the newest 100 are kept;
who is too fast is answered 429. Nobody has documented how a start is refused for want of cores;
the sentence is Azure's, its status a guess.
Source: https://learn.microsoft.com/rest/api/containerapps/jobs/start and
https://learn.microsoft.com/azure/container-apps/jobs
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

from tests.servers.platforms import Endpoint, Reply, Request, serving

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
GROUP = "runners"
IDENTITY_HEADER = "the header of the tests"
KEPT = 100
PAGE = 20
NO_CORES = (
    "Maximum Allowed Cores exceeded for the Managed Environment. Please check "
    "https://learn.microsoft.com/en-us/azure/container-apps/quotas for resource limits"
)
_LIVING = {"Processing", "Running", "Degraded", "Unknown"}
_JOB = re.compile(
    rf"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft\.App/jobs/"
    r"(?P<job>[^/]+)(?P<rest>/.*)?"
)
_CONTAINER = {"image", "name", "command", "args", "env", "resources"}
TEMPLATE: dict[str, Any] = {
    "containers": [
        {
            "name": "executor",
            "image": "registry.example/mayfly-executor:1",
            "command": ["mayfly", "executor", "--once"],
            "args": ["--config", "/etc/mayfly/executor.toml"],
            "env": [
                {"name": "PROXY_PASSWORD", "secretRef": "proxy"},
                {"name": "LANG", "value": "C.UTF-8"},
                {"name": "MAYFLY_POOL", "value": "what a start takes the place of"},
            ],
            "resources": {"cpu": 2.0, "memory": "4Gi", "ephemeralStorage": "8Gi"},
            "probes": [{"type": "Liveness", "tcpSocket": {"port": 1}}],
        }
    ],
    "initContainers": None,
    "volumes": None,
}


class Arm:
    """One resource group; jobs are put into it."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(self._answer)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.executions: list[dict[str, Any]] = []
        """Newest first, as they are listed."""
        self.accepts_with = 200
        self.most_running: int | None = None
        self.allowed = True
        self._tokens: set[str] = set()
        self._made = 0

    @property
    def url(self) -> str:
        return self.endpoint.url

    def environment(self) -> dict[str, str]:
        """What a machine with a managed identity finds."""
        return {
            "IDENTITY_ENDPOINT": f"{self.url}/msi/token",
            "IDENTITY_HEADER": IDENTITY_HEADER,
        }

    def put(self, name: str, **changes: Any) -> None:
        """A Manual-trigger job."""
        configuration = {
            "triggerType": "Manual",
            "replicaTimeout": 21_600,
            "replicaRetryLimit": 0,
            "manualTriggerConfig": {"parallelism": 1, "replicaCompletionCount": 1},
            "secrets": [{"name": "proxy"}],
        }
        template = TEMPLATE | changes.pop("template", {})
        self.jobs[name] = {
            "id": f"/subscriptions/{SUBSCRIPTION}/…/{name}",
            "name": name,
            "properties": {"configuration": configuration | changes, "template": template},
        }

    def told(self, execution: dict[str, Any]) -> dict[str, str]:
        """The plain variables of an execution's containers."""
        return {
            each["name"]: each["value"]
            for one in execution["properties"]["template"]["containers"]
            for each in one["env"]
            if "value" in each
        }

    def of(self, launch: str) -> list[dict[str, Any]]:
        """Executions that were told of that launch."""
        return [one for one in self.executions if self.told(one).get("MAYFLY_LAUNCH") == launch]

    def becomes(self, launch: str, status: str) -> None:
        """Azure says so from now on."""
        for one in self.of(launch):
            one["properties"]["status"] = status
        self._forget()

    def _answer(self, request: Request) -> Reply:
        if request.path == "/msi/token":
            return self._token(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self._tokens:
            return _refused(401, "InvalidAuthenticationToken", "The access token is invalid.")
        if not re.fullmatch(r"20\d\d-\d\d-\d\d", request.query.get("api-version", "")):
            return _refused(400, "MissingApiVersionParameter", "The api-version is required.")
        found = _JOB.fullmatch(request.path)
        job = self.jobs.get(found["job"]) if found else None
        if found is None or job is None:
            return _refused(404, "ResourceNotFound", f"{request.path} was not found.")
        if not self.allowed:
            return _refused(403, "AuthorizationFailed", f"no authorization over {found['job']}")
        return self._of_job(request, job, found["rest"] or "")

    def _token(self, request: Request) -> Reply:
        """As App Service and Container Apps give it out."""
        if request.headers.get("x-identity-header") != IDENTITY_HEADER:
            return Reply(401)
        token = token_hex(16)
        self._tokens.add(token)
        resource = request.query["resource"]
        told = {"access_token": token, "expires_on": "4102444800", "token_type": "Bearer"}
        return Reply(200, told | {"resource": resource})

    def _of_job(self, request: Request, job: dict[str, Any], rest: str) -> Reply:
        stopped = re.fullmatch(r"/executions/([^/]+)/stop", rest)
        match request.method, rest:
            case "GET", "":
                return Reply(200, job)
            case "GET", "/executions":
                return self._list(request, job["name"])
            case "POST", "/start":
                return self._start(request, job)
            case "POST", _ if stopped:
                return self._stop(stopped[1])
            case _:
                return _refused(405, "MethodNotAllowed", "no such verb")

    def _list(self, request: Request, job: str) -> Reply:
        skip = int(request.query.get("skipToken", 0))
        all_of_it = [one for one in self.executions if one["job"] == job]
        page: dict[str, Any] = {
            "value": [
                {name: value for name, value in one.items() if name != "job"}
                for one in all_of_it[skip : skip + PAGE]
            ]
        }
        if skip + PAGE < len(all_of_it):
            page["nextLink"] = (
                f"{self.url}{request.path}?api-version={request.query['api-version']}"
                f"&skipToken={skip + PAGE}"
            )
        return Reply(200, page)

    def _start(self, request: Request, job: dict[str, Any]) -> Reply:
        template = request.json() or job["properties"]["template"]
        if fault := self._fault(template, job):
            return _refused(400, "ContainerAppInvalidSchema", fault)
        running = [one for one in self.executions if one["properties"]["status"] in _LIVING]
        if self.most_running is not None and len(running) >= self.most_running:
            return _refused(400, "ManagedEnvironmentCoresExceeded", NO_CORES)
        self._made += 1
        name = f"{job['name']}-{self._made:07d}"
        self.executions.insert(
            0,
            {
                "id": f"{request.path.removesuffix('/start')}/executions/{name}",
                "name": name,
                "job": job["name"],
                "properties": {"status": "Processing", "template": template},
            },
        )
        if self.accepts_with == 202:
            return Reply(202, None, {"Location": f"{self.url}/operations/{name}"})
        return Reply(200, {"id": self.executions[0]["id"], "name": name})

    def _fault(self, template: dict[str, Any], job: dict[str, Any]) -> str | None:
        secrets = {one["name"] for one in job["properties"]["configuration"]["secrets"]}
        for one in template["containers"]:
            if not {"image", "name"} <= one.keys():
                return "a container needs image and name"
            if unknown := sorted(one.keys() - _CONTAINER - {"probes", "volumeMounts"}):
                return f"a container has no {unknown[0]}"
            for each in one.get("env", []):
                if each.get("secretRef", "proxy") not in secrets:
                    return f"there is no secret {each['secretRef']}"
        return None

    def _stop(self, name: str) -> Reply:
        for one in self.executions:
            if one["name"] == name:
                if one["properties"]["status"] in _LIVING:
                    one["properties"]["status"] = "Stopped"
                return Reply(self.accepts_with)
        return _refused(404, "JobExecutionNotFound", f"no execution {name}")

    def _forget(self) -> None:
        ended = [one for one in self.executions if one["properties"]["status"] not in _LIVING]
        for one in ended[KEPT:]:
            self.executions.remove(one)


def _refused(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"error": {"code": code, "message": message}})


@asynccontextmanager
async def running() -> AsyncIterator[Arm]:
    """It answers as long as the block lasts."""
    arm = Arm()
    async with serving(arm.endpoint):
        yield arm
