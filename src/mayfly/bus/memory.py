"""The bus in memory: for tests and simulations; gone with the process."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from mayfly.model.errors import Permanent
from mayfly.model.requests import LARGEST_MESSAGE, decoded, encoded
from mayfly.model.requests import Message as Request
from mayfly.ports import Bus, Clock, Lease

LEASE_TIME = timedelta(seconds=30)
"""A lease lasts from `lease` to the answer of a claim, about a second."""
KEPT_FOR = timedelta(days=7)


@asynccontextmanager
async def open_bus(url: str, clock: Clock) -> AsyncIterator[Bus]:
    """An empty bus; `url` is not used."""
    del url
    yield MemoryBus(clock)


class MemoryBus:
    """Messages as bytes, as they would be on a wire."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: defaultdict[str, dict[str, tuple[bytes, datetime]]] = defaultdict(dict)
        self._leased: dict[str, tuple[str, bytes, datetime, datetime]] = {}
        self._rung = asyncio.Condition()

    async def publish(self, messages: Sequence[Request]) -> None:
        bodies = [(message.subject, encoded(message)) for message in messages]
        if any(len(body) > LARGEST_MESSAGE for _, body in bodies):
            raise Permanent(f"a message is larger than {LARGEST_MESSAGE} bytes")
        now = self._clock.now()
        for subject, body in bodies:
            self._waiting[subject][self._clock.new_id()] = (body, now)
        async with self._rung:
            self._rung.notify_all()

    async def lease(self, subject: str, wait: timedelta) -> Lease | None:
        try:
            async with asyncio.timeout(wait.total_seconds()), self._rung:
                while True:
                    if lease := self._take(subject):
                        return lease
                    await self._rung_or_returned()
        except TimeoutError:
            return self._take(subject)

    async def _rung_or_returned(self) -> None:
        """Until somebody rings, or the earliest lease's time is over."""
        ends = [until for *_, until in self._leased.values()]
        left = min(ends) - self._clock.now() if ends else None
        try:
            async with asyncio.timeout(None if left is None else max(0.0, left.total_seconds())):
                await self._rung.wait()
        except TimeoutError:
            return

    async def complete(self, lease_id: str) -> None:
        self._return_overdue()
        self._leased.pop(lease_id, None)

    async def abandon(self, lease_id: str) -> None:
        self._return_overdue()
        self._return(lease_id)
        async with self._rung:
            self._rung.notify_all()

    async def depth(self, subject: str) -> int:
        self._return_overdue()
        return len(self._waiting[subject])

    def _take(self, subject: str) -> Lease | None:
        self._return_overdue()
        waiting = self._waiting[subject]
        if not waiting:
            return None
        message_id = next(iter(waiting))
        body, published = waiting.pop(message_id)
        lease_id = self._clock.new_id()
        self._leased[lease_id] = (subject, body, published, self._clock.now() + LEASE_TIME)
        return Lease(lease_id, decoded(body))

    def _return_overdue(self) -> None:
        now = self._clock.now()
        for lease_id in [key for key, (*_, until) in self._leased.items() if until <= now]:
            self._return(lease_id)
        for waiting in self._waiting.values():
            for message_id in [key for key, (_, at) in waiting.items() if now - at > KEPT_FOR]:
                del waiting[message_id]

    def _return(self, lease_id: str) -> None:
        if held := self._leased.pop(lease_id, None):
            subject, body, published, _ = held
            self._waiting[subject][self._clock.new_id()] = (body, published)
