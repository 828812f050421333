"""Platforms that are not this machine: engines and stand-ins, looked at from the other side."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import pytest

from mayfly.backends import OpenLauncher
from mayfly.engine.clock import SystemClock
from mayfly.launchers import container_apps, kubernetes, podman, webhook
from mayfly.model.errors import Transient
from mayfly.model.launches import Launch, LaunchId, Ticket
from mayfly.ports import Launcher
from tests.fakes.clocks import ManualClock
from tests.fakes.platforms import POOLS, SERVER, Begun, Platform
from tests.servers import arm, hooks
from tests.servers import kubernetes as clusters
from tests.servers import podman as engines
from tests.servers.platforms import Endpoint

TEMPLATE = """
metadata:
  labels: {team: builds}
spec:
  serviceAccountName: executor
  containers:
    - name: executor
      image: registry.example/mayfly-executor:1
      env:
        - {name: LANG, value: C.UTF-8}
      resources: {limits: {cpu: "2", memory: 4Gi}}
"""
"""A pod template as an operator writes it."""


@asynccontextmanager
async def launcher_of(
    name: str, settings: Any, clock: ManualClock | None = None
) -> AsyncIterator[Launcher]:
    """By its entry point, as a control plane opens it."""
    (point,) = entry_points(group="mayfly.launchers", name=name)
    open_launcher = cast("OpenLauncher", point.load().open_launcher)
    async with open_launcher(
        settings, server=SERVER, pools=POOLS, clock=clock or ManualClock()
    ) as launcher:
        yield launcher


@asynccontextmanager
async def _silent(endpoint: Endpoint) -> AsyncIterator[None]:
    await endpoint.close()
    try:
        yield
    finally:
        await endpoint.open()


class ContainerApps:
    """A resource group with a job for each pool."""

    def __init__(self, server: arm.Arm) -> None:
        self.server = server
        for pool in POOLS:
            server.put(f"mayfly-{pool}")
        self.clock = ManualClock()
        self.settings = container_apps.Settings(
            subscription=arm.SUBSCRIPTION,
            resource_group=arm.GROUP,
            job="mayfly-{pool}",
            endpoint=server.url,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Launcher]:
        with _with_variables(self.server.environment()):
            async with launcher_of("container_apps", self.settings, self.clock) as launcher:
                yield launcher

    async def begun(self) -> list[Begun]:
        for one in self.server.executions:
            if one["properties"]["status"] == "Processing":
                one["properties"]["status"] = "Running"
        told = [self.server.told(one) for one in reversed(self.server.executions)]
        return [_begun(each) for each in told]

    async def ends(self, launch: LaunchId, exit_code: int) -> None:
        self.server.becomes(launch, "Failed" if exit_code else "Succeeded")

    async def unanswered(self, launch: Launch, ticket: Ticket) -> None:
        self.server.endpoint.lose("POST", "/start")
        async with self.opened() as gone:
            with pytest.raises(Transient):
                await gone.start(launch, ticket)

    @property
    def away(self) -> Callable[[], AbstractAsyncContextManager[None]]:
        return lambda: _silent(self.server.endpoint)


class Kubernetes:
    """A namespace."""

    def __init__(self, server: clusters.ApiServer, folder: Path) -> None:
        self.server = server
        (folder / "token").write_text(f"{server.token}\n")
        (folder / "executor.yaml").write_text(TEMPLATE)
        self.settings = kubernetes.Settings(
            template=folder / "executor.yaml",
            namespace=clusters.NAMESPACE,
            server=server.url,
            token_file=folder / "token",
            ca_file=None,
        )

    def opened(self) -> AbstractAsyncContextManager[Launcher]:
        return launcher_of("kubernetes", self.settings)

    async def begun(self) -> list[Begun]:
        found = []
        for name, job in self.server.made:
            environment = self.server.environment(job)
            if "MAYFLY_TICKET" in environment:
                found.append(_begun(environment))
                if self.server.kept["jobs"].get(name) == job and not job["status"]:
                    self.server.becomes(name, active=1, ready=1)
        return found

    async def ends(self, launch: LaunchId, exit_code: int) -> None:
        well = {"type": "Complete", "status": "True", "reason": "CompletionsReached"}
        badly = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
        self.server.becomes(f"mayfly-{launch}", conditions=[badly if exit_code else well])

    async def unanswered(self, launch: Launch, ticket: Ticket) -> None:
        self.server.endpoint.lose("POST", "/jobs")
        async with self.opened() as gone:
            with pytest.raises(Transient):
                await gone.start(launch, ticket)

    @property
    def away(self) -> Callable[[], AbstractAsyncContextManager[None]]:
        return lambda: _silent(self.server.endpoint)


class Url:
    """An operator's platform behind a URL."""

    def __init__(self, server: hooks.Hook, folder: Path) -> None:
        self.server = server
        (folder / "secret").write_text(f"{hooks.SECRET}\n")
        self.settings = webhook.Settings(url=server.url, secret_file=folder / "secret")

    def opened(self) -> AbstractAsyncContextManager[Launcher]:
        # Receivers refuse what is not of now.
        return launcher_of("webhook", self.settings, ManualClock(_now()))

    async def begun(self) -> list[Begun]:
        return [_ordered(order) for order in self.server.begun]

    async def ends(self, launch: LaunchId, exit_code: int) -> None:
        self.server.becomes(launch, "failed" if exit_code else "ended", f"exit code {exit_code}")

    async def unanswered(self, launch: Launch, ticket: Ticket) -> None:
        self.server.endpoint.lose("POST", hooks.PATH)
        async with self.opened() as gone:
            with pytest.raises(Transient):
                await gone.start(launch, ticket)

    @property
    def away(self) -> Callable[[], AbstractAsyncContextManager[None]]:
        return lambda: _silent(self.server.endpoint)


PROGRAM = """
import json, pathlib, sys, time
place = pathlib.Path(sys.argv[1])
order = json.load(sys.stdin)
if not place.exists():
    print("the boards do not answer", file=sys.stderr)
    sys.exit(75)
known = {path.name: json.loads(path.read_text()) for path in place.glob("0*")}
mine = known.get(order.get("launch"))
if order["verb"] == "start" and mine is None:
    whole = place / ("new-" + order["launch"])  # nobody reads half of it
    whole.write_text(json.dumps(order | {"state": "running"}))
    whole.rename(place / order["launch"])
    if (place / "slow").exists():
        time.sleep(60)
elif order["verb"] == "stop" and mine and mine["pool"] == order["pool"]:
    if mine["state"] == "running":
        (place / order["launch"]).write_text(json.dumps(mine | {"state": "ended"}))
elif order["verb"] == "list":
    own = [each for each in known.values() if each["pool"] == order["pool"]]
    print(json.dumps({"launches": [
        {"id": each["launch"], "state": each["state"], "detail": each.get("detail", "")}
        for each in own
    ]}))
"""
"""An operator's program; its platform is a directory."""


class Program:
    """An operator's own program."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "boards"
        self.place.mkdir()
        self.settings = webhook.Settings(
            command=(sys.executable, "-S", "-E", "-c", PROGRAM, str(self.place))
        )

    def opened(self) -> AbstractAsyncContextManager[Launcher]:
        return launcher_of("webhook", self.settings)

    async def begun(self) -> list[Begun]:
        return [_ordered(json.loads(each.read_text())) for each in sorted(self.place.glob("0*"))]

    async def ends(self, launch: LaunchId, exit_code: int) -> None:
        path = self.place / launch
        ended = {"state": "failed" if exit_code else "ended", "detail": f"exit code {exit_code}"}
        path.write_text(json.dumps(json.loads(path.read_text()) | ended))

    async def unanswered(self, launch: Launch, ticket: Ticket) -> None:
        hasty = webhook.Settings(command=self.settings.command, timeout_seconds=1)
        (self.place / "slow").touch()
        async with launcher_of("webhook", hasty) as gone:
            with pytest.raises(Transient):
                await gone.start(launch, ticket)
        (self.place / "slow").unlink()

    @property
    def away(self) -> Callable[[], AbstractAsyncContextManager[None]]:
        return self._away

    @asynccontextmanager
    async def _away(self) -> AsyncIterator[None]:
        kept = self.place.rename(self.place.with_suffix(".kept"))
        try:
            yield
        finally:
            kept.rename(self.place)


_EXECUTOR = """
trap 'exit 42' TERM
env | grep ^MAYFLY_
echo "MAYFLY_TICKET=$(cat "$MAYFLY_TICKET_FILE")"
until [ -f /tmp/end ]; do sleep 0.05; done
exit "$(cat /tmp/end)"
"""


class Podman:
    """An engine of the tests' own; an executor says what it was told, and waits for its end."""

    def __init__(self, folder: Path) -> None:
        self.engine = engines.shared()
        self._socket = folder / "engine"
        self._socket.symlink_to(self.engine.socket)
        self.clock = ManualClock(_now())
        self.settings = podman.Settings(
            image=engines.IMAGE,
            command=("sh", "-c", _EXECUTOR),
            engine=self._socket,
            network="none",
            user="65534:65534",
            ulimits={"nofile": 1024, "nproc": 4096},
            grace_seconds=2,
        )

    def opened(self) -> AbstractAsyncContextManager[Launcher]:
        return launcher_of("podman", self.settings, self.clock)

    async def begun(self) -> list[Begun]:
        return await asyncio.to_thread(self._begun)

    def _begun(self) -> list[Begun]:
        found = []
        for name in self.engine.told("ps", "--all", "--format", "{{.Names}}").split():
            said = dict(
                line.split("=", 1) for line in self.engine.told("logs", name).splitlines() if line
            )
            if "MAYFLY_TICKET" in said:
                del said["MAYFLY_TICKET_FILE"]
                found.append(Begun(LaunchId(said["MAYFLY_LAUNCH"]), said))
        return sorted(found)

    async def ends(self, launch: LaunchId, exit_code: int) -> None:
        end = f"echo {exit_code} >/tmp/end.new && mv /tmp/end.new /tmp/end"
        await asyncio.to_thread(self.engine.told, "exec", f"mayfly-{launch}", "sh", "-c", end)

    async def unanswered(self, launch: Launch, ticket: Ticket) -> None:
        async with self.opened() as gone:
            await gone.start(launch, ticket)

    @property
    def away(self) -> Callable[[], AbstractAsyncContextManager[None]]:
        return self._away

    @asynccontextmanager
    async def _away(self) -> AsyncIterator[None]:
        self._socket.unlink()
        try:
            yield
        finally:
            self._socket.symlink_to(self.engine.socket)

    def close(self) -> None:
        """No container is left for the next test."""
        self.engine.told("rm", "--all", "--force", "--time", "0")


@asynccontextmanager
async def in_container_apps(_: Path) -> AsyncIterator[ContainerApps]:
    async with arm.running() as server:
        yield ContainerApps(server)


@asynccontextmanager
async def in_kubernetes(folder: Path) -> AsyncIterator[Kubernetes]:
    async with clusters.running() as server:
        yield Kubernetes(server, folder)


@asynccontextmanager
async def behind_a_url(folder: Path) -> AsyncIterator[Url]:
    async with hooks.running() as server:
        yield Url(server, folder)


@asynccontextmanager
async def by_a_program(folder: Path) -> AsyncIterator[Program]:
    yield Program(folder)


@asynccontextmanager
async def in_podman(folder: Path) -> AsyncIterator[Podman]:
    platform = Podman(folder)
    try:
        yield platform
    finally:
        await asyncio.to_thread(platform.close)


STAND_INS: dict[str, Callable[[Path], AbstractAsyncContextManager[Platform]]] = {
    "container_apps": in_container_apps,
    "kubernetes": in_kubernetes,
    "podman": in_podman,
    "webhook program": by_a_program,
    "webhook url": behind_a_url,
}
"""The first word is the entry point."""


def _begun(environment: dict[str, str]) -> Begun:
    told = {name: value for name, value in environment.items() if name.startswith("MAYFLY_")}
    return Begun(LaunchId(told["MAYFLY_LAUNCH"]), told)


def _ordered(order: dict[str, str]) -> Begun:
    """What an executor that is told all of it would be told."""
    words = {
        name: value for name, value in order.items() if name not in {"verb", "state", "detail"}
    }
    names = {"server": "MAYFLY_URL"} | {
        word: f"MAYFLY_{word.upper()}" for word in ("pool", "launch", "ticket")
    }
    return Begun(LaunchId(order["launch"]), {names[word]: value for word, value in words.items()})


def _now() -> datetime:
    return SystemClock().now()


@contextmanager
def _with_variables(variables: dict[str, str]) -> Iterator[None]:
    """What Azure puts into the environment of a machine that has an identity."""
    before = {name: os.environ.pop(name, None) for name in variables}
    os.environ |= variables
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
