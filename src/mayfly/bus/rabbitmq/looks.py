"""What is asked about a pool's queues, and an operator's verbs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import NamedTuple

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from mayfly.bus.rabbitmq.connections import Link, within
from mayfly.bus.rabbitmq.polls import closed
from mayfly.bus.rabbitmq.wire import copied, deliveries, published_at, reason_of
from mayfly.model.requests import KEPT_FOR, LARGEST_DELIVERIES, Dead, Waiting, legible
from mayfly.ports import Clock


class _Place(NamedTuple):
    """A queue and the exchange that leads to it."""

    link: Link
    channel: AbstractChannel
    subject: str
    name: str
    exchange: str

    async def ready(self) -> int:
        found = await within(self.channel.declare_queue(self.name, passive=True))
        return found.declaration_result.message_count or 0

    async def queue(self) -> AbstractQueue:
        return await self.channel.get_queue(self.name, ensure=False)

    async def take(self, limit: int | None = None) -> AsyncIterator[AbstractIncomingMessage]:
        """At most so many of those that are ready, one after the other."""
        queue = await self.queue()
        for _ in count() if limit is None else range(limit):
            message = await within(queue.get(fail=False))
            if message is None:
                return
            yield message

    async def put_back(self, message: AbstractIncomingMessage) -> None:
        """As it was; a copy that starts anew where the server would drop or bury it."""
        if deliveries(message) >= LARGEST_DELIVERIES - 1:
            await self.link.publish(self.exchange, [(self.subject, copied(message))])
            await message.ack()
        else:
            await message.nack(requeue=True)


@asynccontextmanager
async def _waiting(link: Link, subject: str) -> AsyncIterator[_Place]:
    async with _channel(link) as channel:
        names = link.names
        yield _Place(link, channel, subject, names.queue(subject), names.exchange)


@asynccontextmanager
async def _buried(link: Link, subject: str) -> AsyncIterator[_Place]:
    async with _channel(link) as channel:
        names = link.names
        yield _Place(link, channel, subject, names.dead_queue(subject), names.dead_exchange)


@asynccontextmanager
async def _channel(link: Link) -> AsyncIterator[AbstractChannel]:
    """For one look: when it fails, no lease ends with it, and all it holds goes back."""
    channel = await link.fresh_channel()
    try:
        yield channel
    finally:
        await closed(channel)


async def depth(link: Link, subject: str) -> int:
    """Those that are ready: a lease's message is not, whoever holds it."""
    async with _waiting(link, subject) as place:
        return await place.ready()


async def peek(link: Link, subject: str, limit: int, clock: Clock) -> list[Waiting]:
    """Held together until all were seen, or the same one would be seen again."""
    async with _waiting(link, subject) as place:
        found = [message async for message in place.take(limit)]
        for message in found:
            await place.put_back(message)
    return [Waiting(legible(one.body), published_at(one, clock.now())) for one in found]


async def drain(link: Link, subject: str) -> int:
    """Those that are ready."""
    async with _waiting(link, subject) as place:
        queue = await place.queue()
        return (await within(queue.purge())).message_count or 0


async def dead(link: Link, subject: str, limit: int, clock: Clock) -> list[Dead]:
    """Those the server buried because nobody leased them for 7 days are not shown."""
    oldest, taken, found = clock.now() - KEPT_FOR, [], []
    async with _buried(link, subject) as place:
        async for message in place.take():
            taken.append(message)
            if published_at(message, clock.now()) >= oldest:
                found.append(message)
            if len(found) == limit:
                break
        for message in taken:
            await place.put_back(message)
    return [
        Dead(legible(one.body), reason_of(one), published_at(one, clock.now())) for one in found
    ]


async def requeue(link: Link, subject: str, clock: Clock) -> int:
    """One after the other: published, confirmed, and only then taken from the dead.

    All are held first: what dies again meanwhile stays dead.
    """
    moved = 0
    async with _buried(link, subject) as place:
        taken = [message async for message in place.take()]
        for message in taken:
            if published_at(message, clock.now()) >= clock.now() - KEPT_FOR:
                await link.publish(link.names.exchange, [(subject, copied(message))])
                moved += 1
            await message.ack()
    return moved
