"""Watches: a platform that rings when something changes there is listened to while it matters."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from mayfly.model.errors import MayflyError
from mayfly.ports import Launcher, WatchedLauncher

AGAIN_SECONDS = 600.0
"""Before a platform that does not let itself be watched is asked again."""

log = structlog.get_logger("mayfly")


class Watch:
    """Of one pool; it rings. Of a launcher that has no bell nothing is ever heard."""

    def __init__(self, pool: str, launcher: Launcher, ring: Callable[[], None]) -> None:
        self._pool = pool
        self._launcher = launcher if isinstance(launcher, WatchedLauncher) else None
        self._ring = ring
        self._until = self._again_at = 0.0
        self._wanted = asyncio.Event()
        self._limit: asyncio.Timeout | None = None

    def keep(self, until: float) -> None:
        """Listen until that time of the loop, unless told otherwise before; 0: not any more."""
        self._until = until
        if until:
            self._wanted.set()
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(until)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """It may listen while this is open."""
        if self._launcher is None:
            yield
            return
        task = asyncio.create_task(self._listen_when_wanted(self._launcher))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen_when_wanted(self, launcher: WatchedLauncher) -> None:
        while True:
            await self._wanted.wait()
            try:
                async with asyncio.timeout_at(self._until) as self._limit:
                    await self._listen(launcher)
            except TimeoutError:
                pass
            self._limit = None
            if self._until <= asyncio.get_running_loop().time():
                self._wanted.clear()

    async def _listen(self, launcher: WatchedLauncher) -> None:
        time = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._again_at - time())
            try:
                async for _ in launcher.changes(self._pool):
                    self._ring()
            except MayflyError as error:
                log.warning("launcher.unwatched", pool=self._pool, reason=str(error))
            except Exception:  # what no launcher should raise; the list is asked for as before
                log.exception("launcher.stumbled", pool=self._pool)
            self._again_at = time() + AGAIN_SECONDS
