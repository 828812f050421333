"""Leadership: of the processes on one PostgreSQL, the one whose session holds a lock leads."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from asyncpg import Connection

from mayfly.database.advisory import LEADING, SPACE
from mayfly.database.servers import ERRORS
from mayfly.model.errors import Transient

LONGEST_PERIOD = timedelta(days=1)
"""PostgreSQL counts its time-outs in milliseconds, of which 24 days fit."""

_TRY = "SELECT pg_try_advisory_lock($1, $2), set_config('idle_session_timeout', $3, false)"
"""A process that hangs keeps its connection; one that does not ask for so long loses it."""


class Leadership:
    """The lock and its connection are one: when either is lost, so is the other."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._held = False
        self._asking = asyncio.Lock()

    async def held(self, period: timedelta) -> bool:
        """Whether the lock is ours, asked of the server; Transient when it does not answer."""
        async with self._asking:
            if self._connection is not None and self._connection.is_closed():
                self._drop()
            try:
                return await self._ask(3 * min(period, LONGEST_PERIOD))
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
        return self._held

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection, self._held = None, False
