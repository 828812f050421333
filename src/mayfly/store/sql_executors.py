"""The executors' rows in SQL; like all rows of a pool, they are that pool's to lock."""

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from mayfly.model.executors import Executor
from mayfly.store.locks import Locks
from mayfly.store.schema import executor as table
from mayfly.store.sql_rows import millis, time_of
from mayfly.store.statements import upsert

_put = upsert(table)
_every = sa.select(table).order_by(table.c.pool, table.c.machine)
_here = sa.and_(table.c.pool == sa.bindparam("pool"), table.c.machine == sa.bindparam("machine"))
_find = sa.select(table).where(_here)
_drop = sa.delete(table).where(_here)
_forget = sa.delete(table).where(table.c.reason == "", table.c.heard_at <= sa.bindparam("before"))


class SqlExecutors:
    """Rows of the table `executor`."""

    def __init__(self, connection: Connection, locks: Locks) -> None:
        self._do = connection.execute
        self._locks = locks

    def find(self, pool: str, machine: str) -> Executor | None:
        self._locks.hold([pool])
        row = self._do(_find, {"pool": pool, "machine": machine}).first()
        return executor_of(row) if row else None

    def every(self, pool: str | None) -> list[Executor]:
        if pool is not None:
            self._locks.hold([pool])
            return self._rows(_every.where(table.c.pool == pool))
        found = self._rows(_every)
        while self._locks.hold(executor.pool for executor in found):
            found = self._rows(_every)
        return found

    def put(self, executor: Executor) -> None:
        row = msgspec.structs.asdict(executor)
        self._do(_put, {**row, "seen_at": millis(executor.seen_at)})

    def drop(self, executor: Executor) -> None:
        self._do(_drop, {"pool": executor.pool, "machine": executor.machine})

    def forget(self, heard_before: float) -> None:
        self._do(_forget, {"before": heard_before})

    def _rows(self, query: sa.Select[Any]) -> list[Executor]:
        return [executor_of(row) for row in self._do(query)]


def executor_of(row: Row[Any]) -> Executor:
    """The executor in a row."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public spelling
    return Executor(**{**values, "seen_at": time_of(row.seen_at)})
