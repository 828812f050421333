"""Subscriptions: where Service Bus keeps the runner requests of one pool."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from azure.servicebus import ServiceBusReceivedMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.amqp import AmqpMessageBodyType
from azure.servicebus.exceptions import (
    MessageAlreadySettled,
    MessageLockLostError,
    ServiceBusError,
)

from mayfly.bus.servicebus_links import DECLARE, Address, Link
from mayfly.model.errors import MayflyError, Permanent, Transient
from mayfly.model.requests import (
    KEPT_FOR,
    LEASE_TIME,
    Dead,
    Lease,
    Waiting,
    decoded,
    legible,
    overdelivered,
)
from mayfly.ports import Clock

LOOK_TIME = 0.5
"""Seconds of one receive, and so of a lease that does not wait: there is no shorter question."""
REASON_TIME = 3.0
"""Seconds to open a link again and to hear why it was refused."""
MOVE_TIME = 3.0
"""Seconds to be given a message that is known to be there, unless somebody else has it."""
PAGE = 250
"""Messages that are peeked at once."""
MOST_COUNTED = 25_000
"""Where counting stops; no pool that is served gets near it."""
LONGEST_REASON = 1000
OVERDELIVERED = "MaxDeliveryCountExceeded"
UNREADABLE = "Unreadable"
MISROUTED = "Misrouted"


class Held(NamedTuple):
    """A leased message."""

    message: ServiceBusReceivedMessage
    sequence: int | None
    until: datetime


Resend = Callable[[bytes], Awaitable[None]]


class Subscription:
    """One pool's messages: one link receives for everybody who waits, another one looks."""

    def __init__(self, client: ServiceBusClient, address: Address, pool: str, clock: Clock) -> None:
        self._client = client
        self._topic = address.topic
        self._pool = pool
        self._clock = clock
        self._what = f"subscription {pool!r} of topic {address.topic!r} for pool {pool!r}"
        self._receiver = self._handle()
        self._receiving = Link(self._receiver, self._what)
        self._looker = self._handle()
        self._looking = Link(self._looker, self._what)
        self._waiting: deque[asyncio.Future[Lease]] = deque()
        self._looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_pumping = False
        self._held: dict[str, Held] = {}
        self._is_missing = False

    async def open(self) -> None:
        """Permanent when the subscription does not exist."""
        await asyncio.gather(self._receiving.open(), self.check())

    async def check(self) -> None:
        """Permanent when the subscription does not exist."""
        await self._page(1, 1)

    async def close(self) -> None:
        """Every lease is left to its end, and whoever waits is told."""
        for task in self._tasks:
            task.cancel()
        self._tell(Transient(f"Service Bus, {self._what}: we are closing it"))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(self._receiving.close(), self._looking.close())

    async def ensure(self) -> None:
        """Asks again when it was missing the last time: Service Bus would drop the message."""
        if self._is_missing:
            await self.check()

    async def lease(self, wait: timedelta) -> Lease | None:
        """One message, in the order of asking; the pump receives for all who wait."""
        turn: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        looked = self._looked
        self._waiting.append(turn)
        self._start_pump()
        try:
            await asyncio.wait({turn}, timeout=wait.total_seconds())
            # Nothing is there only when the server was asked since, and had nothing.
            await asyncio.wait((turn, looked), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if turn.done() and not turn.exception():
                self._hand_over(turn.result())
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)
        return turn.result() if turn.done() else None

    async def complete(self, lease_id: str) -> None:
        """Without effect for a lease that is not ours."""
        await self._settle(lease_id, self._receiver.complete_message)

    async def abandon(self, lease_id: str) -> None:
        """Without effect for a lease that is not ours."""
        await self._settle(lease_id, self._receiver.abandon_message)

    async def waiting(self, limit: int) -> list[Waiting]:
        """Those nobody of this process holds, the oldest first."""
        found: list[Waiting] = []
        first = 1
        while len(found) < limit and (page := await self._page(first, PAGE)):
            first = _number(page[-1]) + 1
            found += [_as_waiting(message) for message in self._not_held(page)]
        return found[:limit]

    async def drain(self) -> int:
        """Complete what can be received at once; how many."""
        count = 0
        async with self._turns:
            while message := await self._next(self._receiving, self._receiver):
                await _unless_lost(self._receiving, self._receiver.complete_message, message)
                count += 1
        return count

    async def dead(self, limit: int) -> list[Dead]:
        """Those of the last seven days."""
        found: list[Dead] = []
        async with (
            self._dead_letters() as (link, receiver),
            aclosing(_pages(link, receiver)) as pages,
        ):
            async for page in pages:
                found += [_as_dead(message) for message in page if not self._is_old(message)]
                if len(found) >= limit:
                    break
        return found[:limit]

    async def requeue(self, resend: Resend) -> int:
        """Send again what is dead now; how many. Those older than seven days are removed."""
        count = 0
        async with self._dead_letters() as (link, receiver):
            left = sum([len(page) async for page in _pages(link, receiver)])
            # Bounded, because what nobody can read comes back while we are at it.
            while left > 0 and (message := await self._next(link, receiver, MOVE_TIME)):
                left -= 1
                if not self._is_old(message):
                    await resend(_body(message))
                    count += 1
                await _unless_lost(link, receiver.complete_message, message)
        return count

    def _handle(self, sub_queue: ServiceBusSubQueue | None = None) -> ServiceBusReceiver:
        # prefetch would let locks burn while nobody asked
        return self._client.get_subscription_receiver(
            self._topic, self._pool, sub_queue=sub_queue, prefetch_count=0
        )

    @asynccontextmanager
    async def _dead_letters(self) -> AsyncIterator[tuple[Link, ServiceBusReceiver]]:
        receiver = self._handle(ServiceBusSubQueue.DEAD_LETTER)
        link = Link(receiver, f"dead letters of {self._what}")
        try:
            yield link, receiver
        finally:
            await link.close()

    def _start_pump(self) -> None:
        if not self._is_pumping:
            self._is_pumping = True
            self._spawn(self._pump())

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(self) -> None:
        try:
            while self._waiting:
                if lease := await self._received():
                    self._hand_over(lease)
        except Exception as error:  # top of the loop: everybody who waits is told
            self._tell(error)
        finally:
            self._is_pumping = False

    def _tell(self, error: Exception) -> None:
        while self._waiting:
            self._waiting.popleft().set_exception(error)

    def _hand_over(self, lease: Lease) -> None:
        """To whoever waits longest; to nobody means back to the server."""
        if self._waiting:
            self._waiting.popleft().set_result(lease)
        else:
            self._spawn(self._given_back(lease))

    async def _given_back(self, lease: Lease) -> None:
        with contextlib.suppress(MayflyError):  # it returns by itself when its time is over
            await self.abandon(lease.id)

    async def _received(self) -> Lease | None:
        async with self._turns:
            message = await self._next(self._receiving, self._receiver)
        if message is None:
            self._looked.set_result(None)
            self._looked = asyncio.get_running_loop().create_future()
            return None
        if message.subject != self._pool:
            await self._bury(
                message,
                MISROUTED,
                f"a message for pool {message.subject!r} came to pool {self._pool!r}: "
                f"the subscription has a rule too many; {DECLARE}",
            )
            return None
        try:
            found = decoded(_body(message))
        except Permanent as error:
            await self._bury(message, UNREADABLE, str(error))
            return None
        lease_id = str(message.lock_token)
        until = message.locked_until_utc or self._clock.now() + LEASE_TIME
        self._forget_old()
        self._held[lease_id] = Held(message, message.sequence_number, until)
        return Lease(lease_id, found)

    async def _next(
        self, link: Link, receiver: ServiceBusReceiver, seconds: float = LOOK_TIME
    ) -> ServiceBusReceivedMessage | None:
        """One at a time: what else is asked for is locked before anybody can have it."""
        found = await self._noticed(link, lambda: receiver.receive_messages(1, seconds))
        return found[0] if found else None

    async def _page(self, first: int, most: int) -> list[ServiceBusReceivedMessage]:
        return await self._noticed(self._looking, lambda: self._peeked(first, most))

    async def _peeked(self, first: int, most: int) -> list[ServiceBusReceivedMessage]:
        try:
            return await self._looker.peek_messages(most, sequence_number=first)
        except ServiceBusError as error:
            if type(error) is not ServiceBusError:
                raise
            # The management link says no more than "failed"; the one that receives says why.
            for message in await self._looker.receive_messages(1, REASON_TIME):
                await self._looker.abandon_message(message)
            raise

    async def _noticed(
        self, link: Link, work: Callable[[], Awaitable[list[ServiceBusReceivedMessage]]]
    ) -> list[ServiceBusReceivedMessage]:
        try:
            found = await link.call(work)
        except Permanent:
            self._is_missing = True
            raise
        self._is_missing = False
        return found

    async def _bury(self, message: ServiceBusReceivedMessage, reason: str, text: str) -> None:
        await _unless_lost(
            self._receiving,
            lambda one: self._receiver.dead_letter_message(one, reason, text[:LONGEST_REASON]),
            message,
        )

    async def _settle(
        self, lease_id: str, settle: Callable[[ServiceBusReceivedMessage], Awaitable[None]]
    ) -> None:
        if held := self._held.get(lease_id):
            await _unless_lost(self._receiving, settle, held.message)
            self._held.pop(lease_id, None)

    def _not_held(
        self, page: Sequence[ServiceBusReceivedMessage]
    ) -> Iterator[ServiceBusReceivedMessage]:
        now = self._clock.now()
        held = {held.sequence for held in self._held.values() if held.until > now}
        for message in page:
            is_ours = message.subject == self._pool
            if is_ours and message.sequence_number not in held and not self._is_old(message):
                yield message

    def _is_old(self, message: ServiceBusReceivedMessage) -> bool:
        return _published_at(message) <= self._clock.now() - KEPT_FOR

    def _forget_old(self) -> None:
        # The server decides when a lock ends; only what has ended by any clock is forgotten.
        oldest = self._clock.now() - LEASE_TIME
        self._held = {key: held for key, held in self._held.items() if held.until > oldest}


async def _pages(
    link: Link, receiver: ServiceBusReceiver
) -> AsyncGenerator[list[ServiceBusReceivedMessage], None]:
    """All there are, the oldest first: a page may hold less than was asked for, and be none."""
    first = 1

    async def peeked() -> list[ServiceBusReceivedMessage]:
        return await receiver.peek_messages(PAGE, sequence_number=first)

    while page := await link.call(peeked):
        yield page
        first = _number(page[-1]) + 1


async def _unless_lost(
    link: Link,
    settle: Callable[[ServiceBusReceivedMessage], Awaitable[None]],
    message: ServiceBusReceivedMessage,
) -> None:
    async def settled() -> None:
        with contextlib.suppress(MessageLockLostError, MessageAlreadySettled):
            await settle(message)

    await link.call(settled)


def _body(message: ServiceBusReceivedMessage) -> bytes:
    if message.body_type is AmqpMessageBodyType.DATA:
        return b"".join(message.body)
    return str(message.body).encode()


def _as_waiting(message: ServiceBusReceivedMessage) -> Waiting:
    return Waiting(legible(_body(message)), _published_at(message))


def _as_dead(message: ServiceBusReceivedMessage) -> Dead:
    reason = message.dead_letter_error_description or message.dead_letter_reason or "not said"
    if message.dead_letter_reason == OVERDELIVERED:
        reason = overdelivered(message.delivery_count or 0)
    return Dead(legible(_body(message)), reason, _published_at(message))


def _published_at(message: ServiceBusReceivedMessage) -> datetime:
    return message.enqueued_time_utc or datetime.fromtimestamp(0, UTC)


def _number(message: ServiceBusReceivedMessage) -> int:
    return message.sequence_number or 0
