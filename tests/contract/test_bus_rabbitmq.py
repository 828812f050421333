"""The bus in RabbitMQ, against a real server that is killed, restarted and misconfigured."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity
from structlog.testing import capture_logs

from mayfly.bus.rabbitmq import declare, open_bus, remove
from mayfly.bus.rabbitmq.names import Names
from mayfly.cli.checkup import examine_bus
from mayfly.engine.clock import SystemClock
from mayfly.model.errors import InvalidSettings, Permanent, Transient
from mayfly.model.findings import Verdict
from mayfly.model.requests import LARGEST_DELIVERIES, RunnerRequest
from mayfly.ports import OperableBus
from tests.fakes.buses import SUBJECTS
from tests.fakes.clocks import ManualClock
from tests.servers import rabbitmq as servers
from tests.servers.lines import opened_line
from tests.servers.rabbitmq import (
    CLOSED,
    DAEMON,
    EVERYTHING,
    NOBODY,
    READER,
    WRITER,
    RabbitMQServer,
    shared,
)

T = TypeVar("T")
NOT_WAITING = timedelta(0)
SOON = timedelta(seconds=2)
LONG = timedelta(minutes=1)
LINUX = RunnerRequest(pool="linux")
SEVEN_DAYS = 7 * 24 * 3600 * 1000


@pytest.fixture
async def server() -> RabbitMQServer:
    """Empty, and shared with other tests: it is left running."""
    server = await asyncio.to_thread(shared)
    await server.clear(*SUBJECTS)
    return server


def opened(
    server: RabbitMQServer, clock: ManualClock | None = None, host: str = ""
) -> AbstractAsyncContextManager[OperableBus]:
    return open_bus(server.url(host=host), clock or ManualClock(), SUBJECTS)


@asynccontextmanager
async def channel_of(server: RabbitMQServer) -> AsyncIterator[AbstractChannel]:
    """What any other program would have."""
    connection = await aio_pika.connect(server.url())
    async with connection, connection.channel() as channel:
        yield channel


async def in_the_end(verb: Callable[[], Awaitable[T]]) -> T:
    """What it answers once the server is ready: queues are later than connections."""
    async with asyncio.timeout(40):
        while True:
            try:
                return await verb()
            except Transient:
                await asyncio.sleep(0.05)


async def in_a_moment(verb: Callable[[], Awaitable[T | None]]) -> T:
    """What it answers once it answers anything: what is handed back is there a moment later."""
    async with asyncio.timeout(10):
        while (answer := await verb()) is None:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.01)
    return answer


async def test_parked_leases_and_publishers_outlive_a_restart():
    mortal = await asyncio.to_thread(servers.mortal)
    with capture_logs() as logs:
        async with opened(mortal, host=servers.RESTARTED) as bus, asyncio.timeout(60):
            await bus.publish([LINUX])
            held = await bus.lease("linux", NOT_WAITING)
            assert held is not None
            parked = [asyncio.create_task(bus.lease("linux", LONG)) for _ in range(20)]
            await asyncio.to_thread(mortal.stop)
            for verb in (bus.publish([LINUX]), bus.depth("linux"), bus.lease("linux", LONG)):
                async with asyncio.timeout(30):
                    with pytest.raises(Transient, match="RabbitMQ at"):
                        await verb
            await bus.complete(held.id)
            assert not any(task.done() for task in parked)
            await asyncio.to_thread(mortal.start)
            await in_the_end(lambda: bus.publish([LINUX] * 19))
            leases = await asyncio.gather(*parked)
            assert len({lease.id for lease in leases if lease}) == 20
            await bus.complete(held.id)
            await bus.abandon(held.id)
            assert await bus.lease("linux", NOT_WAITING) is None, "the twenty are held"
    events = [entry["event"] for entry in logs]
    assert events[:2] == ["bus.lost", "bus.restored"]
    assert set(events) == {"bus.lost", "bus.restored"}


async def test_a_hundred_parked_leases_get_a_hundred_messages_at_once(server: RabbitMQServer):
    async with opened(server) as bus, asyncio.timeout(30):
        parked = [asyncio.create_task(bus.lease("linux", LONG)) for _ in range(100)]
        await bus.publish([LINUX] * 100)
        leases = await asyncio.gather(*parked)
        assert len({lease.id for lease in leases if lease}) == 100


async def test_leases_cancelled_while_messages_arrive_lose_none(server: RabbitMQServer):
    async with opened(server) as bus, asyncio.timeout(60):
        kept = 0
        for round_ in range(10):
            parked = [asyncio.create_task(bus.lease("linux", LONG)) for _ in range(5)]
            await asyncio.sleep(0.002 * round_)
            publishing = asyncio.create_task(bus.publish([LINUX] * 5))
            await asyncio.sleep(0.001 * round_)
            for task in parked[:3]:
                task.cancel()
            await publishing
            for lease in await asyncio.gather(*parked, return_exceptions=True):
                if not isinstance(lease, BaseException):
                    assert lease is not None
                    await bus.complete(lease.id)
                    kept += 1
        while kept < 50:
            if lease := await bus.lease("linux", SOON):
                await bus.complete(lease.id)
                kept += 1
            else:  # one of them was handed ten times to a lease that was cancelled
                await bus.requeue("linux")
        assert await bus.lease("linux", SOON) is None


async def test_an_overdue_lease_ends_though_nobody_asks(server: RabbitMQServer):
    clock = ManualClock()
    async with opened(server, clock) as bus, opened(server) as other, asyncio.timeout(10):
        await bus.publish([LINUX])
        assert await bus.lease("linux", NOT_WAITING) is not None
        parked = asyncio.create_task(other.lease("linux", LONG))
        clock.advance(30)
        assert await parked is not None


async def test_two_control_planes_share_what_there_is(server: RabbitMQServer):
    async with opened(server) as one, opened(server) as two, asyncio.timeout(10):
        parked = [asyncio.create_task(bus.lease("linux", LONG)) for bus in (one, two)]
        await one.publish([LINUX] * 2)
        assert None not in await asyncio.gather(*parked)
        assert await one.depth("linux") == 0


async def test_a_request_for_a_deleted_queue_is_no_silent_drop(server: RabbitMQServer):
    async with opened(server) as bus:
        parked = asyncio.create_task(bus.lease("linux", LONG))
        async with channel_of(server) as channel:
            await channel.queue_delete("mayfly.linux")
        for verb in (bus.publish([LINUX]), bus.depth("linux"), bus.lease("linux", NOT_WAITING)):
            with pytest.raises(Permanent, match="mayfly bus declare"):
                await verb
        async with asyncio.timeout(30):
            with pytest.raises(Permanent, match="mayfly bus declare"):
                await parked
        await bus.publish([RunnerRequest(pool="arm64")])
        assert await bus.lease("arm64", NOT_WAITING) is not None, "other pools go on"


async def test_looking_at_a_message_again_and_again_keeps_it(server: RabbitMQServer):
    async with opened(server) as bus:
        await bus.publish([LINUX])
        for _ in range(2 * LARGEST_DELIVERIES):
            assert len(await bus.peek("linux", 10)) == 1
        async with channel_of(server) as channel:
            await channel.default_exchange.publish(aio_pika.Message(b"?"), "mayfly-dead.linux")
        for _ in range(3 * LARGEST_DELIVERIES):
            (dead,) = await bus.dead("linux", 10)
        assert dead.text == "?"
        assert await bus.depth("linux") == 1


async def test_the_queues_are_as_documented(server: RabbitMQServer):
    """Declaring them again by hand is refused when a single argument differs."""
    await declare(server.url(), SUBJECTS)
    kept: dict[str, Any] = {"x-queue-type": "quorum", "x-message-ttl": SEVEN_DAYS}
    waiting: dict[str, Any] = {
        "x-delivery-limit": 9,
        "x-dead-letter-exchange": "mayfly-dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    async with channel_of(server) as channel:
        await channel.declare_queue("mayfly-dead.linux", durable=True, arguments=kept)
        await channel.declare_queue("mayfly.linux", durable=True, arguments={**kept, **waiting})
        for exchange in ("mayfly", "mayfly-dead"):
            await channel.declare_exchange(exchange, "topic", durable=True)


async def test_a_message_is_on_the_wire_as_documented(server: RabbitMQServer):
    clock = ManualClock()
    async with opened(server, clock) as bus, channel_of(server) as channel:
        await bus.publish([LINUX])
        queue = await channel.get_queue("mayfly.linux")
        message = await queue.get(no_ack=True)
        assert message.body == b'{"type":"runner_request","pool":"linux","version":1}'
        assert message.content_type == "application/json"
        assert message.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
        assert message.type == "runner_request"
        assert message.headers["mayfly-version"] == 1
        assert message.timestamp == clock.now()
        assert message.message_id
        assert message.routing_key == "linux"


async def test_several_share_a_virtual_host_by_prefixes(server: RabbitMQServer):
    """Each has its messages, dead ones too; what one removes is its own."""
    before = server.names()
    own = f"{server.url()}?prefix=staging&heartbeat=15"
    async with opened(server) as bus, open_bus(own, ManualClock(), SUBJECTS) as other:
        await other.publish([LINUX])
        async with channel_of(server) as channel:
            await channel.default_exchange.publish(aio_pika.Message(b"?"), "staging.linux")
        assert await other.depth("linux") == 2
        assert await bus.depth("linux") == 0
        lease = await other.lease("linux", SOON)
        assert lease is not None
        await other.complete(lease.id)
        assert await other.lease("linux", NOT_WAITING) is None
        assert [dead.text for dead in await other.dead("linux", 10)] == ["?"]
        assert await bus.dead("linux", 10) == []
        assert await other.requeue("linux") == 1
    made = {name for name in server.names() - before if "staging" in name}
    assert made >= {"staging", "staging-dead", "staging.linux", "staging-dead.linux"}
    await remove(own, SUBJECTS)
    await remove(own, SUBJECTS)
    left = server.names()
    assert not made & left
    assert left >= {"mayfly", "mayfly-dead", "mayfly.linux", "mayfly-dead.linux"}


@pytest.mark.parametrize("prefix", ["", "a.b", "a*", "mayfly-dead", "x" * 65])
async def test_a_prefix_that_could_be_another_s_is_refused(prefix: str):
    with pytest.raises(InvalidSettings, match="prefix="):
        await declare(f"amqp://user:word@127.0.0.1:1/?prefix={prefix}", SUBJECTS)


async def test_a_long_prefix_leaves_less_for_the_pool_s_name():
    url = f"amqp://user:word@127.0.0.1:1/?prefix={'x' * 64}"
    with pytest.raises(InvalidSettings, match="185 bytes"):
        await declare(url, ["p" * 186])
    with pytest.raises(Transient, match="cannot be reached"):
        await declare(url, ["p" * 185])


async def test_declaring_twice_is_declaring_once(server: RabbitMQServer):
    lines = await declare(server.url(), ["linux"])
    assert await declare(server.url(), ["linux"]) == lines
    assert [line.split(",")[0] for line in lines] == [
        "queue mayfly-dead.linux",
        "queue mayfly.linux",
    ]


async def test_a_queue_made_otherwise_is_named_with_what_to_do(server: RabbitMQServer):
    async with channel_of(server) as channel:
        await channel.declare_queue("mayfly.linux", durable=True)
    with pytest.raises(InvalidSettings, match=r"mayfly\.linux.*delete_queue"):
        async with opened(server):
            pass
    with pytest.raises(InvalidSettings, match=r"mayfly\.linux.*delete_queue"):
        await declare(server.url(), SUBJECTS)


async def test_a_user_that_may_not_configure_uses_what_was_declared(server: RabbitMQServer):
    url = server.url(DAEMON)
    with pytest.raises(InvalidSettings, match="mayfly bus declare"):
        async with open_bus(url, ManualClock(), SUBJECTS):
            pass
    with pytest.raises(InvalidSettings, match="permission"):
        await declare(url, SUBJECTS)
    await declare(server.url(), SUBJECTS)
    async with open_bus(url, ManualClock(), SUBJECTS) as bus:
        async with channel_of(server) as channel:
            await channel.default_exchange.publish(aio_pika.Message(b"?"), "mayfly.linux")
        await bus.publish([LINUX, LINUX])
        lease = await bus.lease("linux", SOON)
        assert lease is not None
        await bus.complete(lease.id)
        assert len(await bus.peek("linux", 10)) == 1
        assert await bus.requeue("linux") == 1
        assert await bus.drain("linux") == 2


WRITE, WRITE_DEAD = (f"write on exchange {name!r}" for name in ("mayfly", "mayfly-dead"))
READ, READ_DEAD = (f"read on queue '{name}.linux'" for name in ("mayfly", "mayfly-dead"))
READ_ARM = "read on queue 'mayfly.arm64', read on queue 'mayfly-dead.arm64'"


@pytest.mark.parametrize(
    ("user", "rights"),
    [
        (READER, f"{WRITE}, {WRITE_DEAD}"),
        (
            WRITER,
            f"{WRITE_DEAD}, {READ_DEAD}, {READ_ARM}",
        ),
        (
            NOBODY,
            f"{WRITE}, {WRITE_DEAD}, {READ}, {READ_DEAD}, {READ_ARM}",
        ),
    ],
)
async def test_rights_that_are_missing_are_named_at_the_start(
    server: RabbitMQServer, user: str, rights: str
):
    await declare(server.url(), SUBJECTS)
    with pytest.raises(InvalidSettings) as told:
        async with open_bus(server.url(user), ManualClock(), SUBJECTS):
            pass
    who = f"user {user.partition(':')[0]!r} in virtual host '/' of RabbitMQ at "
    assert str(told.value).startswith(who)
    assert f" lacks rights: {rights}; grant them" in str(told.value)


async def test_asking_for_rights_moves_no_message(server: RabbitMQServer):
    await declare(server.url(), SUBJECTS)
    async with channel_of(server) as channel:
        stranger = await channel.declare_queue("", exclusive=True)
        for exchange in ("mayfly", "mayfly-dead"):
            await stranger.bind(exchange, "#")
        await channel.default_exchange.publish(aio_pika.Message(b"?"), "mayfly.linux")
        for _ in range(2):
            async with open_bus(server.url(DAEMON), ManualClock(), SUBJECTS):
                pass
        assert await stranger.get(fail=False) is None, "nobody hears of it"
        message = await (await channel.get_queue("mayfly.linux")).get(no_ack=True)
        assert not message.redelivered


async def test_a_look_at_the_installation_makes_nothing(server: RabbitMQServer):
    look = open_bus(server.url(), ManualClock(), SUBJECTS, declares=False)
    (found,) = await examine_bus(look, SUBJECTS)
    assert found.verdict is Verdict.WRONG
    assert "'mayfly'" in found.found
    assert found.remedy == "start the control plane or run `mayfly bus declare`"
    async with channel_of(server) as channel:
        with pytest.raises(ChannelNotFoundEntity):
            await channel.declare_exchange("mayfly", passive=True)
    await declare(server.url(), ["linux"])
    look = open_bus(server.url(), ManualClock(), SUBJECTS, declares=False)
    (found,) = await examine_bus(look, SUBJECTS)
    assert "'mayfly.arm64'" in found.found
    await declare(server.url(), SUBJECTS)
    for user in (EVERYTHING, DAEMON):
        look = open_bus(server.url(user), ManualClock(), SUBJECTS, declares=False)
        assert {one.verdict for one in await examine_bus(look, SUBJECTS)} == {Verdict.GOOD}


async def test_a_look_at_the_installation_finds_a_queue_made_otherwise(server: RabbitMQServer):
    await declare(server.url(), SUBJECTS)
    async with channel_of(server) as channel:
        await channel.queue_delete("mayfly.arm64")
        await channel.declare_queue("mayfly.arm64", durable=True)
    look = open_bus(server.url(), ManualClock(), SUBJECTS, declares=False)
    (found,) = await examine_bus(look, SUBJECTS)
    assert "mayfly.arm64" in found.found
    assert found.remedy is not None
    assert "delete_queue" in found.remedy


async def test_a_look_at_the_dead_removes_none(server: RabbitMQServer):
    clock = ManualClock()
    async with opened(server, clock) as bus, channel_of(server) as channel:
        old = aio_pika.Message(b"old", timestamp=clock.now() - timedelta(days=8))
        for message in (old, aio_pika.Message(b"new"), aio_pika.Message(b"newer")):
            await channel.default_exchange.publish(message, "mayfly-dead.linux")
        assert [dead.text for dead in await bus.dead("linux", 1)] == ["new"]
        assert len(await bus.dead("linux", 10)) == 2
        queue = await channel.get_queue("mayfly-dead.linux")
        there = [await in_a_moment(lambda: queue.get(fail=False)) for _ in range(3)]
        assert sorted(message.body for message in there) == [b"new", b"newer", b"old"]


async def test_what_an_emptied_server_has_lost_is_made_again(server: RabbitMQServer):
    async with opened_line(server.port) as line, asyncio.timeout(40):
        url = server.url(port=line.port)
        async with open_bus(url, ManualClock(), SUBJECTS) as bus:
            parked = asyncio.create_task(bus.lease("linux", LONG))
            await line.cut()
            await server.clear(*SUBJECTS)
            await line.mend()
            await in_the_end(lambda: bus.publish([LINUX]))
            assert await parked is not None
            await bus.publish([RunnerRequest(pool="arm64")])
            assert await bus.depth("arm64") == 1


async def test_an_emptied_server_is_told_of_when_its_user_may_make_nothing(server: RabbitMQServer):
    await declare(server.url(), SUBJECTS)
    async with opened_line(server.port) as line, asyncio.timeout(40):
        url = server.url(DAEMON, port=line.port)
        with capture_logs() as logs:
            async with open_bus(url, ManualClock(), SUBJECTS) as bus:
                await line.cut()
                async with channel_of(server) as channel:
                    await channel.queue_delete("mayfly.linux")
                await line.mend()
                arm = RunnerRequest(pool="arm64")
                await in_the_end(lambda: bus.publish([arm]))  # other pools go on
                with pytest.raises(Permanent, match="mayfly bus declare"):
                    await bus.publish([LINUX])
                await declare(server.url(), SUBJECTS)
                await bus.publish([LINUX])
        (told,) = [entry for entry in logs if entry["event"] == "bus.incomplete"]
        assert "mayfly.linux" in told["reason"]


async def test_a_look_that_fails_breaks_no_lease_and_no_publish(server: RabbitMQServer):
    async with opened(server) as bus, channel_of(server) as channel:
        await bus.publish([LINUX, LINUX])
        held = await bus.lease("linux", NOT_WAITING)
        waited = await bus.lease("linux", SOON)
        assert held is not None
        assert waited is not None
        await channel.queue_delete("mayfly-dead.linux")
        for look in (bus.dead("linux", 10), bus.requeue("linux")):
            with pytest.raises(Permanent, match="mayfly bus declare"):
                await look
        await bus.publish([LINUX])
        await bus.complete(held.id)
        await bus.complete(waited.id)
        assert await bus.depth("linux") == 1, "two were completed over channels that lived on"
        await declare(server.url(), SUBJECTS)
        assert await bus.dead("linux", 10) == []
        assert await bus.requeue("linux") == 0


async def test_what_a_failed_requeue_held_is_dead_as_before(server: RabbitMQServer):
    async with opened(server) as bus, channel_of(server) as channel:
        for body in (b"1", b"2"):
            await channel.default_exchange.publish(aio_pika.Message(body), "mayfly-dead.linux")
        await channel.queue_delete("mayfly.linux")
        with pytest.raises(Permanent, match="mayfly bus declare"):
            await bus.requeue("linux")
        assert sorted(dead.text for dead in await bus.dead("linux", 10)) == ["1", "2"]
        await declare(server.url(), SUBJECTS)
        assert await bus.requeue("linux") == 2
        assert await bus.depth("linux") == 2


async def test_dead_messages_without_their_exchange_hold_up_no_request(server: RabbitMQServer):
    async with opened(server) as bus, channel_of(server) as channel:
        await channel.exchange_delete("mayfly-dead")
        await channel.default_exchange.publish(aio_pika.Message(b"?"), "mayfly.linux")
        poisoned = asyncio.create_task(bus.lease("linux", NOT_WAITING))
        published = await asyncio.gather(
            *(bus.publish([LINUX]) for _ in range(20)), return_exceptions=True
        )
        with pytest.raises(Permanent, match="mayfly bus declare"):
            await poisoned
        assert published == [None] * 20


@pytest.mark.parametrize(
    ("user", "host", "sentence"),
    [
        ("mayfly:WRONG-WORD", "", "refuses the user or the password"),
        ("stranger:WRONG-WORD", "", "refuses the user or the password"),
        (DAEMON, "not-there", "virtual host"),
        (DAEMON, CLOSED, "virtual host"),
    ],
)
async def test_a_url_that_cannot_work_is_invalid_and_its_password_is_not_shown(
    server: RabbitMQServer, user: str, host: str, sentence: str
):
    with pytest.raises(InvalidSettings, match=sentence) as told:
        async with open_bus(server.url(user, host), ManualClock(), SUBJECTS):
            pass
    assert user.partition(":")[2] not in str(told.value)
    assert str(server.port) in str(told.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:SECRET@localhost/",
        "postgresql://user:SECRET@localhost:5672/",
        "amqp://",
        "amqp://user:SECRET@localhost:many/",
        "amqp://user:12/SECRET@localhost/",
        "amqp://user:SE#CRET@localhost/",
    ],
)
async def test_what_is_no_url_of_rabbitmq_is_said_without_repeating_it(url: str):
    with pytest.raises(InvalidSettings, match="amqp://USER:PASSWORD@HOST") as told:
        async with open_bus(url, ManualClock(), SUBJECTS):
            pass
    assert "SE" not in str(told.value).replace("USER", "")
    assert told.value.__cause__ is None


@pytest.mark.parametrize("subject", ["*", "a.#", "é" * 200])
async def test_a_pool_that_cannot_be_a_routing_key_is_refused(subject: str):
    with pytest.raises(InvalidSettings, match="RabbitMQ"):
        await declare("amqp://user:word@127.0.0.1:1/", [subject])


async def test_a_server_that_is_away_at_the_start_is_transient():
    with pytest.raises(Transient, match="cannot be reached"):
        async with open_bus("amqp://user:SECRET@127.0.0.1:1/", SystemClock(), SUBJECTS):
            pass


async def test_a_scaler_without_any_right_counts_what_waits_and_not_what_is_leased(
    server: RabbitMQServer,
):
    """What KEDA's scaler does by AMQP: a passive declaration of the queue."""

    async def counted(expected: int) -> bool | None:
        async with connection.channel() as channel:
            queue = await channel.declare_queue(Names().queue("linux"), passive=True)
            return queue.declaration_result.message_count == expected or None

    async with opened(server) as bus, await aio_pika.connect(server.url(NOBODY)) as connection:
        await bus.publish([LINUX] * 3)
        assert await in_a_moment(lambda: counted(3))
        lease = await bus.lease("linux", SOON)
        assert lease
        assert await in_a_moment(lambda: counted(2))
        await bus.complete(lease.id)
        assert await in_a_moment(lambda: counted(2))


async def test_a_broker_that_cannot_be_reached_leaves_nothing_to_close():
    errors: list[Transient] = []
    try:
        async with open_bus("amqp://guest:guest@127.0.0.1:1/", ManualClock(), SUBJECTS):
            pass
    except Transient as error:
        errors.append(error)
    assert errors
    # Where no loop runs, a destructor that has something to close fails.
    await asyncio.to_thread(errors.clear)
    await asyncio.to_thread(gc.collect)
