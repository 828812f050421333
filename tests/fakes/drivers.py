"""Drivers that misbehave on request, for tests of the executor."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from mayfly.executor.claims import StartedQuestion
from mayfly.model.errors import MayflyError
from mayfly.model.protocol import Granted, Outcome
from mayfly.ports import Driver, Finished


class ScriptedDriver:
    """Records what is asked of it; `finish` lets a run end, unless `runs_at_once`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.configs: list[str] = []
        self.running = asyncio.Event()
        self.finish = asyncio.Event()
        self.runs_at_once = True
        self.prepares_for_ever = False
        self.prepare_fails: Exception | None = None
        self.cleanup_fails: MayflyError | None = None
        self.finished = Finished(Outcome.DONE, 0, "")
        self.home: Path | None = None
        self.started: StartedQuestion | None = None

    async def prepare(self, claim: Granted) -> None:
        self.calls.append(f"prepare {claim.claim}")
        if self.prepare_fails is not None:
            raise self.prepare_fails
        if self.prepares_for_ever:
            await asyncio.Event().wait()

    async def run(self, name: str, jit_config: str) -> Finished:
        self.calls.append(f"run {name}")
        self.configs.append(jit_config)
        self.running.set()
        if self.runs_at_once:
            return self.finished
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.calls.append("stopped")
            raise
        return self.finished

    async def cleanup(self) -> None:
        self.calls.append("cleanup")
        if self.cleanup_fails is not None and len(self.calls) > 1:
            raise self.cleanup_fails


def opening(
    driver: ScriptedDriver,
) -> Callable[[Path, StartedQuestion], AbstractAsyncContextManager[Driver]]:
    @asynccontextmanager
    async def open_driver(home: Path, started: StartedQuestion) -> AsyncIterator[Driver]:
        driver.home, driver.started = home, started
        yield driver

    return open_driver
