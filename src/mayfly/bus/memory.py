"""The bus in memory: for tests and simulations; gone with the process."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

from mayfly.model.errors import Permanent
from mayfly.model.requests import (
    KEPT_FOR,
    LARGEST_DELIVERIES,
    LEASE_TIME,
    Dead,
    Lease,
    Message,
    Waiting,
    decoded,
    legible,
    overdelivered,
    sized,
)
from mayfly.ports import Clock, OperableBus


@asynccontextmanager
async def open_bus(
    url: str, clock: Clock, subjects: Sequence[str], *, declares: bool = True
) -> AsyncIterator[OperableBus]:
    """An empty bus; it needs no address, and takes every subject."""
    del url, subjects, declares
    yield MemoryBus(clock)


async def declare(url: str, subjects: Sequence[str]) -> list[str]:
    """Nothing has to be made."""
    del url, subjects
    return ["the bus is in the control plane's memory; there is nothing to declare"]


class _Kept(NamedTuple):
    body: bytes
    published_at: datetime
    deliveries: int = 0


class MemoryBus:
    """Messages as bytes, as they would be on a wire."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: defaultdict[str, dict[str, _Kept]] = defaultdict(dict)
        self._leased: dict[str, tuple[str, _Kept, datetime]] = {}
        self._dead: defaultdict[str, list[tuple[_Kept, str]]] = defaultdict(list)
        self._rung = asyncio.Condition()

    async def publish(self, messages: Sequence[Message]) -> None:
        await self.put(sized(messages))

    async def put(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        """Bodies as they come, ours or not, each for a subject."""
        now = self._clock.now()
        for subject, body in bodies:
            self._waiting[subject][self._clock.new_id()] = _Kept(body, now)
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

    async def peek(self, subject: str, limit: int) -> list[Waiting]:
        self._return_overdue()
        found = list(self._waiting[subject].values())
        return [Waiting(legible(kept.body), kept.published_at) for kept in found[:limit]]

    async def drain(self, subject: str) -> int:
        self._return_overdue()
        return len(self._waiting.pop(subject, {}))

    async def dead(self, subject: str, limit: int) -> list[Dead]:
        self._return_overdue()
        found = self._dead[subject][:limit]
        return [Dead(legible(kept.body), reason, kept.published_at) for kept, reason in found]

    async def requeue(self, subject: str) -> int:
        self._return_overdue()
        dead = self._dead.pop(subject, [])
        for kept, _ in dead:
            self._waiting[subject][self._clock.new_id()] = kept._replace(deliveries=0)
        async with self._rung:
            self._rung.notify_all()
        return len(dead)

    def _take(self, subject: str) -> Lease | None:
        self._return_overdue()
        waiting = self._waiting[subject]
        while waiting:
            kept = waiting.pop(next(iter(waiting)))
            try:
                message = decoded(kept.body)
            except Permanent as error:
                self._dead[subject].append((kept, str(error)))
                continue
            lease_id = self._clock.new_id()
            held = kept._replace(deliveries=kept.deliveries + 1)
            self._leased[lease_id] = (subject, held, self._clock.now() + LEASE_TIME)
            return Lease(lease_id, message)
        return None

    def _return_overdue(self) -> None:
        now = self._clock.now()
        for lease_id in [key for key, (*_, until) in self._leased.items() if until <= now]:
            self._return(lease_id)
        oldest = now - KEPT_FOR
        for waiting in self._waiting.values():
            for message_id in [key for key, kept in waiting.items() if kept.published_at < oldest]:
                del waiting[message_id]
        for subject, dead in self._dead.items():
            self._dead[subject] = [one for one in dead if one[0].published_at >= oldest]

    def _return(self, lease_id: str) -> None:
        if held := self._leased.pop(lease_id, None):
            subject, kept, _ = held
            if kept.deliveries >= LARGEST_DELIVERIES:
                self._dead[subject].append((kept, overdelivered(kept.deliveries)))
            else:
                self._waiting[subject][self._clock.new_id()] = kept
