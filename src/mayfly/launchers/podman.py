"""Executors as containers of Podman, or of Docker, through the API both have."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from mayfly.launchers.engines import Engine, Missing, NameTaken, open_engine
from mayfly.launchers.errands import TICKET_FILE, checked_variables, told
from mayfly.model.errors import InvalidSettings
from mayfly.model.launches import Launch, Launched, LaunchId, LaunchState, Ticket
from mayfly.ports import Clock, Launcher

_SOCKETS = (Path("/run/podman/podman.sock"), Path("/run/docker.sock"))
_LAUNCH, _POOL = "mayfly.launch", "mayfly.pool"
_PLACE = "run/mayfly-ticket"
_MEGABYTE = 1024 * 1024
_NANO = 1_000_000_000
_NOT_BEGUN = {"created", "configured", "initialized"}
_STATES = {
    **dict.fromkeys(_NOT_BEGUN, LaunchState.STARTING),
    "exited": LaunchState.ENDED,
    "stopped": LaunchState.ENDED,
    "dead": LaunchState.FAILED,
}
"""Every other one has something that runs."""
_WELL = {"0", "42"}
"""Exit codes of an executor that did what it was told."""
_EXITED = re.compile(r"Exited \((-?\d+)\)")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a container of an executor is made of."""

    image: str
    """Has `mayfly` and what the runner needs. It must be there: nothing is fetched."""
    command: tuple[str, ...] = ()
    """The executor and its arguments; empty: the image's own."""
    engine: Path | None = None
    """The engine's socket; unset: Podman's or Docker's usual one, the first there is."""
    user: str | None = None
    """Whom it runs as; unset: the image's own."""
    network: str = "bridge"
    """`bridge`: the engine's own, with a way out; `host`: the machine's; or one by name."""
    memory_mb: int | None = None
    """The most memory, swap included; unset: what the machine has."""
    processes: int | None = 4096
    """The most processes and threads, so that a fork bomb ends with its executor."""
    cpus: float | None = None
    """The most processors' time, as in 1.5; unset: what the machine has."""
    ulimits: dict[str, int] = {}
    """See setrlimit(2); empty: the engine's own."""
    capabilities: tuple[str, ...] = ()
    """What its root may do beside nothing, as in `CHOWN`; see capabilities(7)."""
    read_only: dict[str, Path] = {}
    """Files and directories of the machine that it sees, by where it sees them."""
    environment: dict[str, str] = {}
    """Variables beside ours and the image's own."""
    keep_seconds: float = 600.0
    """How long an ended container stays, to be looked at, counted from its start."""
    grace_seconds: float = 10.0
    """Between asking an executor to end and killing it."""


@asynccontextmanager
async def open_launcher(
    settings: Settings, *, server: str, pools: Sequence[str], clock: Clock
) -> AsyncIterator[Launcher]:
    """Containers of one engine, which need not answer yet."""
    del pools
    _check(settings)
    async with open_engine(_socket(settings)) as engine:
        yield PodmanLauncher(settings, engine, server, clock)


class PodmanLauncher:
    """A container's name is made of its launch's id, so that asking twice makes one."""

    def __init__(self, settings: Settings, engine: Engine, server: str, clock: Clock) -> None:
        self._settings = settings
        self._engine = engine
        self._server = server
        self._clock = clock

    async def start(self, launch: Launch, ticket: Ticket) -> None:
        """Create, put the ticket into it, start: cut off in between, the repetition goes on."""
        name = _name(launch.id)
        try:
            await self._engine.create(name, _body(self._settings, launch, self._server))
        except NameTaken:
            shown = await self._engine.shown(name)
            if shown["State"]["Status"] not in _NOT_BEGUN:
                return
        await self._engine.put(name, _PLACE, ticket)
        await self._engine.start(name)

    async def launched(self, pool: str) -> list[Launched]:
        """What ended longer ago than it is kept is removed on the way, of whatever pool."""
        found = []
        for each in await self._engine.labelled(_LAUNCH):
            if self._is_over(each):
                await self._engine.remove(each["Id"])
            elif each["Labels"].get(_POOL) == pool:
                found.append(_launched(each))
        return sorted(found)

    async def stop(self, pool: str, launch: LaunchId) -> None:
        """Asked first, and killed after the grace time."""
        try:
            shown = await self._engine.shown(_name(launch))
        except Missing:
            return
        if shown["Config"]["Labels"].get(_POOL) != pool:
            return
        if shown["State"]["Status"] in _NOT_BEGUN:
            await self._engine.remove(_name(launch))
        else:
            await self._engine.stop(_name(launch), self._settings.grace_seconds)

    def _is_over(self, container: dict[str, Any]) -> bool:
        """The engine's list tells only when it was created, which is before."""
        if _launched(container).state in {LaunchState.RUNNING, LaunchState.STARTING}:
            return False
        created = datetime.fromtimestamp(container["Created"], UTC)
        return self._clock.now() - created > timedelta(seconds=self._settings.keep_seconds)


def _launched(container: dict[str, Any]) -> Launched:
    state, said = _STATES.get(container["State"], LaunchState.RUNNING), container.get("Status", "")
    exited = _EXITED.search(said)
    if state is LaunchState.ENDED and exited and exited[1] not in _WELL:
        state = LaunchState.FAILED
    return Launched(LaunchId(container["Labels"][_LAUNCH]), state, said)


def _name(launch: LaunchId) -> str:
    return f"mayfly-{launch}"


def _body(settings: Settings, launch: Launch, server: str) -> dict[str, Any]:
    """See https://docs.docker.com/reference/api/engine/."""
    variables = settings.environment | told(launch, server) | {TICKET_FILE: f"/{_PLACE}"}
    body: dict[str, Any] = {
        "Image": settings.image,
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": {_LAUNCH: launch.id, _POOL: launch.pool},
        "HostConfig": _host(settings),
    }
    if settings.command:
        body |= {"Entrypoint": [], "Cmd": list(settings.command)}
    if settings.user is not None:
        body["User"] = settings.user
    return body


def _host(settings: Settings) -> dict[str, Any]:
    host: dict[str, Any] = {
        "RestartPolicy": {"Name": "no"},
        "CapDrop": ["ALL"],
        "CapAdd": list(settings.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "NetworkMode": settings.network,
        "Binds": [f"{path}:{inside}:ro" for inside, path in settings.read_only.items()],
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value} for name, value in settings.ulimits.items()
        ],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
    }
    if settings.memory_mb is not None:
        memory = settings.memory_mb * _MEGABYTE
        host |= {"Memory": memory, "MemorySwap": memory}
    if settings.processes is not None:
        host["PidsLimit"] = settings.processes
    if settings.cpus is not None:
        host["NanoCpus"] = round(settings.cpus * _NANO)
    return host


def _check(settings: Settings) -> None:
    for name in ("memory_mb", "processes", "cpus", "keep_seconds", "grace_seconds"):
        value = getattr(settings, name)
        if value is not None and value <= 0:
            raise InvalidSettings(f"{name} is {value}; it must be positive")
    checked_variables(settings.environment)
    for inside, path in settings.read_only.items():
        if not inside.startswith("/") or not path.is_absolute() or ":" in f"{inside}{path}":
            raise InvalidSettings(
                f"read_only has {inside!r} = {str(path)!r}; both are whole paths without a colon"
            )


def _socket(settings: Settings) -> Path:
    if settings.engine is not None:
        return settings.engine
    found = next((each for each in _SOCKETS if each.is_socket()), None)
    if found is None:
        raise InvalidSettings(
            f"there is no engine at {' or '.join(map(str, _SOCKETS))}; start one "
            "(systemctl enable --now podman.socket), or name its socket in engine"
        )
    return found
