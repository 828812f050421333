"""The connections to RabbitMQ: one to publish, one to consume; both anew when either is lost.

Two, because a server that runs out of memory or disk stops reading from connections that publish:
leases have to be completed then all the more.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import unquote

import aio_pika
import structlog
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractConnection
from yarl import URL

from mayfly.bus.rabbitmq.errors import ANSWER_WITHIN, as_ours, placed
from mayfly.bus.rabbitmq.names import Names, names_of
from mayfly.model.errors import InvalidSettings, MayflyError, Permanent, Transient

log = structlog.get_logger()
Result = TypeVar("Result")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between two tries to connect: a server comes back within half a minute or in hours."""
HEARTBEAT = 15
"""Seconds, unless the url says otherwise; a peer that is silent for three of them is gone."""


async def within(call: Awaitable[Result]) -> Result:
    """The answer of one call, or TimeoutError; ConnectionError when the library cancels it,
    as it does with what waits for a connection that ends."""
    try:
        return await asyncio.wait_for(call, ANSWER_WITHIN)
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        raise ConnectionError("the connection has ended") from error


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Link:
    """Both connections while they live, and their channels."""

    def __init__(
        self, publishing: AbstractConnection, consuming: AbstractConnection, names: Names
    ) -> None:
        self.names = names
        self._publishing = publishing
        self.consuming = consuming
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._channels: dict[tuple[AbstractConnection, str], AbstractChannel] = {}
        self._opening = asyncio.Lock()
        for connection in (publishing, consuming):
            connection.close_callbacks.add(self._on_close)

    async def channel(self, subject: str) -> AbstractChannel:
        """The channel of the leases that did not wait; a pool's own, because an error closes it,
        and for leases alone, because they end with it."""
        return await self._opened(self.consuming, subject)

    async def publish(self, exchange: str, messages: Sequence[tuple[str, Message]]) -> None:
        """Each for its subject; returns when the server has all of them on its disks."""
        channel = await self._opened(self._publishing, exchange)
        target = await channel.get_exchange(exchange, ensure=False)
        ends = await asyncio.gather(
            *(
                within(target.publish(message, subject, mandatory=True))
                for subject, message in messages
            ),
            return_exceptions=True,
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def fresh_channel(self) -> AbstractChannel:
        """A channel to be closed by the caller, with one message at a time for a consumer."""
        return await self._open(self.consuming)

    async def confirming_channel(self) -> AbstractChannel:
        """A channel to be closed by the caller, which publishes."""
        return await self._open(self._publishing)

    async def _opened(self, connection: AbstractConnection, name: str) -> AbstractChannel:
        async with self._opening:
            channel = self._channels.get((connection, name))
            if channel is None or channel.is_closed:
                channel = self._channels[connection, name] = await self._open(connection)
            return channel

    async def _open(self, connection: AbstractConnection) -> AbstractChannel:
        if self.lost.done():
            raise ConnectionError(self.lost.result())
        publishes = connection is self._publishing
        channel = connection.channel(publisher_confirms=publishes, on_return_raises=publishes)
        await within(channel.initialize())
        await within(channel.set_qos(prefetch_count=1))
        return channel

    async def close(self) -> None:
        """Of the other one, when one was lost."""
        for connection in (self._publishing, self.consuming):
            with suppress(TimeoutError):
                await within(connection.close())

    def _on_close(self, _: object, error: BaseException | None) -> None:
        if not self.lost.done():
            self.lost.set_result(str(error) or type(error).__name__)


class Connections:
    """The link, made again with growing pauses whenever it is lost."""

    def __init__(self, url: str) -> None:
        self.place = placed(url)
        self.names, self._url = names_of(URL(url))
        host, user = unquote(self._url.raw_path[1:]) or "/", self._url.user or "guest"
        self.user = f"user {user!r} in virtual host {host!r} of RabbitMQ at {self.place}"
        if "heartbeat" not in self._url.query:
            self._url = self._url.update_query(heartbeat=HEARTBEAT)
        self._link: Link | None = None
        self._latest: Link
        self._linked = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def open(self, prepare: Callable[[Link], Awaitable[object]]) -> AsyncIterator[None]:
        """Connected, prepared, and watched over; each later link is prepared again, because the
        server may have lost everything."""
        _quieten()
        link = self._latest = await self._connected()
        try:
            with as_ours(self.place):
                await prepare(link)
            self._renewed(link)
            watch = asyncio.create_task(self._watch(link, prepare))
            try:
                yield
            finally:
                self._link = None
                for task in (watch, *self._tasks):
                    task.cancel()
                await asyncio.gather(watch, *self._tasks, return_exceptions=True)
        finally:
            await self._latest.close()

    def link(self) -> Link:
        """Transient while there is none."""
        if self._link is None:
            raise Transient(f"RabbitMQ at {self.place} cannot be reached; trying again")
        return self._link

    async def linked(self) -> Link:
        """As soon as there is a link."""
        while self._link is None:
            await self._linked.wait()
        return self._link

    async def whole(self, work: Coroutine[Any, Any, Result]) -> Result:
        """`work` to its end, though the caller is cancelled: a call that is cut short costs its
        channel, and every lease on it."""
        return await self.ended(self.start(work))

    async def ended(self, task: asyncio.Task[Result]) -> Result:
        """Its result, or Transient when the bus is closed meanwhile."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            raise Transient(f"the connection to RabbitMQ at {self.place} is closed") from error

    def start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begin it; its errors are ours, and nobody has to wait for it."""
        task = asyncio.create_task(self._ours(work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _ours(self, work: Coroutine[Any, Any, Result]) -> Result:
        with as_ours(self.place):
            return await work

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # heard by whoever waited, if anybody still does

    async def _watch(self, link: Link, prepare: Callable[[Link], Awaitable[object]]) -> None:
        pause = FIRST_PAUSE
        while True:
            began = asyncio.get_running_loop().time()
            why = await link.lost
            self._link = None
            self._linked.clear()
            log.warning("bus.lost", place=self.place, reason=why)
            await link.close()
            if asyncio.get_running_loop().time() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE  # else it is the same trouble as before
            tries, again = 0, None
            while again is None:
                await asyncio.sleep(pause)
                pause, tries = min(2 * pause, LONGEST_PAUSE), tries + 1
                with suppress(MayflyError):
                    again = await self._reconnected(prepare)
            link = again
            self._renewed(link)
            log.info("bus.restored", place=self.place, tries=tries)

    async def _reconnected(self, prepare: Callable[[Link], Awaitable[object]]) -> Link:
        link = await self._connected()
        try:
            with as_ours(self.place):
                await prepare(link)
        except (InvalidSettings, Permanent) as error:
            # A pool whose queue is missing must not keep the others from theirs.
            log.error("bus.incomplete", place=self.place, reason=str(error))  # noqa: TRY400 - no bug
        except BaseException:
            await link.close()
            raise
        return link

    async def _connected(self) -> Link:
        with as_ours(self.place):
            publishing = await _connect(self._url)
            try:
                consuming = await _connect(self._url)
            except BaseException:
                await publishing.close()
                raise
            return Link(publishing, consuming, self.names)

    def _renewed(self, link: Link) -> None:
        self._link = self._latest = link
        self._linked.set()


class _Connection(aio_pika.Connection):
    """Closed when it could not connect: its destructor would have no loop to do it in."""

    async def connect(self, timeout: float | None = None) -> None:
        try:
            await super().connect(timeout)
        except BaseException:
            await self.close()
            raise


async def _connect(url: URL) -> AbstractConnection:
    return await aio_pika.connect(url, timeout=ANSWER_WITHIN, connection_class=_Connection)


def _quieten() -> None:
    """The libraries write a trace for each connection lost; `bus.lost` says it once."""
    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
