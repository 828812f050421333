"""Hosting: an application that opens what it needs by itself, once somebody asks for it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final, cast

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import LifeSpanReceive, LifeSpanSend, Receive, Scope, Send

from mayfly.model.errors import InvalidSettings, MayflyError, Transient
from mayfly.ports import Clock
from mayfly.web import problems
from mayfly.web.app import Front

PATIENCE: Final = timedelta(seconds=8)
"""Of a request for what is still being opened; GitHub gives up after 10 s."""

log = structlog.get_logger()

Opening = Callable[[], AbstractAsyncContextManager[Front]]


class Hosted:
    """Answers 503 as long as it cannot be opened, and tries again with the next request.

    So neither a bus that is away nor a host that never says when it starts keeps it from working
    later. One task opens and closes it, because the contexts in it belong to a task.
    """

    def __init__(self, opening: Opening, clock: Clock, patience: timedelta = PATIENCE) -> None:
        self._opening = opening
        self._clock = clock
        self._patience = patience
        self._front: asyncio.Future[Front] | None = None
        self._holding: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the application's lifespan, as ASGI."""
        if scope["type"] != ScopeType.HTTP:
            await self._live(cast("LifeSpanReceive", receive), cast("LifeSpanSend", send))
            return
        try:
            front = await self._opened()
        except MayflyError as error:
            await _refuse(send, error, self._clock)
        else:
            await front(scope, receive, send)

    def end_waits(self) -> None:
        """Nothing waits here for long."""

    async def start(self) -> None:
        """Try to open it before anybody asks; InvalidSettings when it can never work."""
        try:
            await self._opened()
        except Transient as error:
            log.warning("reflector.waiting", reason=str(error))

    async def close(self) -> None:
        """Everything it has opened is closed."""
        self._ending.set()
        if self._holding is not None:
            await self._holding

    async def _live(self, receive: LifeSpanReceive, send: LifeSpanSend) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            try:
                await self.start()
            except InvalidSettings as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _opened(self) -> Front:
        """The application; Transient while it cannot be opened."""
        if self._front is None or _has_failed(self._front):
            self._front = asyncio.get_running_loop().create_future()
            self._holding = asyncio.create_task(self._hold(self._front))
        if self._front.done():  # nearly always
            return self._front.result()
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                return await asyncio.shield(self._front)
        except TimeoutError as error:
            raise Transient("what the edge reflector needs is still being opened") from error

    async def _hold(self, front: "asyncio.Future[Front]") -> None:
        """Open it, and keep it open until the end."""
        try:
            async with self._opening() as opened:
                front.set_result(opened)
                await self._ending.wait()
        except Exception as error:  # top of the task: whoever asks is told
            if not front.done():
                front.set_exception(error)
                front.exception()  # noted, though nobody may wait for it any more
                return
            log.exception("reflector.stumbled")


def _has_failed(front: "asyncio.Future[Front]") -> bool:
    return front.done() and (front.cancelled() or front.exception() is not None)


async def _refuse(send: Send, error: MayflyError, clock: Clock) -> None:
    """503 whatever it was: the delivery has not been taken, and may be later."""
    away = error if isinstance(error, Transient) else Transient("this edge reflector cannot start")
    if away is not error:
        log.error("reflector.unopened", reason=str(error))
    problem = problems.of_error(away)
    retry_after = problems.headers_of(away, clock.now())["Retry-After"].encode()
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"retry-after", retry_after),
        (b"connection", b"close"),
    ]
    body = msgspec.json.encode(problem)
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 503, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
