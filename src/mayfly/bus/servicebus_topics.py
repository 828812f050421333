"""Topics and subscriptions of Service Bus, made or found as the bus needs them."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta

from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.identity.aio import DefaultAzureCredential
from azure.servicebus.aio.management import ServiceBusAdministrationClient
from azure.servicebus.management import (
    CorrelationRuleFilter,
    SubscriptionProperties,
    TopicProperties,
)

from mayfly.bus.servicebus_links import Address
from mayfly.model.errors import Permanent, Transient
from mayfly.model.requests import KEPT_FOR, LARGEST_DELIVERIES, LEASE_TIME

RULE = "subject"
DEFAULT_RULE = "$Default"
_OWNER = "it needs the role Azure Service Bus Data Owner, or a key that may manage"


async def declared(address: Address, pools: Sequence[str]) -> list[str]:
    """What there is after making what was missing."""
    async with _opened(address) as namespace:
        return await made(namespace, address.topic, pools)


async def removed(address: Address) -> None:
    """The topic is gone, and every subscription with it."""
    async with _opened(address) as namespace:
        await unmade(namespace, address.topic)


async def made(
    namespace: ServiceBusAdministrationClient, topic: str, pools: Sequence[str]
) -> list[str]:
    """What there is, a line each; nothing that was there is changed but rules."""
    with _as_ours(namespace):
        lines = [await _topic(namespace, topic)]
        for pool in pools:
            lines += await _subscription(namespace, topic, pool)
    return lines


async def unmade(namespace: ServiceBusAdministrationClient, topic: str) -> None:
    """The topic is gone; nothing is wrong when it was not there."""
    with _as_ours(namespace), suppress(ResourceNotFoundError):
        await namespace.delete_topic(topic)


@contextmanager
def _as_ours(namespace: ServiceBusAdministrationClient) -> Iterator[None]:
    where = f"Service Bus, {namespace.fully_qualified_namespace}"
    try:
        yield
    except HttpResponseError as error:
        advice = f"; {_OWNER}" if error.status_code in {401, 403} else ""
        raise Permanent(f"{where}: refused with status {error.status_code}{advice}") from error
    except AzureError as error:
        raise Transient(f"{where}: it cannot be reached") from error


@asynccontextmanager
async def _opened(address: Address) -> AsyncIterator[ServiceBusAdministrationClient]:
    if address.connection_string is not None:
        async with ServiceBusAdministrationClient.from_connection_string(
            address.connection_string, retry_total=1
        ) as client:
            yield client
        return
    async with (
        DefaultAzureCredential() as credential,
        ServiceBusAdministrationClient(address.namespace, credential, retry_total=1) as client,
    ):
        yield client


async def _topic(namespace: ServiceBusAdministrationClient, topic: str) -> str:
    try:
        await namespace.create_topic(
            topic, default_message_time_to_live=KEPT_FOR, requires_duplicate_detection=True
        )
    except ResourceExistsError:
        return _found_topic(await namespace.get_topic(topic))
    return f"topic {topic}: made"


def _found_topic(topic: TopicProperties) -> str:
    ttl = topic.default_message_time_to_live
    note = ""
    if isinstance(ttl, timedelta) and ttl < KEPT_FOR:
        note = f"; it keeps messages for {ttl}, Mayfly expects {KEPT_FOR.days} days"
    return f"topic {topic.name}: there{note}"


async def _subscription(
    namespace: ServiceBusAdministrationClient, topic: str, pool: str
) -> list[str]:
    try:
        await namespace.create_subscription(
            topic,
            pool,
            lock_duration=LEASE_TIME,
            max_delivery_count=LARGEST_DELIVERIES,
            default_message_time_to_live=KEPT_FOR,
        )
        line = f"subscription {pool}: made"
    except ResourceExistsError:
        line = _found_subscription(await namespace.get_subscription(topic, pool))
    # The new rule comes first, so that no message falls between the two.
    made = await _has_made_rule(namespace, topic, pool)
    replaced = await _has_removed_default(namespace, topic, pool)
    rule = f"rule {RULE} of {pool}: {'made' if made else 'there'}"
    return [line, f"{rule}, {DEFAULT_RULE} removed" if replaced else rule]


def _found_subscription(found: SubscriptionProperties) -> str:
    notes = [
        f"{what} is {there}, Mayfly expects {expected}"
        for what, there, expected in (
            ("lock duration", found.lock_duration, LEASE_TIME),
            ("max delivery count", found.max_delivery_count, LARGEST_DELIVERIES),
        )
        if there != expected
    ]
    return "; ".join([f"subscription {found.name}: there", *notes])


async def _has_made_rule(namespace: ServiceBusAdministrationClient, topic: str, pool: str) -> bool:
    try:
        await namespace.create_rule(topic, pool, RULE, filter=CorrelationRuleFilter(label=pool))
    except ResourceExistsError:
        return False
    return True


async def _has_removed_default(
    namespace: ServiceBusAdministrationClient, topic: str, pool: str
) -> bool:
    try:
        await namespace.delete_rule(topic, pool, DEFAULT_RULE)
    except ResourceNotFoundError:
        return False
    return True
