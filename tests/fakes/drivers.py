"""Drivers that misbehave on request, for tests of the executor."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from mayfly.executor.claims import StartedQuestion
from mayfly.model.errors import MayflyError
from mayfly.model.protocol import Entrusted, Finished, Granted, Outcome
from mayfly.ports import Driver


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


class ScriptedTokenDriver:
    """The same, and registers its runners itself."""

    def __init__(self) -> None:
        self.scripted = ScriptedDriver()
        self.configures_for_ever = False
        self.configure_fails: MayflyError | None = None
        self.token_spent = True
        self.tokens: list[str] = []

    async def prepare(self, claim: Granted) -> None:
        await self.scripted.prepare(claim)

    async def configure(self, order: Entrusted) -> str:
        self.scripted.calls.append(f"configure {order.name}")
        self.tokens.append(order.token)
        if self.configure_fails is not None:
            raise self.configure_fails
        if self.configures_for_ever:
            await asyncio.Event().wait()
        return f"settings-of-{order.name}"

    async def run(self, name: str, jit_config: str) -> Finished:
        return await self.scripted.run(name, jit_config)

    async def cleanup(self) -> None:
        await self.scripted.cleanup()


def opening(
    driver: Driver,
) -> Callable[[Path, StartedQuestion], AbstractAsyncContextManager[Driver]]:
    @asynccontextmanager
    async def open_driver(home: Path, started: StartedQuestion) -> AsyncIterator[Driver]:
        if isinstance(driver, ScriptedDriver):
            driver.home, driver.started = home, started
        yield driver

    return open_driver
