"""Leadership: of the processes on one PostgreSQL, the one whose session holds a lock leads."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from asyncpg import Connection

from mayfly.database.advisory import LEADING, SPACE
from mayfly.database.servers import ERRORS
from mayfly.model.errors import Transient

LONGEST_PERIOD = timedelta(days=1)
"""PostgreSQL counts its time-outs in milliseconds, of which 24 days fit."""

HANGS = timedelta(seconds=8)
"""A leader whose process or network stands still for so long is followed by another: with the 5 s
between two questions of that one, within 15 s. It speaks four times as often."""

_TRY = "SELECT pg_try_advisory_lock($1, $2), set_config('idle_session_timeout', $3, false)"
"""A process that stands still keeps its connection; the server ends a session that is silent."""


class Leadership:
    """The lock and its connection are one: when either is lost, so is the other.

    Between two turns the session speaks by itself, but not for one that has no turns any more.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], hangs: timedelta = HANGS
    ) -> None:
        self._connect = connect
        self._hangs = hangs
        self._connection: Connection | None = None
        self._held = False
        self._asking = asyncio.Lock()
        self._until = 0.0
        self._speaking: asyncio.Task[None] | None = None

    async def held(self, period: timedelta) -> bool:
        """Whether the lock is ours, asked of the server; Transient when it does not answer."""
        async with self._asking:
            if self._connection is not None and self._connection.is_closed():
                self._drop()
            patience = 3 * min(period, LONGEST_PERIOD)
            self._until = asyncio.get_running_loop().time() + patience.total_seconds()
            try:
                return await self._ask(min(patience, self._hangs))
            except ERRORS as error:
                self._drop()
                raise Transient(
                    f"the database does not say who leads: {error or type(error).__name__}"
                ) from error

    async def release(self) -> None:
        """Another session gets it at once."""
        async with self._asking:
            if self._connection is None or not self._held:
                return
            try:
                await self._connection.execute("SELECT pg_advisory_unlock_all()")
                self._held = False
            except ERRORS:
                self._drop()

    async def close(self) -> None:
        """The session ends, and with it the lead."""
        await self.release()
        self._drop()

    async def _ask(self, patience: timedelta) -> bool:
        if self._connection is None:
            self._connection = await self._connect()
        if self._held:
            await self._connection.execute("SELECT 1")
            return True
        milliseconds = str(max(1, int(patience.total_seconds() * 1000)))
        self._held = bool(await self._connection.fetchval(_TRY, SPACE, LEADING, milliseconds))
        if self._held:
            self._hush()
            self._speaking = asyncio.create_task(self._speak(patience.total_seconds() / 4))
        return self._held

    async def _speak(self, every: float) -> None:
        loop = asyncio.get_running_loop()
        with suppress(*ERRORS):  # whoever asks next finds it closed
            while loop.time() + every < self._until:
                await asyncio.sleep(every)
                async with self._asking:
                    if self._connection is None or not self._held:
                        return
                    await self._connection.execute("SELECT 1")

    def _hush(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
        self._speaking = None

    def _drop(self) -> None:
        self._hush()
        if self._connection is not None:
            self._connection.terminate()
        self._connection, self._held = None, False
