"""Long polls and streams: they end when their client goes or the server stops, not only in time."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from litestar.types import Receive

T = TypeVar("T")


class Waited(NamedTuple, Generic[T]):
    """What a wait came to; `gone` when nobody is there any more to get the result."""

    result: T | None
    gone: bool


class Waits:
    """The open waits of one server, which `end` ends all at once."""

    def __init__(self) -> None:
        self._ending = asyncio.Event()

    def end(self) -> None:
        """No wait lasts any longer, those that start later included."""
        self._ending.set()

    async def until(self, work: Coroutine[Any, Any, T | None], receive: Receive) -> Waited[T]:
        """The result of `work`, unless the client goes or the server stops before."""
        gone = asyncio.ensure_future(_gone(receive))
        working = asyncio.ensure_future(work)
        try:
            async with self._end() as end:
                await _first(working, gone, end)
        finally:
            await _cancelled(working, gone)
        # The work may have come to its result while it was being cancelled.
        return Waited(None if working.cancelled() else working.result(), _is_gone(gone))

    async def each(self, items: AsyncIterator[T], ping: timedelta) -> AsyncIterator[T | None]:
        """The items until the server stops, and None whenever there was none for `ping`."""
        seconds = ping.total_seconds()
        item = asyncio.ensure_future(_next(items))
        try:
            async with self._end() as end:
                while not end.done():
                    await _first(item, end, timeout=seconds)
                    if item.done():
                        yield item.result()
                        item = asyncio.ensure_future(_next(items))
                    elif not end.done():
                        yield None
        finally:
            await _cancelled(item)

    @asynccontextmanager
    async def _end(self) -> AsyncIterator[asyncio.Future[Any]]:
        end = asyncio.ensure_future(self._ending.wait())
        try:
            yield end
        finally:
            await _cancelled(end)


async def _first(*tasks: asyncio.Future[Any], timeout: float | None = None) -> None:
    await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_gone(gone: asyncio.Future[None]) -> bool:
    # A receive that fails is a client that is gone, too.
    return not gone.cancelled()


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)
