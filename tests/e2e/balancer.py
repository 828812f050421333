"""A load balancer in front of several control planes: by connection, without sticky sessions."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Balancer:
    """Each connection goes to the next control plane that listens."""

    def __init__(self, urls: Sequence[str]) -> None:
        addresses = [urlsplit(url) for url in urls]
        self._targets = [(str(url.hostname), int(url.port or 80)) for url in addresses]
        self._turn = itertools.count()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        target = await self._connected()
        if target is None:
            writer.transport.abort()
            return
        there, back = target
        ways = [
            asyncio.create_task(_passed_on(reader, back)),
            asyncio.create_task(_passed_on(there, writer)),
        ]
        try:
            # Whoever goes first, the connection is over for both.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (back, writer):
                end.transport.abort()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        first = next(self._turn)
        for number in range(len(self._targets)):
            host, port = self._targets[(first + number) % len(self._targets)]
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(host, port)
        return None


async def _passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while some := await reader.read(65_536):
            writer.write(some)
            await writer.drain()


@asynccontextmanager
async def balancer(urls: Sequence[str]) -> AsyncIterator[str]:
    """The address of a balancer over `urls`."""
    server = await asyncio.start_server(Balancer(urls), "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()
