"""The bus as a table of the ledger's database: nothing else to run."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from mayfly.database import Database, open_database
from mayfly.model.errors import Permanent
from mayfly.model.requests import LARGEST_MESSAGE, Message, decoded, encoded
from mayfly.ports import Bus, Clock, Lease

LEASE_TIME = timedelta(seconds=30)
"""A lease lasts from `lease` to the answer of a claim, about a second."""
KEPT_FOR = timedelta(days=7)
TIDY_EVERY = timedelta(minutes=10)
"""Messages past their time are not leased any more; removing them may wait."""
LOOK_EVERY = timedelta(seconds=1)
"""Another process that rings on the same file is heard so much later; our own rings at once."""

message = sa.Table(
    "message",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("published_at", sa.BigInteger, nullable=False),
    sa.Column("leased_until", sa.BigInteger, nullable=False),
    sa.Column("lease", sa.Text, unique=True),
)

_waiting = sa.and_(
    message.c.subject == sa.bindparam("subject_"),
    message.c.leased_until <= sa.bindparam("now"),
    message.c.published_at > sa.bindparam("oldest"),
)
_next = sa.select(message.c.id, message.c.body).where(_waiting).order_by(message.c.id).limit(1)
_depth = sa.select(sa.func.count()).select_from(message).where(_waiting)
_hold = (
    sa.update(message)
    .where(message.c.id == sa.bindparam("id_"))
    .values(lease=sa.bindparam("lease_"), leased_until=sa.bindparam("until"))
)
_held = sa.and_(
    message.c.lease == sa.bindparam("lease_"), message.c.leased_until > sa.bindparam("now")
)
_complete = sa.delete(message).where(_held)
_abandon = sa.update(message).where(_held).values(leased_until=0, lease=None)
_expire = sa.delete(message).where(message.c.published_at <= sa.bindparam("oldest"))


@asynccontextmanager
async def open_bus(url: str, clock: Clock) -> AsyncIterator[Bus]:
    """The bus in the database at `url`."""
    async with open_database(url) as database:
        yield SqlBus(database, clock)


class SqlBus:
    """A message waits while its lease's time is over; a lease is a row with a time."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._tidy_at = 0
        self._bells: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def publish(self, messages: Sequence[Message]) -> None:
        now = _millis(self._clock)
        bodies = [(one.subject, encoded(one)) for one in messages]
        if not bodies:
            return
        if any(len(body) > LARGEST_MESSAGE for _, body in bodies):
            raise Permanent(f"a message is larger than {LARGEST_MESSAGE} bytes")
        rows = [
            {
                "id": self._clock.new_id(),
                "subject": subject,
                "body": body,
                "published_at": now,
                "leased_until": 0,
            }
            for subject, body in bodies
        ]
        tidy = now >= self._tidy_at
        if tidy:
            self._tidy_at = now + _in_millis(TIDY_EVERY)

        def step(connection: Connection) -> None:
            if tidy:
                connection.execute(_expire, {"oldest": now - _in_millis(KEPT_FOR)})
            connection.execute(sa.insert(message), rows)

        await self._database.write(step)
        self._ring({one.subject for one in messages})

    async def lease(self, subject: str, wait: timedelta) -> Lease | None:
        deadline = asyncio.get_running_loop().time() + wait.total_seconds()
        while True:
            bell = self._bells[subject]
            if lease := await self._take(subject):
                return lease
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            try:
                async with asyncio.timeout(min(left, LOOK_EVERY.total_seconds())):
                    await bell.wait()
            except TimeoutError:
                continue

    async def complete(self, lease_id: str) -> None:
        await self._settle(_complete, lease_id)

    async def abandon(self, lease_id: str) -> None:
        await self._settle(_abandon, lease_id)
        self._ring(set(self._bells))

    async def depth(self, subject: str) -> int:
        values = {"subject_": subject, **self._now()}
        found = await self._database.read(
            lambda connection: connection.execute(_depth, values).scalar()
        )
        return found or 0

    async def _take(self, subject: str) -> Lease | None:
        lease_id = self._clock.new_id()
        now = self._now()
        values = {"subject_": subject, **now}
        if not await self._database.read(
            lambda connection: connection.execute(_depth, values).scalar()
        ):
            return None  # asked of the reader, so that a parked executor does not write

        def step(connection: Connection) -> bytes | None:
            row = connection.execute(_next, values).first()
            if row is None:
                return None
            until = now["now"] + _in_millis(LEASE_TIME)
            connection.execute(_hold, {"id_": row.id, "lease_": lease_id, "until": until})
            return bytes(row.body)

        body = await self._database.write(step)
        return Lease(lease_id, decoded(body)) if body is not None else None

    async def _settle(self, statement: sa.Update | sa.Delete, lease_id: str) -> None:
        values = {"lease_": lease_id, "now": _millis(self._clock)}
        await self._database.write(
            lambda connection: connection.execute(statement, values).rowcount
        )

    def _now(self) -> dict[str, int]:
        now = _millis(self._clock)
        return {"now": now, "oldest": now - _in_millis(KEPT_FOR)}

    def _ring(self, subjects: set[str]) -> None:
        """Wake every lease that waits; the next one waits on a fresh bell."""
        for subject in subjects:
            self._bells.pop(subject, asyncio.Event()).set()


def _millis(clock: Clock) -> int:
    return int(clock.now().timestamp() * 1000)


def _in_millis(time: timedelta) -> int:
    return int(time.total_seconds() * 1000)
