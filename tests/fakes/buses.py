"""Every bus there is, opened empty for one test, with what only a test may do to it."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, NoReturn
from uuid import uuid4

import pytest
from azure.servicebus.aio.management import ServiceBusAdministrationClient

from mayfly.bus import memory, rabbitmq, remote, servicebus, sql
from mayfly.bus.rabbitmq.leases import RabbitMQBus
from mayfly.engine.clock import SystemClock
from mayfly.model.requests import (
    KEPT_FOR,
    LARGEST_DELIVERIES,
    LEASE_TIME,
    Dead,
    Message,
    Waiting,
)
from mayfly.ports import Lease, OperableBus
from mayfly.web.server import serve
from tests.fakes.backends import on_postgres
from tests.fakes.clocks import ManualClock
from tests.fakes.web import world
from tests.servers import rabbitmq as servers
from tests.servers.servicebus import ServiceBusStandIn, opened_service_bus

SUBJECTS = ("linux", "arm64")

Put = Callable[[str, bytes], Awaitable[None]]
"""Bytes for a subject, past everything that would refuse them."""
Pass = Callable[[float], None]
"""Lets so many seconds go by."""


def _nothing_else(seconds: float) -> None:
    """The bus has no clock but the one it is given."""


class OpenedBus(NamedTuple):
    """A bus and the clock it tells the time by."""

    bus: OperableBus
    clock: ManualClock
    put: Put
    refuses_unknown: bool = False
    """Whether publishing for a subject nobody declared is refused; else it waits for somebody."""
    passes_elsewhere: Pass = _nothing_else
    """For what keeps the messages, when it has a clock of its own."""

    def passes(self, seconds: float) -> None:
        """So much time goes by, for the bus and for whatever keeps its messages."""
        self.clock.advance(seconds)
        self.passes_elsewhere(seconds)


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


def declare_on(stand_in: ServiceBusStandIn) -> None:
    """What `mayfly bus declare` makes on the real thing."""
    topic = stand_in.namespace.make_topic("mayfly", detects_duplicates=True)
    for subject in SUBJECTS:
        made = topic.subscribe(
            subject,
            lock_time=LEASE_TIME,
            most_deliveries=LARGEST_DELIVERIES,
            time_to_live=KEPT_FOR,
        )
        made.rules = {"subject": subject}


@asynccontextmanager
async def on_service_bus(folder: Path) -> AsyncIterator[OpenedBus]:
    """The SDK, over TCP, against a Service Bus of the test's own."""
    del folder
    async with opened_service_bus() as stand_in:
        declare_on(stand_in)
        clock = ManualClock(stand_in.time)
        async with servicebus.open_bus(stand_in.url(), clock, SUBJECTS) as bus:
            assert isinstance(bus, servicebus.ServiceBus)
            yield OpenedBus(bus, clock, _put_into(bus), True, stand_in.advance)


@asynccontextmanager
async def on_azure(folder: Path) -> AsyncIterator[OpenedBus]:
    """A topic of the test's own in a real namespace; the key has to be allowed to manage."""
    del folder
    topic = f"mayfly-test-{uuid4().hex[:12]}"
    namespace = os.environ[AZURE].rstrip(";")
    url = f"{namespace};EntityPath={topic}"
    await servicebus.declare(url, SUBJECTS)
    try:
        clock = ManualClock(SystemClock().now())
        async with servicebus.open_bus(url, clock, SUBJECTS) as bus:
            assert isinstance(bus, servicebus.ServiceBus)
            yield OpenedBus(bus, clock, _put_into(bus), True, _its_time_is_its_own)
    finally:
        async with ServiceBusAdministrationClient.from_connection_string(namespace) as client:
            await client.delete_topic(topic)


def _put_into(bus: servicebus.ServiceBus) -> Put:
    return lambda subject, body: bus.put([(subject, body)])


def _its_time_is_its_own(seconds: float) -> NoReturn:
    pytest.skip("the service's time cannot be advanced")


AZURE = "MAYFLY_TEST_SERVICEBUS"
"""A connection string; where it is set, the suite runs against that namespace, too."""
BUSES: dict[str, OpenForTest] = {
    "memory": in_memory,
    "rabbitmq": in_rabbitmq,
    "remote": over_https,
    "sqlite": in_sqlite,
    "postgres": in_postgres,
    "servicebus": on_service_bus,
    **({"servicebus-azure": on_azure} if AZURE in os.environ else {}),
}
"""By name; tests/contract/test_backends.py sees to it that no entry point is missing."""
