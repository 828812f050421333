"""An HTTP API of a platform's stand-in: real connections, and answers that get lost on purpose."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec


class Request(NamedTuple):
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body) if self.body else None


class Reply(NamedTuple):
    """What is answered; a body that is not bytes becomes JSON, and one that goes on is streamed."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


class Endpoint:
    """Answers as `answer` does; a test may have one request answered otherwise, or not at all."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.url = ""
        self.heard: list[Request] = []
        self.streaming = 0
        """Answers that go on now."""
        self._answer = answer
        self._port = 0
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._instead: list[tuple[str, str, Reply]] = []
        self._lost: list[tuple[str, str]] = []
        self._unheard: list[tuple[str, str]] = []

    def instead(self, method: str, ending: str, reply: Reply) -> None:
        """The next such request has no effect, and this answer."""
        self._instead.append((method, ending, reply))

    def lose(self, method: str, ending: str) -> None:
        """The next such request takes effect, and nobody hears the answer."""
        self._lost.append((method, ending))

    def miss(self, method: str, ending: str) -> None:
        """The connection breaks before the next such request has an effect."""
        self._unheard.append((method, ending))

    def told(self, method: str, ending: str) -> list[Request]:
        """Such requests so far."""
        return [each for each in self.heard if _is(each, method, ending)]

    async def open(self) -> None:
        """It answers, at the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def close(self) -> None:
        """Nobody is there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.create_task(self._serve(reader, writer))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read(reader)
        self.heard.append(request)
        if _taken(self._unheard, request):
            return False
        reply = self._reply(request)
        if _taken(self._lost, request):
            return False
        if isinstance(reply.body, AsyncGenerator):
            return await self._stream(reader, writer, reply.body)
        body = reply.body if isinstance(reply.body, bytes) else msgspec.json.encode(reply.body)
        if reply.body is None:
            body = b""
        headers = {"Content-Type": "application/json", **reply.headers}
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        head = f"HTTP/1.1 {reply.status} X\r\n{''.join(lines)}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        return True

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        parts: AsyncGenerator[bytes, None],
    ) -> bool:
        """Until it ends, breaks off by a ConnectionError, or nobody listens any more."""
        sending = asyncio.create_task(_sent(writer, parts))
        # Nobody asks for more on this connection before the answer is over.
        left = asyncio.create_task(reader.read(1))
        self.streaming += 1
        try:
            await asyncio.wait([sending, left], return_when=asyncio.FIRST_COMPLETED)
            return False
        finally:
            self.streaming -= 1
            sending.cancel()
            left.cancel()
            await asyncio.gather(sending, left, return_exceptions=True)

    def _reply(self, request: Request) -> Reply:
        for place, (method, ending, reply) in enumerate(self._instead):
            if _is(request, method, ending):
                del self._instead[place]
                return reply
        return self._answer(request)


@asynccontextmanager
async def serving(endpoint: Endpoint) -> AsyncIterator[Endpoint]:
    """It answers as long as the block lasts."""
    await endpoint.open()
    try:
        yield endpoint
    finally:
        await endpoint.close()


async def _sent(writer: asyncio.StreamWriter, parts: AsyncGenerator[bytes, None]) -> None:
    writer.write(b"HTTP/1.1 200 X\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
    async with aclosing(parts):
        async for part in parts:
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _is(request: Request, method: str, ending: str) -> bool:
    return request.method == method and request.path.endswith(ending)


def _taken(planned: list[tuple[str, str]], request: Request) -> bool:
    for place, (method, ending) in enumerate(planned):
        if _is(request, method, ending):
            del planned[place]
            return True
    return False


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    return Request(method, unquote(parts.path), dict(parse_qsl(parts.query)), headers, body)
