"""A line to a server: it can be cut and mended while the server goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"


class Line:
    """Carries what comes in at its own port to the server's, and back."""

    def __init__(self, server_port: int = 0, sockets: tuple[Path, Path] | None = None) -> None:
        """Or between two sockets in the file system: its own and the server's."""
        self._sockets = sockets
        self.server_port = server_port
        """May change: a server that begins again is at another one."""
        self.port = 0
        self._listener: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        """Calls go through."""
        if self._sockets is not None:
            ours, _ = self._sockets
            ours.unlink(missing_ok=True)
            self._listener = await asyncio.start_unix_server(self._answered, ours)
            return
        self._listener = await asyncio.start_server(self._answered, HOST, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Every call is gone without a word, at both ends, and no new one goes through."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in self._writers:
            writer.transport.abort()
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._sockets is not None:
            return await asyncio.open_unix_connection(self._sockets[1])
        return await asyncio.open_connection(HOST, self.server_port)

    def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.create_task(self._carry(reader, writer))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            self._writers.add(writer)
            theirs, ours = await self._connected()
            self._writers.add(ours)
            ends.append(ours)
            await asyncio.gather(_copied(reader, ours), _copied(theirs, writer))
        except OSError:
            pass  # the server is away, or one of the ends has gone: so is this call
        finally:
            for end in ends:
                self._writers.discard(end)
                end.transport.abort()


async def _copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(65_536):
        target.write(piece)
        await target.drain()
    with suppress(OSError):
        target.write_eof()


@asynccontextmanager
async def opened_line(
    server_port: int = 0, sockets: tuple[Path, Path] | None = None
) -> AsyncIterator[Line]:
    """A line to that port, or between two sockets, mended."""
    line = Line(server_port, sockets)
    await line.mend()
    try:
        yield line
    finally:
        await line.cut()
