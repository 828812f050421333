"""The bus on Service Bus when something breaks: the network, a consumer, the settings."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from mayfly.bus.servicebus import open_bus
from mayfly.bus.servicebus_links import ANSWER_TIME
from mayfly.model.errors import InvalidSettings, Permanent, Transient
from mayfly.model.requests import Lease, RunnerRequest
from mayfly.ports import OperableBus
from tests.fakes.buses import SUBJECTS, declare_on
from tests.fakes.clocks import ManualClock
from tests.servers.servicebus import KEY, ServiceBusStandIn, opened_service_bus

AT_ONCE = timedelta(0)
LONG = timedelta(minutes=1)
LEASE_SECONDS = 30
LINUX = RunnerRequest(pool="linux")
ARM = RunnerRequest(pool="arm64")


pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""azure-servicebus leaves the socket of a broken connection to the garbage collector."""


@pytest.fixture(autouse=True)
async def collected() -> AsyncIterator[None]:
    """It does so in the test that broke the connection, and not in a later one."""
    yield
    gc.collect()


@pytest.fixture
async def service() -> AsyncIterator[ServiceBusStandIn]:
    async with opened_service_bus() as stand_in:
        declare_on(stand_in)
        yield stand_in


@pytest.fixture
async def bus(service: ServiceBusStandIn) -> AsyncIterator[OperableBus]:
    async with opened(service) as bus:
        yield bus


def opened(
    service: ServiceBusStandIn, series: str = "a"
) -> AbstractAsyncContextManager[OperableBus]:
    return open_bus(service.url(), ManualClock(service.time, series=series), SUBJECTS)


async def leased(bus: OperableBus, wait: timedelta = AT_ONCE) -> Lease:
    lease = await bus.lease("linux", wait)
    assert lease is not None, "nothing waits"
    return lease


@asynccontextmanager
async def parked(bus: OperableBus, many: int) -> AsyncIterator[list[asyncio.Task[Lease | None]]]:
    """Long polls that have reached the server."""
    tasks = [asyncio.create_task(bus.lease("linux", LONG)) for _ in range(many)]
    await bus.depth("linux")
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lease_is_completed_over_another_connection_than_it_came_by(
    service: ServiceBusStandIn, bus: OperableBus
):
    await bus.publish([LINUX])
    held = await leased(bus)
    await service.stop()
    await service.start()
    await bus.complete(held.id)
    service.advance(LEASE_SECONDS)
    assert await bus.lease("linux", AT_ONCE) is None


async def test_every_verb_is_transient_while_the_service_is_away(
    service: ServiceBusStandIn, bus: OperableBus
):
    await bus.publish([LINUX])
    held = await leased(bus)
    await service.stop()
    async with asyncio.timeout(2 * ANSWER_TIME.total_seconds()):
        for verb in (
            bus.publish([LINUX]),
            bus.lease("linux", AT_ONCE),
            bus.depth("linux"),
            bus.complete(held.id),
            bus.abandon(held.id),
            bus.peek("linux", 1),
            bus.drain("linux"),
            bus.dead("linux", 1),
            bus.requeue("linux"),
        ):
            with pytest.raises(Transient, match=r"Service Bus, .*reached"):
                await verb
    await service.start()
    await bus.publish([LINUX])
    await bus.complete(held.id)
    assert await bus.depth("linux") == 1


async def test_those_who_wait_hear_that_the_service_has_gone(
    service: ServiceBusStandIn, bus: OperableBus
):
    async with parked(bus, 3) as waiting, asyncio.timeout(2 * ANSWER_TIME.total_seconds()):
        await service.stop()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Transient] * 3


async def test_those_who_wait_do_not_notice_a_short_break(
    service: ServiceBusStandIn, bus: OperableBus
):
    async with parked(bus, 1) as (waiting,), asyncio.timeout(10):
        await service.stop()
        await service.start()
        await bus.publish([LINUX])
        assert await waiting is not None


async def test_forty_who_wait_get_forty_messages(bus: OperableBus):
    async with parked(bus, 40) as waiting, asyncio.timeout(30):
        await bus.publish([LINUX] * 40)
        assert len({lease.id for lease in await asyncio.gather(*waiting) if lease}) == 40


async def test_a_message_for_nobody_does_not_stay_with_the_process_that_no_longer_waits(
    service: ServiceBusStandIn, bus: OperableBus
):
    assert await bus.lease("linux", AT_ONCE) is None
    async with opened(service, "b") as other, asyncio.timeout(15):
        await other.publish([LINUX])
        assert await other.lease("linux", LONG) is not None


async def test_a_doorbell_rung_again_is_no_duplicate(bus: OperableBus):
    await bus.publish([LINUX])
    await bus.publish([LINUX, LINUX])
    assert await bus.depth("linux") == 3


async def test_the_service_would_have_dropped_one_with_a_known_id(
    service: ServiceBusStandIn, bus: OperableBus
):
    async with (
        ServiceBusClient.from_connection_string(service.url()) as client,
        client.get_topic_sender("mayfly") as sender,
    ):
        for _ in range(2):
            await sender.send_messages(ServiceBusMessage(b"{}", subject="linux", message_id="1"))
    assert await bus.depth("linux") == 1


async def test_more_dead_letters_than_a_page_are_listed_and_requeued(
    service: ServiceBusStandIn, bus: OperableBus
):
    topic = service.namespace.topic("mayfly")
    assert topic is not None
    await bus.publish([LINUX] * 120)
    queue = topic.subscriptions["linux"].queue
    assert queue.dead is not None
    for message in (old := queue.messages[:5]):
        message.enqueued_at -= timedelta(days=8)
    queue.dead.messages, queue.messages = queue.messages, []
    assert len(await bus.dead("linux", 1000)) == 120 - len(old)
    assert len(await bus.dead("linux", 102)) == 102
    assert await bus.requeue("linux") == 120 - len(old)
    assert await bus.depth("linux") == 120 - len(old)
    assert queue.dead.messages == []


async def test_a_thousand_doorbells_are_counted(bus: OperableBus):
    await bus.publish([LINUX] * 1001)
    assert await bus.depth("linux") == 1001


async def test_a_rule_too_many_does_not_send_a_pool_to_work_of_another(
    service: ServiceBusStandIn, bus: OperableBus
):
    topic = service.namespace.topic("mayfly")
    assert topic is not None
    topic.subscriptions["linux"].rules["$Default"] = None
    await bus.publish([ARM, LINUX])
    assert await bus.depth("linux") == 1
    assert (await leased(bus)).message == LINUX
    assert await bus.lease("arm64", AT_ONCE) is not None
    (dead,) = await bus.dead("linux", 10)
    assert "rule too many" in dead.reason
    assert "mayfly bus declare" in dead.reason


async def test_a_subscription_that_is_missing_is_named_at_the_start(service: ServiceBusStandIn):
    topic = service.namespace.topic("mayfly")
    assert topic is not None
    del topic.subscriptions["arm64"]
    with pytest.raises(InvalidSettings, match=r"pool 'arm64'.*mayfly bus declare"):
        async with opened(service):
            pass


async def test_a_topic_that_is_missing_is_named_at_the_start(service: ServiceBusStandIn):
    service.namespace.topics.clear()
    with pytest.raises(InvalidSettings, match=r"topic 'mayfly'.*mayfly bus declare"):
        async with opened(service):
            pass


async def test_nothing_is_published_for_a_pool_whose_subscription_was_deleted(
    service: ServiceBusStandIn, bus: OperableBus
):
    topic = service.namespace.topic("mayfly")
    assert topic is not None
    removed = topic.subscriptions.pop("linux")
    await service.stop()
    await service.start()
    with pytest.raises(Permanent, match="linux"):
        await bus.depth("linux")
    with pytest.raises(Permanent, match=r"pool 'linux'.*mayfly bus declare"):
        await bus.publish([LINUX, ARM])
    assert await bus.depth("arm64") == 0
    topic.subscriptions["linux"] = removed
    await bus.publish([LINUX])
    assert await bus.depth("linux") == 1


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        ("com.microsoft:server-busy", Transient),
        ("com.microsoft:timeout", Transient),
        ("amqp:resource-limit-exceeded", Transient),
        ("amqp:internal-error", Transient),
        ("com.microsoft:entity-disabled", Permanent),
        ("amqp:unauthorized-access", Permanent),
        ("amqp:link:message-size-exceeded", Permanent),
    ],
)
async def test_a_refusal_is_one_of_our_errors(
    service: ServiceBusStandIn, bus: OperableBus, condition: str, kind: type[Exception]
):
    service.refusals["mayfly"] = condition
    with pytest.raises(kind, match="Service Bus, topic 'mayfly'"):
        await bus.publish([LINUX])
    service.refusals.clear()
    await bus.publish([LINUX])
    assert await bus.depth("linux") == 1


WRONG = "another-key-nobody-may-see=="


async def test_a_key_that_is_not_accepted_is_not_shown(
    service: ServiceBusStandIn, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InvalidSettings, match="not accepted") as raised:
        async with open_bus(service.url(WRONG), ManualClock(service.time), SUBJECTS):
            pass
    assert WRONG not in str(raised.value) + caplog.text
    assert "SharedAccessSignature" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"Endpoint=sb://example.servicebus.windows.net;SharedAccessKey={KEY}",
        f"endpoint;{KEY}",
        f"amqps://someone:{KEY}@example.servicebus.windows.net/",
        "sb://example.servicebus.windows.net/a/topic",
    ],
)
async def test_an_address_that_is_none_is_refused_without_being_shown(url: str):
    with pytest.raises(InvalidSettings, match=r"\[bus\] url") as raised:
        async with open_bus(url, ManualClock(), SUBJECTS):
            pass
    assert KEY not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("pool", ["with space", "x" * 51, "-linux", "linux."])
async def test_a_pool_that_cannot_be_a_subscription_is_refused(pool: str):
    with pytest.raises(InvalidSettings, match="subscription"):
        async with open_bus("sb://example.servicebus.windows.net", ManualClock(), [pool]):
            pass


async def test_a_wait_that_is_cancelled_at_the_last_moment_hands_on_what_it_got(bus: OperableBus):
    """At every step of the event loop around the answer; no time passes meanwhile."""
    for steps in range(4, 24):
        async with asyncio.timeout(30):
            first = asyncio.create_task(bus.lease("linux", LONG))
            second = asyncio.create_task(bus.lease("linux", LONG))
            ringing = asyncio.create_task(bus.publish([LINUX]))
            for _ in range(steps):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await ringing
            lease = await second if first.cancelled() else first.result()
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            assert lease is not None
            await bus.complete(lease.id)
