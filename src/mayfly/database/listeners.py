"""Listeners: what other processes ring is heard over one connection that comes back when lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from asyncpg import Connection

from mayfly.database.servers import ERRORS

CHANNEL = "mayfly"
EVERYTHING = ""
"""Rung for every name."""
AGAIN_SECONDS = 1.0
"""Between two attempts to connect: as often as a bus without a listener looks."""
PROBE_SECONDS = 15.0
"""An idle connection does not notice that its server's machine is gone unless it asks."""

Hear = Callable[[str], None]


class Listener:
    """One connection, however many hear."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._hearing: list[Hear] = []
        self._task: asyncio.Task[None] | None = None
        self.hears = False

    @asynccontextmanager
    async def open(self, hear: Hear) -> AsyncIterator[None]:
        """`hear` is called while this is open; the connection is there as long as anybody hears."""
        self._hearing.append(hear)
        self._task = self._task or asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._hearing.remove(hear)
            if not self._hearing:
                task, self._task = self._task, None
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            with suppress(*ERRORS):
                await self._listen(await self._connect())
            await asyncio.sleep(AGAIN_SECONDS)

    async def _listen(self, connection: Connection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(CHANNEL, lambda *rung: self._tell(str(rung[-1])))
            self.hears = True
            self._tell(EVERYTHING)  # what was rung meanwhile was not heard
            while not lost.is_set():
                try:
                    async with asyncio.timeout(PROBE_SECONDS):
                        await lost.wait()
                except TimeoutError:
                    await connection.execute("SELECT 1")
        finally:
            self.hears = False
            connection.terminate()

    def _tell(self, name: str) -> None:
        for hear in self._hearing:
            hear(name)
