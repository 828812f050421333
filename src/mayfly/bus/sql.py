"""The bus as a table of the ledger's database: nothing else to run."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from mayfly.database import Database, Schema, inspect, open_database
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.requests import (
    KEPT_FOR,
    LARGEST_DELIVERIES,
    LEASE_TIME,
    Dead,
    Lease,
    Message,
    Waiting,
    decoded,
    legible,
    overdelivered,
    sized,
)
from mayfly.ports import Clock, OperableBus

TIDY_EVERY = timedelta(minutes=10)
"""Messages past their time are not leased any more; removing them may wait."""
LOOK_EVERY = timedelta(seconds=1)
"""Another process that rings on the same file is heard so much later; our own rings at once."""
LOOK_RARELY = timedelta(seconds=10)
"""Where rings of other processes are heard, only a lease whose time is over makes no sound."""

message = sa.Table(
    "message",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("published_at", sa.BigInteger, nullable=False),
    sa.Column("leased_until", sa.BigInteger, nullable=False),
    sa.Column("lease", sa.Text, unique=True),
    sa.Column("deliveries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("misread", sa.Text),
)

_kept = sa.and_(
    message.c.subject == sa.bindparam("subject_"),
    message.c.leased_until <= sa.bindparam("now"),
    message.c.published_at > sa.bindparam("oldest"),
)
_is_alive = sa.and_(message.c.misread.is_(None), message.c.deliveries < LARGEST_DELIVERIES)
_waiting = sa.and_(_kept, _is_alive)
_is_dead = sa.and_(_kept, sa.not_(_is_alive))
_next = (
    sa.select(message.c.id, message.c.body)
    .where(_waiting)
    .order_by(message.c.id)
    .limit(1)
    .with_for_update(skip_locked=True)  # SQLite has one writer, and leaves it out
)
_depth = sa.select(sa.func.count()).select_from(message).where(_waiting)
_peek = sa.select(message).where(_waiting).order_by(message.c.id).limit(sa.bindparam("most"))
_drain = sa.delete(message).where(_waiting)
_dead = sa.select(message).where(_is_dead).order_by(message.c.id).limit(sa.bindparam("most"))
_requeue = sa.update(message).where(_is_dead).values(deliveries=0, misread=None)
_hold = (
    sa.update(message)
    .where(message.c.id == sa.bindparam("id_"))
    .values(
        lease=sa.bindparam("lease_"),
        leased_until=sa.bindparam("until"),
        deliveries=message.c.deliveries + 1,
    )
)
_bury = (
    sa.update(message)
    .where(message.c.id == sa.bindparam("id_"))
    .values(misread=sa.bindparam("reason"))
)
_held = sa.and_(
    message.c.lease == sa.bindparam("lease_"), message.c.leased_until > sa.bindparam("now")
)
_complete = sa.delete(message).where(_held)
_abandon = sa.update(message).where(_held).values(leased_until=0, lease=None)
_expire = sa.delete(message).where(message.c.published_at <= sa.bindparam("oldest"))


@asynccontextmanager
async def open_bus(
    url: str, clock: Clock, subjects: Sequence[str], *, declares: bool = True
) -> AsyncIterator[OperableBus]:
    """The bus in the database at `url`; it takes every subject."""
    del subjects
    if not declares and (await inspect(url)).schema is not Schema.CURRENT:
        raise InvalidSettings(
            "the database of the bus lacks this version's schema; "
            "start the control plane or run `mayfly bus declare`"
        )
    async with open_database(url) as database:
        bus = SqlBus(database, clock)
        async with database.listening(bus.rung):
            yield bus


async def declare(url: str, subjects: Sequence[str]) -> list[str]:
    """The table comes with the database's migrations."""
    del subjects
    async with open_database(url):
        return ["the bus is a table of the database, and it is there"]


class SqlBus:
    """A message waits while its lease's time is over; a lease is a row with a time."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._tidy_at = 0
        self._bells: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def publish(self, messages: Sequence[Message]) -> None:
        await self.put(sized(messages))

    async def put(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        """Bodies as they come, ours or not, each for a subject."""
        if not bodies:
            return
        now = _millis(self._clock)
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
            self._database.ring(connection, {subject for subject, _ in bodies})

        await self._database.write(step)
        self._ring({subject for subject, _ in bodies})

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
                async with asyncio.timeout(min(left, self._look_again())):
                    await bell.wait()
            except TimeoutError:
                continue

    async def complete(self, lease_id: str) -> None:
        await self._settle(_complete, lease_id)

    async def abandon(self, lease_id: str) -> None:
        await self._settle(_abandon, lease_id)
        self._ring(set(self._bells))

    def rung(self, subject: str) -> None:
        """Another process rang; "" for every subject."""
        self._ring({subject} if subject else set(self._bells))

    async def depth(self, subject: str) -> int:
        values = self._about(subject)
        return await self._database.read(lambda connection: _count(connection, values))

    async def peek(self, subject: str, limit: int) -> list[Waiting]:
        rows = await self._look(_peek, subject, limit)
        return [Waiting(legible(row.body), _time(row.published_at)) for row in rows]

    async def drain(self, subject: str) -> int:
        values = self._about(subject)
        return await self._database.write(
            lambda connection: connection.execute(_drain, values).rowcount
        )

    async def dead(self, subject: str, limit: int) -> list[Dead]:
        rows = await self._look(_dead, subject, limit)
        return [
            Dead(
                legible(row.body),
                row.misread or overdelivered(row.deliveries),
                _time(row.published_at),
            )
            for row in rows
        ]

    async def requeue(self, subject: str) -> int:
        values = self._about(subject)

        def step(connection: Connection) -> int:
            self._database.ring(connection, [subject])
            return connection.execute(_requeue, values).rowcount

        count = await self._database.write(step)
        self._ring({subject})
        return count

    async def _look(self, query: sa.Select[Any], subject: str, limit: int) -> Sequence[sa.Row[Any]]:
        values = {**self._about(subject), "most": limit}
        return await self._database.read(lambda connection: connection.execute(query, values).all())

    async def _take(self, subject: str) -> Lease | None:
        lease_id = self._clock.new_id()
        values = self._about(subject)
        if not await self._database.read(lambda connection: _count(connection, values)):
            return None  # asked of the reader, so that a parked executor does not write
        until = values["now"] + _in_millis(LEASE_TIME)

        def step(connection: Connection) -> Message | None:
            while row := connection.execute(_next, values).first():
                try:
                    found = decoded(bytes(row.body))
                except Permanent as error:
                    connection.execute(_bury, {"id_": row.id, "reason": str(error)})
                    continue
                connection.execute(_hold, {"id_": row.id, "lease_": lease_id, "until": until})
                return found
            return None

        found = await self._database.write(step)
        return Lease(lease_id, found) if found is not None else None

    async def _settle(self, statement: sa.Update | sa.Delete, lease_id: str) -> None:
        values = {"lease_": lease_id, "now": _millis(self._clock)}

        def step(connection: Connection) -> None:
            connection.execute(statement, values)
            if statement is _abandon:
                self._database.ring(connection, [""])

        await self._database.write(step)

    def _look_again(self) -> float:
        return (LOOK_RARELY if self._database.hears else LOOK_EVERY).total_seconds()

    def _about(self, subject: str) -> dict[str, Any]:
        now = _millis(self._clock)
        return {"subject_": subject, "now": now, "oldest": now - _in_millis(KEPT_FOR)}

    def _ring(self, subjects: set[str]) -> None:
        """Wake every lease that waits; the next one waits on a fresh bell."""
        for subject in subjects:
            self._bells.pop(subject, asyncio.Event()).set()


def _count(connection: Connection, values: dict[str, Any]) -> int:
    return connection.execute(_depth, values).scalar() or 0


def _time(stored: int) -> datetime:
    return datetime.fromtimestamp(stored / 1000, UTC)


def _millis(clock: Clock) -> int:
    return int(clock.now().timestamp() * 1000)


def _in_millis(time: timedelta) -> int:
    return int(time.total_seconds() * 1000)
