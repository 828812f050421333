"""The bus on Azure Service Bus: a topic, and a subscription for each pool."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import MessageSizeExceededError

from mayfly.backends import Elsewhere
from mayfly.bus.servicebus_links import DECLARE, Address, Link, opened_client, parsed, renamed
from mayfly.bus.servicebus_subscriptions import MOST_COUNTED, Subscription
from mayfly.bus.servicebus_topics import declared, removed
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.requests import KEPT_FOR, Dead, Lease, Message, Waiting, sized
from mayfly.ports import Clock, OperableBus

MOST_AT_ONCE = 1000
"""Messages of one batch; the service takes 4,500."""

LONGEST_NAME = 50
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,48}[A-Za-z0-9])?")


@asynccontextmanager
async def open_bus(
    url: str, clock: Clock, subjects: Sequence[str], *, declares: bool = True
) -> AsyncIterator[OperableBus]:
    """The bus at `url`; every subject's subscription has to be there.

    It needs the roles Data Sender and Data Receiver, and nothing of the management plane.
    """
    del declares  # it makes nothing in any case
    address = parsed(url)
    checked(subjects)
    async with opened_client(address) as client, AsyncExitStack() as stack:
        bus = ServiceBus(client, address, subjects, clock)
        stack.push_async_callback(bus.close)
        try:
            await bus.open()
        except Permanent as error:
            raise InvalidSettings(str(error)) from error
        yield bus


async def declare(url: str, subjects: Sequence[str]) -> list[str]:
    """Make the topic, and each subject's subscription with its rule. Needs the role Data Owner."""
    return await declared(parsed(url), checked(subjects))


def elsewhere(url: str, name: str) -> Elsewhere:
    """A bus with a topic of that name in the namespace of `url`."""
    return Elsewhere(renamed(url, name), f"topic {name} of Service Bus at {parsed(url).namespace}")


async def remove(url: str, subjects: Sequence[str]) -> None:
    """Take away the topic, and every subscription with it. Idempotent. Needs Data Owner."""
    del subjects
    await removed(parsed(url))


def checked(subjects: Sequence[str]) -> Sequence[str]:
    """The subjects, each fit to be a subscription's name."""
    for subject in subjects:
        if not _NAME.fullmatch(subject):
            raise InvalidSettings(
                f"pool {subject!r} cannot be the name of a Service Bus subscription; use at most "
                f"{LONGEST_NAME} letters, digits, '.', '-' and '_', letters or digits at both ends"
            )
    return subjects


class ServiceBus:
    """Messages are locked while they are leased; the lock's time is the subscription's."""

    def __init__(
        self, client: ServiceBusClient, address: Address, subjects: Sequence[str], clock: Clock
    ) -> None:
        self._clock = clock
        self._sender = client.get_topic_sender(address.topic)
        self._sending = Link(self._sender, f"topic {address.topic!r}")
        self._subscriptions: Mapping[str, Subscription] = {
            subject: Subscription(client, address, subject, clock) for subject in subjects
        }

    async def open(self) -> None:
        """Permanent when something is missing, or not allowed."""
        opening = [subscription.open() for subscription in self._subscriptions.values()]
        answers = await asyncio.gather(*opening, self._sending.open(), return_exceptions=True)
        for answer in answers:
            if answer is not None:
                raise answer

    async def close(self) -> None:
        """Idempotent."""
        closing = [subscription.close() for subscription in self._subscriptions.values()]
        await asyncio.gather(*closing, self._sending.close())

    async def publish(self, messages: Sequence[Message]) -> None:
        await self.put(sized(messages))

    async def put(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        """Bodies as they come, ours or not, each for a subject."""
        for subject in {subject for subject, _ in bodies}:
            await self._of(subject).ensure()
        outgoing = [self._outgoing(subject, body) for subject, body in bodies]
        for first in range(0, len(outgoing), MOST_AT_ONCE):
            some = outgoing[first : first + MOST_AT_ONCE]
            await self._sending.call(partial(self._send, some))

    async def lease(self, subject: str, wait: timedelta) -> Lease | None:
        return await self._of(subject).lease(wait)

    async def complete(self, lease_id: str) -> None:
        for subscription in self._subscriptions.values():
            await subscription.complete(lease_id)

    async def abandon(self, lease_id: str) -> None:
        for subscription in self._subscriptions.values():
            await subscription.abandon(lease_id)

    async def depth(self, subject: str) -> int:
        """Counted by looking at all of them; other processes' leases are among them."""
        return len(await self._of(subject).waiting(MOST_COUNTED))

    async def peek(self, subject: str, limit: int) -> list[Waiting]:
        return await self._of(subject).waiting(limit)

    async def drain(self, subject: str) -> int:
        return await self._of(subject).drain()

    async def dead(self, subject: str, limit: int) -> list[Dead]:
        return await self._of(subject).dead(limit)

    async def requeue(self, subject: str) -> int:
        return await self._of(subject).requeue(lambda body: self.put([(subject, body)]))

    def _of(self, subject: str) -> Subscription:
        subscription = self._subscriptions.get(subject)
        if subscription is None:
            # Service Bus would take the message and drop it without a word.
            raise Permanent(
                f"nothing receives runner requests for pool {subject[:LONGEST_NAME]!r}: it has no "
                f"subscription here; add it to mayfly.toml and {DECLARE}"
            )
        return subscription

    def _outgoing(self, subject: str, body: bytes) -> ServiceBusMessage:
        # A fresh id each: duplicate detection would swallow a doorbell that is rung again.
        return ServiceBusMessage(
            body,
            subject=subject,
            message_id=self._clock.new_id(),
            content_type="application/json",
            time_to_live=KEPT_FOR,
            application_properties={"version": 1},
        )

    async def _send(self, messages: Sequence[ServiceBusMessage]) -> None:
        """As few batches as there may be; a second try has the same ids, so it may repeat."""
        batch = await self._sender.create_message_batch()
        for message in messages:
            try:
                batch.add_message(message)
            except MessageSizeExceededError:
                await self._sender.send_messages(batch)
                batch = await self._sender.create_message_batch()
                batch.add_message(message)
        await self._sender.send_messages(batch)
