"""The rows of launches in SQL; like all rows of a pool, they are that pool's to lock."""

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from mayfly.model.launches import Issued, LaunchId, LaunchPhase, LaunchRecord
from mayfly.store.locks import Locks
from mayfly.store.schema import launch as table
from mayfly.store.sql_rows import millis, time_of
from mayfly.store.statements import upsert

_put = upsert(table)
_find = sa.select(table).where(table.c.id == sa.bindparam("id"))
_of_token = sa.select(table).where(table.c.token == sa.bindparam("token"))
_of_pool = table.c.pool == sa.bindparam("pool")
_live = sa.select(table).where(_of_pool, table.c.phase != LaunchPhase.OVER.value)
_live_pools = sa.select(table.c.pool).where(table.c.phase != LaunchPhase.OVER.value).distinct()
_newest = sa.select(table).order_by(table.c.id.desc()).limit(sa.bindparam("most"))
_forget = sa.delete(table).where(
    table.c.phase == LaunchPhase.OVER.value, table.c.phase_at <= sa.bindparam("before")
)


class SqlLaunches:
    """Rows of the table `launch`."""

    def __init__(self, connection: Connection, locks: Locks) -> None:
        self._do = connection.execute
        self._locks = locks

    def find(self, launch: LaunchId) -> LaunchRecord | None:
        return self._one(_find, {"id": launch})

    def of_token(self, token: str) -> LaunchRecord | None:
        return self._one(_of_token, {"token": token})

    def live(self, pool: str) -> list[LaunchRecord]:
        self._locks.hold([pool])
        return [_launch_of(row) for row in self._do(_live.order_by(table.c.id), {"pool": pool})]

    def live_pools(self) -> set[str]:
        return set(self._do(_live_pools).scalars())

    def newest(self, limit: int, pool: str | None = None) -> list[LaunchRecord]:
        if pool is None:
            return [_launch_of(row) for row in self._do(_newest, {"most": limit})]
        rows = self._do(_newest.where(_of_pool), {"pool": pool, "most": limit})
        return [_launch_of(row) for row in rows]

    def put(self, launch: LaunchRecord) -> None:
        row = msgspec.structs.asdict(launch)
        row |= {
            "wanted_at": millis(launch.wanted_at),
            "phase": launch.phase.value,
            "tickets": msgspec.json.encode(launch.tickets).decode(),
        }
        self._do(_put, row)

    def forget(self, over_before: float) -> None:
        self._do(_forget, {"before": over_before})

    def _one(self, query: sa.Select[Any], by: dict[str, str]) -> LaunchRecord | None:
        row = self._do(query, by).first()
        if row is not None and self._locks.hold([row.pool]):
            row = self._do(query, by).first()
        return _launch_of(row) if row else None


def _launch_of(row: Row[Any]) -> LaunchRecord:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public spelling
    return LaunchRecord(
        **{
            **values,
            "wanted_at": time_of(row.wanted_at),
            "phase": LaunchPhase(row.phase),
            "tickets": msgspec.json.decode(row.tickets, type=tuple[Issued, ...]),
        }
    )
