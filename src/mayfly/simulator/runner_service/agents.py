"""Agents: what the pipelines service calls a registered runner, with its key."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Struct, field

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.runner_service import keys
from mayfly.simulator.runner_service.definitions import BROKER, TENANT
from mayfly.simulator.runners import Runner, Runners
from mayfly.simulator.settings import Settings


class PublicKey(Struct, frozen=True, rename="lower"):
    """As a runner brings it: base64 of big-endian numbers."""

    modulus: str = ""
    exponent: str = ""


class Authorization(Struct, frozen=True, rename="lower"):
    """What a runner says of its key."""

    public_key: PublicKey = field(default_factory=PublicKey, name="publickey")


class Label(Struct, frozen=True, rename="lower"):
    """A label, whoever gave it."""

    name: str
    type: str = "user"


class TaskAgent(Struct, frozen=True, kw_only=True, rename="lower"):
    """An agent as a runner describes itself."""

    id: int = 0
    name: str = ""
    version: str = ""
    os_description: str = field(default="", name="osdescription")
    labels: list[Label] = field(default_factory=list)
    ephemeral: bool = False
    disable_update: bool = field(default=False, name="disableupdate")
    authorization: Authorization = field(default_factory=Authorization)


class Agents:
    """The public keys of runners; a runner that is gone has none."""

    def __init__(self, runners: Runners) -> None:
        self._runners = runners
        self._keys: dict[int, RSAPublicKey] = {}

    def put(self, runner: Runner, key: RSAPublicKey) -> None:
        self._keys[runner.id] = key
        if len(self._keys) > 2 * len(self._runners.all) + 64:
            self._keys = {i: k for i, k in self._keys.items() if i in self._runners.all}

    def key(self, runner_id: int) -> RSAPublicKey | None:
        return self._keys.get(runner_id) if runner_id in self._runners.all else None

    def of_client(self, client: str) -> Runner | None:
        """The runner an OAuth client id stands for."""
        tail = client.rpartition("-")[2]
        runner = self._runners.all.get(int(tail)) if tail.isdigit() else None
        return runner if runner is not None and client_id(runner) == client else None


def client_id(runner: Runner) -> str:
    """A GUID, because the official runner takes nothing else."""
    return f"00000000-0000-4000-8000-{runner.id:012d}"


def authorization_url(base: str) -> str:
    return f"{base}{TENANT}/oauth2/token"


def shape(runner: Runner, asked: TaskAgent | None, settings: Settings, base: str) -> Json:
    """An agent as the service shows it; `asked` is repeated where a runner wants to see it."""
    labels = [{"id": n, "name": name, "type": "user"} for n, name in enumerate(runner.labels, 1)]
    return {
        "id": runner.id,
        "name": runner.name,
        "version": asked.version if asked else runner.version,
        "osDescription": asked.os_description if asked else None,
        "enabled": True,
        "status": runner.status,
        "provisioningState": "Provisioned",
        "maxParallelism": 1,
        "ephemeral": runner.ephemeral,
        "disableUpdate": asked.disable_update if asked else False,
        "labels": labels,
        "authorization": {
            "authorizationUrl": authorization_url(base),
            "clientId": client_id(runner),
        },
        "properties": _properties(settings, base),
    }


def _properties(settings: Settings, base: str) -> Json:
    fips = settings.runner_encryption == "sha256"
    found: Json = {"RequireFipsCryptography": _property("System.Boolean", fips)}
    if settings.runner_flow == "v2":
        found["UseV2Flow"] = _property("System.Boolean", True)  # noqa: FBT003 - a value
        found["ServerUrlV2"] = _property("System.String", f"{base}{BROKER}/")
    return found


def _property(kind: str, value: object) -> Json:
    return {"$type": kind, "$value": value}


def files(runner: Runner, settings: Settings, base: str) -> dict[str, Json]:
    """What the three files of a JIT config hold."""
    return {
        ".runner": _settings(runner, settings, base),
        ".credentials": {
            "ClientId": client_id(runner),
            "AuthorizationUrl": authorization_url(base),
            "RequireFipsCryptography": str(settings.runner_encryption == "sha256"),
        },
        ".credentials_rsaparams": dict(keys.parameters(keys.private_key(runner.id))),
    }


def _settings(runner: Runner, settings: Settings, base: str) -> Json:
    path = "/".join(part for part in (runner.scope.owner, runner.scope.repo) if part)
    # Third-party runners insist on strings here, numbers and booleans too; but for `UseV2Flow`,
    # which old ones take as a boolean only.
    found: Json = {
        "AgentId": str(runner.id),
        "AgentName": runner.name,
        "PoolId": str(runner.group_id),
        "PoolName": "Default",
        "DisableUpdate": "True",
        "Ephemeral": str(runner.ephemeral),
        "ServerUrl": f"{base}{TENANT}/",
        "GitHubUrl": f"{base}/{path}",
        "WorkFolder": runner.work_folder,
    }
    if settings.runner_flow == "v2":
        found |= {"UseV2Flow": True, "ServerUrlV2": f"{base}{BROKER}/"}
    return found
