"""Every bus there is, opened empty for one test, with what only a test may do to it."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit
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
    Lease,
    Message,
    Waiting,
)
from mayfly.ports import OperableBus
from mayfly.web.server import serve
from tests.fakes.backends import lent_postgres
from tests.fakes.clocks import ManualClock
from tests.fakes.web import world
from tests.servers import postgres
from tests.servers import rabbitmq as servers
from tests.servers.lines import opened_line
from tests.servers.servicebus import ServiceBusStandIn, opened_service_bus

SUBJECTS = ("linux", "arm64")

Put = Callable[[str, bytes], Awaitable[None]]
"""Bytes for a subject, past everything that would refuse them."""
Pass = Callable[[float], None]
"""Lets so many seconds go by."""


def _nothing_else(seconds: float) -> None:
    """The bus has no clock but the one it is given."""


class NotApplicable(NamedTuple):
    """What this bus cannot be put through, and why there is no such thing."""

    reason: str


class Wire(NamedTuple):
    """What lies between the bus and whatever keeps its messages, to be cut and mended."""

    cut: Callable[[], Awaitable[None]]
    mend: Callable[[], Awaitable[None]]


Restart = Callable[[], Awaitable[OperableBus]]
"""Ends whatever keeps the messages, and begins it again; the bus as it is afterwards."""


class OpenedBus(NamedTuple):
    """A bus, the clock it tells the time by, and what it can be put through."""

    bus: OperableBus
    clock: ManualClock
    put: Put
    consumer: tuple[str, str] | NotApplicable
    """The entry point and the address by which another process leases from it."""
    restart: Restart | NotApplicable
    wire: Wire | NotApplicable
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
        yield OpenedBus(
            bus,
            clock,
            lambda subject, body: bus.put([(subject, body)]),
            consumer=NotApplicable("no other process can lease from this one's memory"),
            restart=NotApplicable("its messages end with the process, and are rung for again"),
            wire=NotApplicable("nothing lies between it and who uses it"),
        )


@asynccontextmanager
async def in_sqlite(folder: Path) -> AsyncIterator[OpenedBus]:
    """A file of the test's own."""
    clock, url = ManualClock(), f"sqlite:///{folder}/mayfly.db"
    async with AsyncExitStack() as stack:

        async def opened() -> OperableBus:
            return await stack.enter_async_context(sql.open_bus(url, clock, SUBJECTS))

        async def restart() -> OperableBus:
            await stack.aclose()
            return await opened()

        bus = await opened()
        assert isinstance(bus, sql.SqlBus)
        yield OpenedBus(
            bus,
            clock,
            lambda subject, body: bus.put([(subject, body)]),
            consumer=("sql", url),
            restart=restart,
            wire=NotApplicable("a file has no connection that could be lost"),
        )


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
    """A control plane on loopback, asked by two callers; the bus behind it, which is in memory,
    is not what is tested."""
    del folder
    async with world() as here, AsyncExitStack() as served, opened_line() as line:

        async def begin() -> None:
            url = await served.enter_async_context(serve(here.app, "127.0.0.1", 0))
            line.server_port = int(url.rpartition(":")[2])

        async def restart() -> OperableBus:
            await served.aclose()
            await begin()
            return bus

        await begin()
        clock, behind, url = here.clock, here.plane.bus, f"http://127.0.0.1:{line.port}"
        assert isinstance(behind, memory.MemoryBus)
        executor = remote.with_token(url, here.tokens["both"])
        operator = remote.with_token(url, here.tokens["operator"])
        async with (
            remote.open_bus(executor, clock, SUBJECTS) as ours,
            remote.open_bus(operator, clock, ()) as theirs,
        ):
            bus = TwoCallers(ours, theirs)
            yield OpenedBus(
                bus,
                clock,
                lambda subject, body: behind.put([(subject, body)]),
                consumer=("remote", executor),
                restart=restart,
                wire=Wire(line.cut, line.mend),
                refuses_unknown=True,
            )


@asynccontextmanager
async def in_postgres(folder: Path) -> AsyncIterator[OpenedBus]:
    """A database nobody else uses meanwhile."""
    clock = ManualClock()
    async with (
        lent_postgres(folder) as direct,
        opened_line(port_of(direct)) as line,
        sql.open_bus(
            direct.replace(f":{line.server_port}/", f":{line.port}/"), clock, SUBJECTS
        ) as bus,
    ):
        assert isinstance(bus, sql.SqlBus)

        async def restart() -> OperableBus:
            server = postgres.shared()
            server.stop()
            server.start()  # it ends with the thread that began it, and so with no other than this
            return bus

        yield OpenedBus(
            bus,
            clock,
            lambda subject, body: bus.put([(subject, body)]),
            consumer=("sql", direct),
            restart=restart,
            wire=Wire(line.cut, line.mend),
        )


def port_of(url: str) -> int:
    """Of a server on this machine."""
    port = urlsplit(url).port
    assert port is not None
    return port


@asynccontextmanager
async def in_rabbitmq(folder: Path) -> AsyncIterator[OpenedBus]:
    """A server shared by all tests of this process, with queues that are made anew."""
    del folder
    server = await asyncio.to_thread(servers.shared)
    await server.clear(*SUBJECTS)
    shared = NotApplicable("this server goes on for other tests; RESTARTED has one to be killed")
    async with _in_rabbitmq(server, "", shared) as opened:
        yield opened


@asynccontextmanager
async def in_mortal_rabbitmq(folder: Path) -> AsyncIterator[OpenedBus]:
    """A server that is killed, and a virtual host of the test's own in it."""
    del folder
    server = await asyncio.to_thread(servers.mortal)

    async def restart() -> OperableBus:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        return opened.bus

    async with _in_rabbitmq(server, servers.KILLED, restart) as opened:
        yield opened


@asynccontextmanager
async def _in_rabbitmq(
    server: servers.RabbitMQServer, host: str, restart: Restart | NotApplicable
) -> AsyncIterator[OpenedBus]:
    clock = ManualClock()
    async with (
        opened_line(server.port) as line,
        rabbitmq.open_bus(server.url(host=host, port=line.port), clock, SUBJECTS) as bus,
    ):
        assert isinstance(bus, RabbitMQBus)
        yield OpenedBus(
            bus,
            clock,
            lambda subject, body: bus.put([(subject, body)]),
            consumer=("rabbitmq", server.url(host=host)),
            restart=restart,
            wire=Wire(line.cut, line.mend),
            refuses_unknown=True,
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

            async def restart() -> OperableBus:
                await stand_in.stop()
                await stand_in.start()
                return bus

            yield OpenedBus(
                bus,
                clock,
                _put_into(bus),
                consumer=("servicebus", stand_in.url()),
                restart=restart,
                wire=Wire(stand_in.stop, stand_in.start),
                refuses_unknown=True,
                passes_elsewhere=stand_in.advance,
            )


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
            yield OpenedBus(
                bus,
                clock,
                _put_into(bus),
                consumer=("servicebus", url),
                restart=NotApplicable("nobody restarts Azure"),
                wire=NotApplicable("the line to Azure is encrypted to its end"),
                refuses_unknown=True,
                passes_elsewhere=_its_time_is_its_own,
            )
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
RESTARTED: dict[str, OpenForTest] = {**BUSES, "rabbitmq": in_mortal_rabbitmq}
"""The same, to be ended and begun again."""
