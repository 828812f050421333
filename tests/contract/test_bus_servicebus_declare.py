"""`declare` of Service Bus: the entities Mayfly needs, made once, rules repaired."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from azure.servicebus.aio.management import ServiceBusAdministrationClient

from mayfly.bus.servicebus import declare, elsewhere
from mayfly.bus.servicebus_topics import made, unmade
from mayfly.model.errors import InvalidSettings, Permanent, Transient
from tests.servers.servicebus.administration import (
    Administration,
    PlainTransport,
    opened_administration,
)

KEY = "SharedAccessKeyName=n;SharedAccessKey=a-key-nobody-may-see"


@pytest.fixture
async def administration() -> AsyncIterator[Administration]:
    async with opened_administration() as opened:
        yield opened


@asynccontextmanager
async def client(administration: Administration) -> AsyncIterator[ServiceBusAdministrationClient]:
    async with ServiceBusAdministrationClient.from_connection_string(
        f"Endpoint=sb://127.0.0.1:{administration.port};{KEY}",
        transport=PlainTransport(),
        retry_total=0,
    ) as opened:
        yield opened


async def test_topic_subscription_and_rule_are_made(administration: Administration):
    async with client(administration) as namespace:
        assert await made(namespace, "mayfly", ["linux"]) == [
            "topic mayfly: made",
            "subscription linux: made",
            "rule subject of linux: made, $Default removed",
        ]
    entries = administration.entries
    assert set(entries) == {
        "mayfly",
        "mayfly/subscriptions/linux",
        "mayfly/subscriptions/linux/rules/subject",
    }
    assert "RequiresDuplicateDetection>true<" in entries["mayfly"]
    assert "LockDuration>PT30S<" in entries["mayfly/subscriptions/linux"]
    assert "MaxDeliveryCount>10<" in entries["mayfly/subscriptions/linux"]
    assert "DefaultMessageTimeToLive>P7D<" in entries["mayfly/subscriptions/linux"]
    assert "Label>linux<" in entries["mayfly/subscriptions/linux/rules/subject"]


async def test_a_topic_is_removed_with_all_that_is_in_it_and_no_other(
    administration: Administration,
):
    async with client(administration) as namespace:
        for topic in ("mayfly", "mayfly_demo_1"):
            await made(namespace, topic, ["linux"])
        for _ in range(2):
            await unmade(namespace, "mayfly_demo_1")
        assert {entry.partition("/")[0] for entry in administration.entries} == {"mayfly"}
        administration.refuses_with = 401
        with pytest.raises(Permanent, match="Data Owner"):
            await unmade(namespace, "mayfly")


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("sb://ns.example.net/mayfly", "sb://ns.example.net/own"),
        (f"Endpoint=sb://ns.example.net/;{KEY}", f"Endpoint=sb://ns.example.net/;{KEY};own"),
        (
            f"Endpoint=sb://ns.example.net;{KEY};EntityPath=a",
            f"Endpoint=sb://ns.example.net;{KEY};own",
        ),
    ],
)
def test_another_topic_of_a_namespace_is_named_without_its_key(url: str, other: str):
    there = elsewhere(url, "own")
    assert there.url == other.replace(";own", ";EntityPath=own")
    assert there.shown == "topic own of Service Bus at ns.example.net"


async def test_what_is_there_stays_and_is_said(administration: Administration):
    async with client(administration) as namespace:
        await made(namespace, "mayfly", ["linux"])
        before = dict(administration.entries)
        assert await made(namespace, "mayfly", ["linux"]) == [
            "topic mayfly: there",
            "subscription linux: there",
            "rule subject of linux: there",
        ]
    assert administration.entries == before


async def test_the_rule_that_lets_everything_in_is_replaced(administration: Administration):
    async with client(administration) as namespace:
        await namespace.create_topic("mayfly")
        await namespace.create_subscription("mayfly", "linux")
        lines = await made(namespace, "mayfly", ["linux"])
    assert lines[2] == "rule subject of linux: made, $Default removed"
    assert "mayfly/subscriptions/linux/rules/$default" not in administration.entries


async def test_settings_that_are_not_ours_are_said(administration: Administration):
    async with client(administration) as namespace:
        await namespace.create_topic("mayfly", default_message_time_to_live="PT1H")
        await namespace.create_subscription(
            "mayfly", "linux", lock_duration="PT1M", max_delivery_count=3
        )
        topic, subscription, _ = await made(namespace, "mayfly", ["linux"])
    assert topic == "topic mayfly: there; it keeps messages for 1:00:00, Mayfly expects 7 days"
    assert subscription == (
        "subscription linux: there; lock duration is 0:01:00, Mayfly expects 0:00:30; "
        "max delivery count is 3, Mayfly expects 10"
    )


@pytest.mark.parametrize(
    ("status", "sentence"), [(401, "Data Owner"), (403, "Data Owner"), (400, "status 400")]
)
async def test_a_refusal_says_who_has_to_act(
    administration: Administration, status: int, sentence: str
):
    administration.refuses_with = status
    async with client(administration) as namespace:
        with pytest.raises(Permanent, match=sentence):
            await made(namespace, "mayfly", ["linux"])


async def test_a_namespace_that_is_away_may_come_back():
    async with opened_administration() as administration:
        gone = administration.port
    with pytest.raises(Transient, match="cannot be reached") as raised:
        await declare(f"Endpoint=sb://127.0.0.1:{gone};{KEY}", ["linux"])
    assert "nobody-may-see" not in str(raised.value)


async def test_a_pool_that_cannot_be_a_subscription_is_not_declared():
    with pytest.raises(InvalidSettings, match="subscription"):
        await declare("sb://example.servicebus.windows.net", ["not this/one"])
