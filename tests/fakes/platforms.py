"""Every platform executors start on, so that a new launcher meets the same suite."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from mayfly.backends import OpenLauncher
from mayfly.launchers import process
from mayfly.model.launches import Launch, LaunchId, Ticket
from mayfly.ports import Launcher
from tests.fakes.clocks import ManualClock

SERVER = "https://mayfly.example.org"
POOLS = ("linux", "gpu")


class Begun(NamedTuple):
    """An executor that really started."""

    launch: LaunchId
    environment: dict[str, str]


class Platform(Protocol):
    """A platform a test may look at from the other side."""

    def opened(self) -> AbstractAsyncContextManager[Launcher]:
        """A launcher of it, as a control plane opens one; several at once are replicas."""

    async def begun(self) -> list[Begun]:
        """Every executor that has ever started here, repetitions of a launch included."""

    async def ends(self, launch: LaunchId, exit_code: int) -> None:
        """Its executor ends by itself."""

    async def unanswered(self, launch: Launch, ticket: Ticket) -> None:
        """It is asked to start; it does, and nobody hears that."""

    @property
    def away(self) -> Callable[[], AbstractAsyncContextManager[None]]:
        """Nothing answers meanwhile."""


_EXECUTOR = """
import os, signal, sys, pathlib
place = pathlib.Path(os.environ["TRACES"]) / str(os.getpid())
order = pathlib.Path(os.environ["TRACES"]) / ("end-" + os.environ["MAYFLY_LAUNCH"])
os.path.exists(order) or os.mkfifo(order)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
told = {name: value for name, value in os.environ.items() if name.startswith("MAYFLY_")}
place.with_suffix(".new").write_text("\\n".join(f"{n}={v}" for n, v in told.items()))
place.with_suffix(".new").rename(place)
with open(order) as pipe:
    sys.exit(int(pipe.read()))
"""


class Processes:
    """This machine; an executor is a script that waits to be told how to end."""

    def __init__(self, folder: Path) -> None:
        self._traces = folder / "traces"
        self._traces.mkdir()
        self._state = folder / "state"
        self._settings = process.Settings(
            config=folder / "none",
            state_dir=self._state,
            command=(sys.executable, "-c", _EXECUTOR),
            environment={"TRACES": str(self._traces)},
            grace_seconds=0.1,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Launcher]:
        (point,) = entry_points(group="mayfly.launchers", name="process")
        open_launcher = cast("OpenLauncher", point.load().open_launcher)
        clock = ManualClock()
        async with open_launcher(
            self._settings, server=SERVER, pools=POOLS, clock=clock
        ) as launcher:
            yield launcher

    async def begun(self) -> list[Begun]:
        found = []
        for place in sorted(self._traces.glob("*[0-9]")):
            if place.name.isdecimal():
                told = dict(line.split("=", 1) for line in place.read_text().splitlines())
                found.append(Begun(LaunchId(told["MAYFLY_LAUNCH"]), told))
        return found

    async def ends(self, launch: LaunchId, exit_code: int) -> None:
        await asyncio.to_thread((self._traces / f"end-{launch}").write_text, str(exit_code))

    async def unanswered(self, launch: Launch, ticket: Ticket) -> None:
        async with self.opened() as gone:
            await gone.start(launch, ticket)

    @property
    def away(self) -> Callable[[], AbstractAsyncContextManager[None]]:
        return self._away

    @asynccontextmanager
    async def _away(self) -> AsyncIterator[None]:
        """Where the directories were is a file."""
        kept = self._state.with_suffix(".kept")
        self._state.mkdir(exist_ok=True)
        self._state.rename(kept)
        self._state.touch()
        try:
            yield
        finally:
            self._state.unlink()
            kept.rename(self._state)

    async def close(self) -> None:
        """Nothing runs any more."""
        for place in self._traces.glob("*[0-9]"):
            if place.name.isdecimal():
                with suppress(ProcessLookupError):
                    os.kill(int(place.name), signal.SIGKILL)


@asynccontextmanager
async def _processes(folder: Path) -> AsyncIterator[Platform]:
    platform = Processes(folder)
    try:
        yield platform
    finally:
        await platform.close()


PLATFORMS: dict[str, Callable[[Path], AbstractAsyncContextManager[Platform]]] = {
    "process": _processes,
}
"""One for each entry point `mayfly.launchers`: an empty platform, for one test."""
