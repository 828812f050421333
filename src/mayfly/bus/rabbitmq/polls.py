"""A poll: a consumer on a channel of its own for one lease that waits.

Prefetch 1, so that each is given one message at a time, and nobody hoards. A channel of its own,
because a quorum queue may deliver after it has confirmed a cancel, and such a message comes back
only with the end of the channel.
"""

import asyncio
from contextlib import suppress

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq import spec
from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from mayfly.bus.rabbitmq.connections import Link, within

GONE = (AMQPError, ChannelInvalidStateError, OSError)
"""Raised for a channel that is closed: the server has taken back what was held on it."""


class Poll:
    """Withdrawn when nobody waits any more; the next connection's poll is another one."""

    def __init__(self) -> None:
        self.withdrawn = False
        self._box: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()

    def withdraw(self) -> None:
        """Nobody waits any more."""
        self.withdrawn = True
        self._wake()

    async def begin(self, link: Link, name: str) -> AbstractChannel:
        """Be a consumer of the queue, until the channel is closed."""
        self._box = asyncio.Queue()
        channel = await link.fresh_channel()
        try:
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(self._on_cancel)
            channel.close_callbacks.add(self._wake)
            queue = await channel.get_queue(name, ensure=False)
            await within(queue.consume(self._box.put, consumer_tag=_TAG))
        except BaseException:
            await closed(channel)
            raise
        return channel

    async def message(self, deadline: float) -> AbstractIncomingMessage | None:
        """The next one; None at the deadline, when withdrawn, or when its channel is closed."""
        try:
            async with asyncio.timeout_at(deadline):
                return None if self.withdrawn else await self._box.get()
        except TimeoutError:
            return None if self._box.empty() else self._box.get_nowait()

    def _on_cancel(self, _: spec.Basic.Cancel) -> None:
        self._wake()

    def _wake(self, *_: object) -> None:
        self._box.put_nowait(None)


_TAG = "lease"
"""Tags are a channel's own."""


async def ended(channel: AbstractChannel, name: str) -> None:
    """No message but the one that is held: with it nothing else is on its way, so this is exact."""
    queue = await channel.get_queue(name, ensure=False)
    await within(queue.cancel(_TAG))


async def closed(channel: AbstractChannel) -> None:
    """What is still held on it waits again."""
    with suppress(*GONE):
        await within(channel.close())


async def handed_back(message: AbstractIncomingMessage) -> None:
    """It waits again, and nobody has seen it."""
    with suppress(*GONE):
        await within(message.nack(requeue=True))
