"""News: what just happened, for people who watch."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec
import structlog

from mayfly.ports import Clock

KEPT = 200
"""Items a new reader sees of the past."""
BEHIND = 1000
"""Items a slow reader may be behind before it loses the oldest."""

log = structlog.get_logger("mayfly")


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened; `event` is noun.past-verb."""

    at: datetime
    event: str
    fields: dict[str, str | int | None]


class News:
    """The latest items, and readers that get each new one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recent: deque[Item] = deque(maxlen=KEPT)
        self._readers: dict[int, asyncio.Queue[Item]] = {}

    def publish(self, event: str, **fields: str | int | None) -> None:
        """Tell the readers and the log. Never blocks."""
        log.info(event, **fields)
        self.whisper(event, **fields)

    def whisper(self, event: str, **fields: str | int | None) -> None:
        """Tell the readers only: for what comes by the thousand."""
        item = Item(at=self._clock.now(), event=event, fields=fields)
        self._recent.append(item)
        for reader in self._readers.values():
            if reader.full():
                reader.get_nowait()
            reader.put_nowait(item)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Item]]:
        """The recent items, then every new one as it happens."""
        queue: asyncio.Queue[Item] = asyncio.Queue(BEHIND)
        for item in self._recent:
            queue.put_nowait(item)
        self._readers[id(queue)] = queue
        try:
            yield _items(queue)
        finally:
            del self._readers[id(queue)]


async def _items(queue: asyncio.Queue[Item]) -> AsyncIterator[Item]:
    while True:
        yield await queue.get()
