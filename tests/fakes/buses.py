"""Every bus there is, opened empty for one test, with what only a test may do to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from mayfly.bus import memory, rabbitmq, remote, sql
from mayfly.bus.rabbitmq.leases import RabbitMQBus
from mayfly.model.requests import Dead, Message, Waiting
from mayfly.ports import Lease, OperableBus
from mayfly.web.server import serve
from tests.fakes.backends import on_postgres
from tests.fakes.clocks import ManualClock
from tests.fakes.web import world
from tests.servers import rabbitmq as servers

SUBJECTS = ("linux", "arm64")

Put = Callable[[str, bytes], Awaitable[None]]
"""Bytes for a subject, past everything that would refuse them."""


class OpenedBus(NamedTuple):
    """A bus and the clock it tells the time by."""

    bus: OperableBus
    clock: ManualClock
    put: Put
    refuses_unknown: bool = False
    """Whether publishing for a subject nobody declared is refused; else it waits for somebody."""

    def passes(self, seconds: float) -> None:
        """So much time goes by, for the bus and for whatever keeps its messages."""
        self.clock.advance(seconds)


OpenForTest = Callable[[Path], AbstractAsyncContextManager[OpenedBus]]


@asynccontextmanager
async def in_memory(folder: Path) -> AsyncIterator[OpenedBus]:
    """Nothing but this process."""
    clock = ManualClock()
    async with memory.open_bus(f"memory:{folder}", clock, SUBJECTS) as bus:
        assert isinstance(bus, memory.MemoryBus)
        yield OpenedBus(bus, clock, lambda subject, body: bus.put([(subject, body)]))


@asynccontextmanager
async def in_sqlite(folder: Path) -> AsyncIterator[OpenedBus]:
    """A file of the test's own."""
    clock = ManualClock()
    async with sql.open_bus(f"sqlite:///{folder}/mayfly.db", clock, SUBJECTS) as bus:
        assert isinstance(bus, sql.SqlBus)
        yield OpenedBus(bus, clock, lambda subject, body: bus.put([(subject, body)]))


class TwoCallers(NamedTuple):
    """A bus over HTTPS as an executor and an operator see it together: neither may do it all."""

    executor: OperableBus
    operator: OperableBus

    async def publish(self, messages: Sequence[Message]) -> None:
        await self.operator.publish(messages)

    async def lease(self, subject: str, wait: timedelta) -> Lease | None:
        return await self.executor.lease(subject, wait)

    async def complete(self, lease_id: str) -> None:
        await self.executor.complete(lease_id)

    async def abandon(self, lease_id: str) -> None:
        await self.executor.abandon(lease_id)

    async def depth(self, subject: str) -> int:
        return await self.operator.depth(subject)

    async def peek(self, subject: str, limit: int) -> list[Waiting]:
        return await self.operator.peek(subject, limit)

    async def drain(self, subject: str) -> int:
        return await self.operator.drain(subject)

    async def dead(self, subject: str, limit: int) -> list[Dead]:
        return await self.operator.dead(subject, limit)

    async def requeue(self, subject: str) -> int:
        return await self.operator.requeue(subject)


@asynccontextmanager
async def over_https(folder: Path) -> AsyncIterator[OpenedBus]:
    """A control plane on loopback with its messages in memory, asked by two callers."""
    del folder
    async with world() as here, serve(here.app, "127.0.0.1", 0) as url:
        clock, behind = here.clock, here.plane.bus
        assert isinstance(behind, memory.MemoryBus)
        async with (
            remote.open_bus(remote.with_token(url, here.tokens["both"]), clock, SUBJECTS) as ours,
            remote.open_bus(remote.with_token(url, here.tokens["operator"]), clock, ()) as theirs,
        ):
            yield OpenedBus(
                TwoCallers(ours, theirs),
                clock,
                lambda subject, body: behind.put([(subject, body)]),
                refuses_unknown=True,
            )


@asynccontextmanager
async def in_postgres(folder: Path) -> AsyncIterator[OpenedBus]:
    """A database of the test's own."""
    clock = ManualClock()
    async with (
        on_postgres(folder) as url,
        sql.open_bus(url, clock, SUBJECTS) as bus,
    ):
        assert isinstance(bus, sql.SqlBus)
        yield OpenedBus(bus, clock, lambda subject, body: bus.put([(subject, body)]))


@asynccontextmanager
async def in_rabbitmq(folder: Path) -> AsyncIterator[OpenedBus]:
    """A server shared by all tests of this process, with queues that are made anew."""
    del folder
    clock = ManualClock()
    server = await asyncio.to_thread(servers.shared)
    await server.clear(*SUBJECTS)
    async with rabbitmq.open_bus(server.url(), clock, SUBJECTS) as bus:
        assert isinstance(bus, RabbitMQBus)
        yield OpenedBus(
            bus, clock, lambda subject, body: bus.put([(subject, body)]), refuses_unknown=True
        )


BUSES: dict[str, OpenForTest] = {
    "memory": in_memory,
    "rabbitmq": in_rabbitmq,
    "remote": over_https,
    "sqlite": in_sqlite,
    "postgres": in_postgres,
}
"""By name; tests/contract/test_backends.py sees to it that no entry point is missing."""
