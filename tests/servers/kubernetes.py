"""A stand-in for a Kubernetes API server: Jobs, Secrets and Pods of one namespace.

It keeps what is documented of them: names are unique for a kind, 409 AlreadyExists and 404
NotFound, uids and resource versions, label selectors, lists in pages, owners whose end is that of
what they own, and a quota that is refused with 403 as rights are. Every manifest is checked
against Kubernetes' own schemas. It runs nothing: a test says what the controllers would.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

import base64
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import kubernetes_validate

from tests.servers.platforms import Endpoint, Reply, Request, serving

NAMESPACE = "runners"
VERSION = "1.33"
_PATH = re.compile(
    r"(?P<api>/api/v1|/apis/batch/v1)/namespaces/(?P<namespace>[^/]+)"
    r"/(?P<plural>jobs|secrets|pods)(?:/(?P<name>[^/]+))?"
)
_KINDS = {"jobs": ("batch/v1", "Job"), "secrets": ("v1", "Secret"), "pods": ("v1", "Pod")}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
_VERBS = {"POST": "create", "GET": "get", "DELETE": "delete"}


class ApiServer:
    """One namespace, one service account."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(self._answer)
        self.token = "the service account's token of the tests"
        self.most_jobs: int | None = None
        self.forbidden: set[tuple[str, str]] = set()
        """(verb, plural)s the service account has no right to."""
        self.page = 500
        self.made: list[tuple[str, dict[str, Any]]] = []
        """Every Job there has ever been."""
        self.kept: dict[str, dict[str, dict[str, Any]]] = {"jobs": {}, "secrets": {}, "pods": {}}
        self._version = 1

    @property
    def url(self) -> str:
        return self.endpoint.url

    def becomes(self, job: str, **status: Any) -> None:
        """The Job controller says so from now on."""
        self.kept["jobs"][job]["status"] = status
        self._touched(self.kept["jobs"][job])

    def pod(self, job: str, **status: Any) -> None:
        """The Job controller has made its pod."""
        owner = self.kept["jobs"][job]
        template = owner["spec"]["template"]
        self._make(
            "pods",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{job}-x7k2p",
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [{"uid": owner["metadata"]["uid"]}],
                },
                "spec": template["spec"],
                "status": status,
            },
        )

    def environment(self, job: dict[str, Any]) -> dict[str, str]:
        """What the executor of a Job finds, with what its references lead to."""
        (container,) = job["spec"]["template"]["spec"]["containers"]
        found = {}
        for each in container["env"]:
            reference = each.get("valueFrom", {}).get("secretKeyRef")
            if reference is None:
                found[each["name"]] = each["value"]
            elif reference["name"] in self.kept["secrets"]:
                data = self.kept["secrets"][reference["name"]]["data"]
                found[each["name"]] = base64.b64decode(data[reference["key"]]).decode()
        return found

    def _answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _refused(401, "Unauthorized", "Unauthorized")
        found = _PATH.fullmatch(request.path)
        if found is None:
            return _refused(404, "NotFound", "the server could not find the requested resource")
        plural, name = found["plural"], found["name"]
        verb = "list" if request.method == "GET" and name is None else _VERBS[request.method]
        if (verb, plural) in self.forbidden or found["namespace"] != NAMESPACE:
            return _refused(
                403,
                "Forbidden",
                f'{plural} is forbidden: User "system:serviceaccount:{NAMESPACE}:mayfly" cannot '
                f'{verb} resource "{plural}" in the namespace "{found["namespace"]}"',
            )
        match verb:
            case "create":
                return self._create(plural, request.json())
            case "list":
                return self._list(plural, request.query)
            case _ if name not in self.kept[plural]:
                return _refused(404, "NotFound", f'{plural} "{name}" not found')
            case "get":
                return Reply(200, self.kept[plural][name])
            case _:
                return self._delete(plural, name, request.json())

    def _create(self, plural: str, manifest: dict[str, Any]) -> Reply:
        try:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            return _refused(422, "Invalid", error.message)
        name, labels = manifest["metadata"]["name"], manifest["metadata"].get("labels", {})
        expected = (manifest["apiVersion"], manifest["kind"])
        if expected != _KINDS[plural] or not _NAME.fullmatch(name):
            return _refused(422, "Invalid", f'"{name}" is invalid')
        if not all(_LABEL.fullmatch(value) for value in labels.values()):
            return _refused(422, "Invalid", f'"{name}" is invalid: metadata.labels')
        if name in self.kept[plural]:
            return _refused(409, "AlreadyExists", f'{plural} "{name}" already exists')
        jobs = len(self.kept["jobs"])
        if plural == "jobs" and self.most_jobs is not None and jobs >= self.most_jobs:
            return _refused(
                403,
                "Forbidden",
                f'jobs.batch "{name}" is forbidden: exceeded quota: executors, requested: '
                f"count/jobs.batch=1, used: count/jobs.batch={jobs}, limited: "
                f"count/jobs.batch={self.most_jobs}",
            )
        return Reply(201, self._make(plural, manifest))

    def _make(self, plural: str, manifest: dict[str, Any]) -> dict[str, Any]:
        made = manifest | {"metadata": manifest["metadata"] | {"uid": str(uuid.uuid4())}}
        if texts := made.pop("stringData", None):  # write-only
            made["data"] = {
                key: base64.b64encode(text.encode()).decode() for key, text in texts.items()
            }
        if plural == "jobs":
            made["status"] = {}
            self.made.append((made["metadata"]["name"], made))
        self.kept[plural][made["metadata"]["name"]] = self._touched(made)
        return made

    def _list(self, plural: str, query: dict[str, str]) -> Reply:
        wanted = dict(term.split("=") for term in query["labelSelector"].split(","))
        found = [
            one
            for one in self.kept[plural].values()
            if wanted.items() <= one["metadata"].get("labels", {}).items()
        ]
        start = int(query.get("continue", 0))
        end = start + min(self.page, int(query.get("limit", self.page)))
        metadata = {"resourceVersion": str(self._version)}
        if end < len(found):
            metadata["continue"] = str(end)
        return Reply(200, {"kind": "List", "metadata": metadata, "items": found[start:end]})

    def _delete(self, plural: str, name: str, options: dict[str, Any] | None) -> Reply:
        wanted = (options or {}).get("preconditions", {}).get("uid")
        if wanted not in {None, self.kept[plural][name]["metadata"]["uid"]}:
            return _refused(409, "Conflict", f'{plural} "{name}" has another uid')
        gone = self.kept[plural].pop(name)
        # Some versions leave the pods of a Job to themselves unless they are told not to.
        if (options or {}).get("propagationPolicy") in {"Background", "Foreground"}:
            for owned in self.kept.values():
                for each in [
                    key
                    for key, one in owned.items()
                    for owner in one["metadata"].get("ownerReferences", [])
                    if owner["uid"] == gone["metadata"]["uid"]
                ]:
                    del owned[each]
        return Reply(200, {"kind": "Status", "status": "Success"})

    def _touched(self, made: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        made["metadata"]["resourceVersion"] = str(self._version)
        return made


def _refused(status: int, reason: str, message: str) -> Reply:
    return Reply(
        status,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": status,
        },
    )


@asynccontextmanager
async def running() -> AsyncIterator[ApiServer]:
    """It answers as long as the block lasts."""
    server = ApiServer()
    async with serving(server.endpoint):
        yield server
