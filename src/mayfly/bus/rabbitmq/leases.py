"""The bus in RabbitMQ. A lease is an unacknowledged message with a time that is kept here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from mayfly.backends import Elsewhere
from mayfly.bus.rabbitmq import looks, polls, queues, rights
from mayfly.bus.rabbitmq.connections import FIRST_PAUSE, Connections, Link, within
from mayfly.bus.rabbitmq.errors import placed, unroutable
from mayfly.bus.rabbitmq.names import renamed
from mayfly.bus.rabbitmq.polls import GONE, Poll, handed_back
from mayfly.bus.rabbitmq.wire import copied, outgoing, published_at
from mayfly.model.errors import InvalidSettings, MayflyError, Permanent
from mayfly.model.requests import (
    KEPT_FOR,
    LEASE_TIME,
    Dead,
    Lease,
    Message,
    Waiting,
    decoded,
    sized,
)
from mayfly.ports import Clock, OperableBus

LOOK_EVERY = 1.0
"""Seconds between two looks for leases whose time is over."""
_DECLARE = "start the control plane or run `mayfly bus declare`"


@asynccontextmanager
async def open_bus(
    url: str, clock: Clock, subjects: Sequence[str], *, declares: bool = True
) -> AsyncIterator[OperableBus]:
    """The bus at an amqp or amqps url; queues are made where its user may, else must be there."""
    connections = Connections(url)
    names = connections.names
    queues.check_names(names, subjects)

    async def prepare(link: Link) -> None:
        if declares:
            await queues.make_or_check(link.consuming, names, subjects)
        else:
            await queues.check(link.consuming, names, subjects, _DECLARE)

    async with connections.open(prepare):
        link = connections.link()
        await connections.whole(rights.check(link, subjects, connections.user))
        bus = RabbitMQBus(connections, clock)
        watch = asyncio.create_task(bus.watch())
        try:
            yield bus
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


async def declare(url: str, subjects: Sequence[str]) -> list[str]:
    """Make the exchanges, and both queues of each pool."""
    connections = Connections(url)
    names = connections.names
    queues.check_names(names, subjects)
    lines: list[str] = []

    async def make(link: Link) -> None:
        async with link.consuming.channel() as channel:
            lines.extend(await queues.make(channel, names, subjects))

    try:
        async with connections.open(make):
            return lines
    except Permanent as error:
        raise InvalidSettings(str(error)) from error


def elsewhere(url: str, name: str) -> Elsewhere:
    """A bus of that name on the server of `url`."""
    place = placed(url)
    return Elsewhere(renamed(url, name), f"exchanges and queues {name}… of RabbitMQ at {place}")


async def remove(url: str, subjects: Sequence[str]) -> None:
    """Take away what `declare` makes for the subjects, and the exchanges. Idempotent."""
    connections = Connections(url)

    async def take_away(link: Link) -> None:
        async with link.consuming.channel() as channel:
            await queues.remove(channel, connections.names, subjects)

    async with connections.open(take_away):
        pass


class _Held(NamedTuple):
    message: AbstractIncomingMessage
    until: datetime
    channel: AbstractChannel | None
    """The poll's; closed with the lease."""


class RabbitMQBus:
    """Leases are of this process: another cannot complete them, and they end with it."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock
        self._held: dict[str, _Held] = {}

    async def publish(self, messages: Sequence[Message]) -> None:
        await self.put(sized(messages))

    async def put(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        """Bodies as they come, ours or not, each for a subject."""
        names = self._connections.names
        for subject, _ in bodies:
            if len(subject.encode()) > names.longest_subject:
                raise unroutable(subject)
        stamped = [(subject, outgoing(subject, body, self._clock)) for subject, body in bodies]
        link = self._connections.link()
        await self._connections.whole(link.publish(names.exchange, stamped))

    async def lease(self, subject: str, wait: timedelta) -> Lease | None:
        """A wait outlasts a lost connection; Transient when there is none yet at its end."""
        await self._return_overdue()
        link, poll = self._connections.link(), Poll()
        if wait > timedelta(0):
            deadline = asyncio.get_running_loop().time() + wait.total_seconds()
            leasing = self._connections.start(self._wait(link, subject, deadline, poll))
        else:
            leasing = self._connections.start(self._get(link, subject))
        try:
            return await self._connections.ended(leasing)
        except asyncio.CancelledError:
            poll.withdraw()
            leasing.add_done_callback(self._unwanted)
            raise

    async def complete(self, lease_id: str) -> None:
        await self._return_overdue()
        if held := self._held.pop(lease_id, None):
            await self._connections.whole(_completed(held))

    async def abandon(self, lease_id: str) -> None:
        await self._return_overdue()
        if held := self._held.pop(lease_id, None):
            await self._connections.whole(_returned(held))

    async def depth(self, subject: str) -> int:
        await self._return_overdue()
        return await self._connections.whole(looks.depth(self._connections.link(), subject))

    async def peek(self, subject: str, limit: int) -> list[Waiting]:
        """A look counts as a delivery, because RabbitMQ has no other way to look."""
        await self._return_overdue()
        found = looks.peek(self._connections.link(), subject, limit, self._clock)
        return await self._connections.whole(found)

    async def drain(self, subject: str) -> int:
        await self._return_overdue()
        return await self._connections.whole(looks.drain(self._connections.link(), subject))

    async def dead(self, subject: str, limit: int) -> list[Dead]:
        found = looks.dead(self._connections.link(), subject, limit, self._clock)
        return await self._connections.whole(found)

    async def requeue(self, subject: str) -> int:
        moved = looks.requeue(self._connections.link(), subject, self._clock)
        return await self._connections.whole(moved)

    async def watch(self) -> None:
        """End the leases whose time is over though nobody asks for anything, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            with suppress(MayflyError):
                await self._return_overdue()

    async def _get(self, link: Link, subject: str) -> Lease | None:
        channel = await link.channel(subject)
        queue = await channel.get_queue(link.names.queue(subject), ensure=False)
        while message := await within(queue.get(fail=False)):
            if lease := await self._judged(link, subject, message):
                return lease
        return None

    async def _wait(self, link: Link, subject: str, deadline: float, poll: Poll) -> Lease | None:
        """One link after the other, until there is a message, the deadline, or no wish for it."""
        while True:
            try:
                lease = await self._polled(link, subject, deadline, poll)
            except GONE:
                await asyncio.sleep(FIRST_PAUSE)  # a link hears of its loss after its channels
                if not link.lost.done():
                    raise
                lease = None
            if lease or poll.withdrawn or asyncio.get_running_loop().time() >= deadline:
                return lease
            async with asyncio.timeout_at(deadline):
                link = await self._connections.linked()

    async def _polled(self, link: Link, subject: str, deadline: float, poll: Poll) -> Lease | None:
        name = link.names.queue(subject)
        channel = await poll.begin(link, name)
        try:
            while message := await poll.message(deadline):
                if lease := await self._judged(link, subject, message, channel):
                    await polls.ended(channel, name)
                    return lease
        except BaseException:
            await polls.closed(channel)
            raise
        await polls.closed(channel)
        return None

    async def _judged(
        self,
        link: Link,
        subject: str,
        message: AbstractIncomingMessage,
        channel: AbstractChannel | None = None,
    ) -> Lease | None:
        """A lease, if it is ours and not too old."""
        now = self._clock.now()
        if published_at(message, now) < now - KEPT_FOR:
            await message.ack()
            return None
        try:
            found = decoded(message.body)
        except Permanent as error:
            await _buried(link, subject, message, str(error))
            return None
        lease_id = self._clock.new_id()
        self._held[lease_id] = _Held(message, now + LEASE_TIME, channel)
        return Lease(lease_id, found)

    def _unwanted(self, leasing: asyncio.Task[Lease | None]) -> None:
        if leasing.cancelled() or leasing.exception():
            return
        if (lease := leasing.result()) and (held := self._held.pop(lease.id, None)):
            self._connections.start(_returned(held))

    async def _return_overdue(self) -> None:
        now = self._clock.now()
        for lease_id in [key for key, held in self._held.items() if held.until <= now]:
            if held := self._held.pop(lease_id, None):
                await self._connections.whole(_returned(held))


async def _completed(held: _Held) -> None:
    await _settled(held.message.ack(), held.channel)


async def _returned(held: _Held) -> None:
    """It waits again, and this counts as one of its deliveries with every version of RabbitMQ."""
    await _settled(held.message.reject(requeue=True), held.channel)


async def _settled(answer: Awaitable[None], channel: AbstractChannel | None) -> None:
    """Without effect on a channel that is closed: the server has taken its messages back."""
    with suppress(*GONE):
        await within(answer)
    if channel is not None:
        await polls.closed(channel)


async def _buried(link: Link, subject: str, message: AbstractIncomingMessage, reason: str) -> None:
    """Into the dead queue as a copy, because a rejected message cannot say why."""
    try:
        await link.publish(link.names.dead_exchange, [(subject, copied(message, reason))])
    except BaseException:
        await handed_back(message)
        raise
    await message.ack()
