"""Works: what is being asked of GitHub to repair something, each once at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager

import structlog

from mayfly.model.errors import MayflyError

AT_ONCE = 4
"""Works of one lane at the same time; minting comes first and needs room at GitHub."""

SILENCES = 3
"""In a row, before the other works of an installation are put off to the next turn."""

log = structlog.get_logger("mayfly")

Lane = Hashable
"""What has its works apart from the others': an installation, a duty, the ledger."""


class Works:
    """The trouble of one work stays there, and that of an installation in its lane."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[None]] = {}
        self._lanes: dict[Lane, asyncio.Semaphore] = {}
        self._silences: dict[Lane, int] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Nothing is under way any more when this is closed."""
        try:
            yield
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, key: Hashable, lane: Lane, work: Callable[[], Awaitable[None]]) -> None:
        """Do it in the background, unless it is under way already."""
        if key not in self._under_way:
            self._under_way[key] = asyncio.create_task(self._run(key, lane, work))

    async def settled(self) -> None:
        """Until nothing is under way."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    def new_turn(self) -> None:
        """Every installation may answer again; one that did not is asked once."""
        self._silences = {lane: SILENCES - 1 for lane in self._silences if self.is_down(lane)}

    def heard(self, lane: Lane, *, answer: bool) -> None:
        """Whether GitHub answered there just now."""
        self._silences[lane] = 0 if answer else self._silences.get(lane, 0) + 1

    def was_down(self, lane: Lane) -> bool:
        """Whether one more silence is enough."""
        return self._silences.get(lane, 0) >= SILENCES - 1

    def is_down(self, lane: Lane) -> bool:
        """So often silent in this turn that what still waits need not find out one by one."""
        return self._silences.get(lane, 0) >= SILENCES

    async def _run(self, key: Hashable, lane: Lane, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with self._lanes.setdefault(lane, asyncio.Semaphore(AT_ONCE)):
                await work()
        except MayflyError as error:
            log.warning("repair.failed", repair=str(key), reason=str(error))
        except Exception:  # top of a work: the next turn tries again
            log.exception("repair.stumbled", repair=str(key))
        finally:
            del self._under_way[key]
