"""PostgreSQL, shared by any number of processes: a pool of connections, a transaction a step."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from sqlalchemy import URL, Connection, NullPool, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mayfly.database import servers
from mayfly.database.addresses import parsed
from mayfly.database.advisory import MIGRATING, SPACE, Crossed
from mayfly.database.leadership import Leadership
from mayfly.database.listeners import CHANNEL, Listener
from mayfly.database.migrations import migrate
from mayfly.database.rights import hindrances
from mayfly.model.errors import MayflyError

log = structlog.get_logger("mayfly")

T = TypeVar("T")

WRITERS = 8
"""Steps that write at once: most wait for one disk, and a process has one core to feed them."""
READERS = 4
"""Steps that read at once: questions of people and probes, which are short."""
POOL_SECONDS = 10.0
"""How long a step waits for a connection: the slowest statement of another."""
TRIES = 5
"""Of a step that met another transaction; by the fifth, two that met have passed each other."""
PAUSE_SECONDS = 0.02
"""Before the second try, on average, and twice as much before each further one."""
SAY_AGAIN_SECONDS = 60.0
"""What is refused is refused to every request, and said to the log so seldom."""
STATEMENTS = 500
"""Prepared statements a connection keeps: more than there are."""


class Database:
    """Steps at READ COMMITTED beside each other; what they decide on is locked by `store.locks`."""

    def __init__(self, url: str) -> None:
        address = parsed(url)
        self._server = servers.Server(address)
        self._writing = _engine(self._server.writing(), pool_size=WRITERS)
        self._reading = _engine(self._server.reading(), pool_size=READERS)
        self._leadership = Leadership(self._server.connect)
        self._listener = Listener(self._server.connect)
        self._works: set[asyncio.Task[Any]] = set()
        self._said: dict[str, float] = {}

    async def write(self, step: Callable[[Connection], T]) -> T:
        """`step` in a transaction; tried again from its beginning when it met another."""
        return await self._to_its_end(self._tried(self._writing, step))

    async def read(self, step: Callable[[Connection], T]) -> T:
        """`step` on one snapshot."""
        return await self._to_its_end(self._tried(self._reading, step))

    async def leads(self, period: timedelta) -> bool | None:
        """Whether this process holds the lock of the one that leads."""
        return await self._leadership.held(period)

    async def resign(self) -> None:
        """The lock is free."""
        await self._leadership.release()

    def ring(self, connection: Connection, names: Collection[str]) -> None:
        """By NOTIFY, which is sent with the commit; what does not fit rings every name."""
        fitting = {name if len(name.encode()) < LONGEST_NAME else "" for name in names}
        for name in sorted(fitting):
            connection.execute(select(func.pg_notify(CHANNEL, name)))

    @asynccontextmanager
    async def listening(self, hear: Callable[[str], None]) -> AsyncIterator[None]:
        """`hear` is called while this is open, and once with "" after a time of deafness."""
        async with self._listener.open(hear):
            yield

    @property
    def hears(self) -> bool:
        """Whether the listening connection is up."""
        return self._listener.hears

    async def close(self) -> None:
        """Transactions under way come to their end first."""
        while self._works:
            await asyncio.wait(self._works)
        await self._leadership.close()
        await self._writing.dispose()
        await self._reading.dispose()

    async def _to_its_end(self, work: Awaitable[T]) -> T:
        """A caller that gives up takes no transaction with it half way, and no connection."""
        task = asyncio.ensure_future(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        return await asyncio.shield(task)

    async def _tried(self, engine: AsyncEngine, step: Callable[[Connection], T]) -> T:
        pause = PAUSE_SECONDS
        for _ in range(TRIES - 1):
            try:
                return await self._once(engine, step)
            except servers.Met:
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
                pause *= 2
        try:
            return await self._once(engine, step)
        except servers.Met as met:
            raise met.told from met.told.__cause__

    async def _once(self, engine: AsyncEngine, step: Callable[[Connection], T]) -> T:
        committing = False
        try:
            async with engine.connect() as connection, _dropped_when_spent(connection):
                result = await connection.run_sync(step)
                committing = True
                await connection.commit()
                return result
        except Crossed as crossed:
            raise servers.Met(self._server.busy()) from crossed
        except servers.ERRORS as error:
            ours = self._server.told(error, committing=committing)
            if ours is None:
                raise
            if servers.is_refused(error):
                ours = await self._refused() or ours
                self._say(str(ours))
            raise ours from error

    async def _refused(self) -> MayflyError | None:
        """What is lacking, in words that PostgreSQL's own errors have not."""
        with suppress(*servers.ERRORS):
            async with self._reading.connect() as connection:
                if found := await connection.run_sync(hindrances):
                    return self._server.refused("; ".join(": ".join(one) for one in found))
        return None

    def _say(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said.get(reason, -SAY_AGAIN_SECONDS) >= SAY_AGAIN_SECONDS:
            self._said[reason] = now
            log.error("database.refused", reason=reason)


@asynccontextmanager
async def _dropped_when_spent(connection: AsyncConnection) -> AsyncIterator[None]:
    """The next one may be to another server: a primary that became a standby keeps its clients."""
    try:
        yield
    except servers.ERRORS as error:
        if servers.is_spent(error):
            await connection.invalidate()
        raise


LONGEST_NAME = 7_900
"""Bytes of a name that is sent with a ring: PostgreSQL takes less than 8,000."""


async def migrated(url: str) -> None:
    """The database has the newest schema; one process migrates, others wait for it."""
    server = servers.Server(parsed(url))
    engine = _engine(server.migrating(), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(SPACE, MIGRATING)))
            await connection.run_sync(migrate)
    except servers.ERRORS as error:
        raise server.unusable(error) from error
    finally:
        await engine.dispose()


async def looked(url: str, step: Callable[[Connection], T]) -> T:
    """What `step` reads there, without a migration before it."""
    server = servers.Server(parsed(url))
    engine = _engine(server.reading(), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(step)
    except servers.ERRORS as error:
        raise server.unusable(error) from error
    finally:
        await engine.dispose()


def _engine(arguments: dict[str, Any], **pool: Any) -> AsyncEngine:  # noqa: ANN401 - SQLAlchemy's
    if "pool_size" in pool:
        pool |= {"max_overflow": 0, "pool_timeout": POOL_SECONDS, "pool_use_lifo": True}
    return create_async_engine(
        URL.create("postgresql+asyncpg"),
        connect_args={**arguments, "prepared_statement_cache_size": STATEMENTS},
        hide_parameters=True,
        **pool,
    )
