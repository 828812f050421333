"""The store in SQL: the ledger's tables and the access rules of one database."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from mayfly.database import Database, open_database
from mayfly.model.access import Scope
from mayfly.model.changes import PoolUse
from mayfly.model.deadlines import Deadlines
from mayfly.model.deliveries import LogPosition
from mayfly.model.demand import Demand, DemandGroup
from mayfly.model.jobs import GroupId, InstallationId, JobId, JobKey, WorkflowJob
from mayfly.model.releases import Release, Version
from mayfly.model.repositories import Repository
from mayfly.model.runners import Claim, ClaimId, Registration
from mayfly.ports import AccessRules, Clock, Ledger
from mayfly.store import schema
from mayfly.store import statements as sql
from mayfly.store.access import SqlAccessRules
from mayfly.store.ledger import TransactionalLedger
from mayfly.store.locks import Locks, NoLocks, Wants, locks_of
from mayfly.store.sql_executors import SqlExecutors
from mayfly.store.sql_launches import SqlLaunches
from mayfly.store.sql_rows import (
    claim_of,
    claim_row,
    group_of,
    job_of,
    job_row,
    maybe_time_of,
    millis,
    new_group,
    pool_of,
    registration_of,
    time_of,
)
from mayfly.store.tables import ClockRow, Counts, MachineRow, Tables

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_UNBOUNDED = 2**31 - 1
_FIRST = -(2**63)


@asynccontextmanager
async def open_store(
    url: str, clock: Clock, deadlines: Deadlines
) -> AsyncIterator[tuple[Ledger, AccessRules]]:
    """The store in the database at `url`, migrated to the newest schema."""
    async with open_database(url) as database:
        ledger = TransactionalLedger(SqlTransactions(database), clock, deadlines)
        yield ledger, SqlAccessRules(database, clock)


class SqlTransactions:
    """Steps of the ledger on the database's writer and reader."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, step: Callable[[Tables], T]) -> T:
        wants = Wants()
        return await self._database.write(
            lambda connection: step(SqlTables(connection, locks_of(connection, wants)))
        )

    async def read(self, step: Callable[[Tables], T]) -> T:
        return await self._database.read(lambda connection: step(SqlTables(connection, NoLocks())))

    async def leads(self, period: timedelta) -> bool | None:
        return await self._database.leads(period)

    async def resign(self) -> None:
        await self._database.resign()


class SqlTables:
    """Rows of the SQL tables; counters move by guarded increments."""

    def __init__(self, connection: Connection, locks: Locks) -> None:
        self._connection = connection
        self._do = connection.execute
        self._locks = locks
        self.executors = SqlExecutors(connection, locks)
        self.launches = SqlLaunches(connection, locks)

    def hold(
        self, *, pools: Collection[str] = (), jobs: Collection[JobId] = (), clock: bool = False
    ) -> None:
        self._locks.hold(pools, jobs)
        if clock:
            self._locks.hold_clock()

    def clock(self) -> ClockRow:
        row = self._do(sa.select(schema.clock)).first()
        if row is None:
            return ClockRow()
        log_at = maybe_time_of(row.log_at)
        return ClockRow(
            row.ledger_seconds,
            maybe_time_of(row.last_tick),
            row.leader,
            maybe_time_of(row.leader_until),
            LogPosition(row.log_position, log_at) if log_at else None,
        )

    def put_clock(self, row: ClockRow) -> None:
        position = row.log_position
        self._do(
            sql.put_clock,
            {
                "id": 1,
                "ledger_seconds": row.ledger_seconds,
                "last_tick": row.last_tick and millis(row.last_tick),
                "leader": row.leader,
                "leader_until": row.leader_until and millis(row.leader_until),
                "log_position": position and position.id,
                "log_at": position and millis(position.at),
            },
        )

    def attempts(self, ids: Collection[JobId]) -> dict[JobKey, WorkflowJob]:
        def read() -> list[WorkflowJob]:
            return [job_of(facts) for (facts,) in sql.get_attempts.rows(self._connection, ids)]

        found = self._sure(read, pool_of, ids)
        return {job.key: job for job in found}

    def put_jobs(self, jobs: Sequence[WorkflowJob]) -> None:
        sql.put_job_many.run(self._connection, [job_row(job) for job in jobs])

    def newest_jobs(self, limit: int, pool: str | None) -> list[WorkflowJob]:
        query = sa.select(schema.job.c.facts)
        if pool is not None:
            query = query.where(schema.job.c.pool == pool)
        newest = query.order_by(
            schema.job.c.received_at.desc(), schema.job.c.id.desc(), schema.job.c.attempt.desc()
        )
        return self._jobs(newest.limit(limit))

    def queued_jobs(self, limit: int, after: JobKey | None) -> list[WorkflowJob]:
        first = after or (-1, 0)
        return self._jobs(sql.queued_jobs, id=first[0], attempt=first[1], most=limit)

    def pending_jobs(self, limit: int) -> list[WorkflowJob]:
        return self._jobs(sql.pending_jobs, most=limit)

    def ahead(self, job: WorkflowJob) -> int:
        place = {"group": job.group, "at": millis(job.event.created_at)}
        return self._number(sql.ahead, {**place, "id": job.key.id, "attempt": job.key.attempt})

    def oldest_queued(self, group: GroupId, limit: int) -> list[WorkflowJob]:
        return self._jobs(sql.oldest_queued, group=group, most=limit)

    def due_jobs(self, at: float, limit: int, *, running: bool) -> list[WorkflowJob]:
        query = sql.due_running if running else sql.due_waiting
        return self._jobs(query, at=at, most=limit)

    def forget_jobs(self, at: float, limit: int) -> int:
        return self._do(sql.forget_jobs, {"at": at, "most": limit}).rowcount

    def repositories(self, since: datetime) -> list[Repository]:
        rows = self._do(sql.repositories, {"since": millis(since)})
        return [Repository(InstallationId(row[0]), row[1], row[2]) for row in rows]

    def add_queued(self, changes: Sequence[tuple[Demand, int]], at: float) -> None:
        self._locks.hold(demand.pool for demand, _ in changes)
        rows: dict[GroupId, dict[str, Any]] = {}
        for demand, change in changes:  # one group may be spelled in more than one way
            row = rows.setdefault(demand.group, new_group(demand, 0, at))
            row["queued"] += change
        sql.add_queued_many.run(self._connection, list(rows.values()))

    def add_counts(self, changes: Sequence[Counts], at: float) -> None:
        self._do(
            sql.add_counts,
            [
                {
                    "group": change.group,
                    "queued_change": change.queued,
                    "supply_change": change.supply,
                    "sure_change": change.sure,
                    "at": at,
                }
                for change in changes
            ],
        )

    def take_supply(self, group: GroupId) -> bool:
        return self._do(sql.take_supply, {"group": group}).rowcount > 0

    def put_health(self, group: DemandGroup) -> None:
        self._do(
            sql.put_health,
            {
                "group": group.id,
                "fails": group.fails,
                "failed_on": _encode(group.failed_on).decode(),
                "retry_at": group.retry_at,
                "trouble": group.trouble,
                "stalled": group.stalled,
            },
        )

    def forgive(self, group: GroupId) -> bool:
        return self._do(sql.forgive, {"group": group}).rowcount > 0

    def group_after(self, group: GroupId | None) -> DemandGroup | None:
        return self._group(sql.group_after, after=_FIRST if group is None else group)

    def count_queued(self, group: GroupId) -> int:
        return self._number(sql.count_queued, {"group": group})

    def drop_unused_groups(self) -> None:
        self._do(sql.drop_unused_groups)

    def scopes(self, since: datetime) -> list[tuple[InstallationId, Scope]]:
        rows = self._do(sql.scopes, {"since": millis(since)})
        return [(InstallationId(row[0]), Scope(row[1])) for row in rows]

    def troubled_groups(self, installation: InstallationId) -> list[DemandGroup]:
        return self._groups(sql.troubled_groups, installation=installation)

    def stalled_groups(self, limit: int) -> list[DemandGroup]:
        return self._groups(sql.stalled_groups, most=limit)

    def group(self, group: GroupId) -> DemandGroup | None:
        return self._group(sa.select(schema.grp).where(schema.grp.c.id == group))

    def next_group(
        self, pool: str, variants: Sequence[str | None] | None, per_owner: int | None, at: float
    ) -> DemandGroup | None:
        who: dict[str, Any] = {
            "pool": pool,
            "at": at,
            "per_owner": _UNBOUNDED if per_owner is None else per_owner,
        }
        if variants is None:
            return self._group(sql.next_group, **who)
        chosen = [variant or "" for variant in variants]
        return self._group(sql.next_group_of, **who, variants=chosen)

    def surplus_groups(self, since: float, limit: int) -> list[DemandGroup]:
        return self._groups(sql.surplus_groups, since=since, most=limit)

    def take_slot(self, pool: str, maximum: int) -> bool:
        wanted = {"pool": pool, "maximum": maximum}
        if self._do(sql.take_slot, wanted).rowcount > 0:
            return True
        made = self._do(sql.add_pool, {"pool": pool}).rowcount > 0
        return made and self._do(sql.take_slot, wanted).rowcount > 0

    def add_use(self, pool: str, owner: str | None, change: int) -> None:
        if owner is None:
            self._do(sql.use_pool, {"pool": pool, "change": change})
        else:
            self._do(sql.use_owner, {"pool": pool, "owner": owner, "used": change})

    def use(self, pool: str, at: float) -> PoolUse:
        row = self._do(sql.pool_use, {"pool": pool, "at": at}).one()
        return PoolUse(*(int(number or 0) for number in row))

    def pools(self, at: float) -> dict[str, PoolUse]:
        names = self._do(sa.select(schema.grp.c.pool).distinct().order_by(schema.grp.c.pool))
        return {name: self.use(name, at) for (name,) in names.all()}

    def used_by(self, pool: str) -> list[Claim]:
        return [claim for claim in self._claims(sql.used_by, {"pool": pool}) if claim.used]

    def owners_of(self, pool: str) -> dict[str, int]:
        return {row.owner: row.used for row in self._do(sql.owners_of, {"pool": pool})}

    def claim(self, claim: ClaimId) -> Claim | None:
        return self._claim(schema.claim.c.id == claim)

    def claim_of_key(self, key: str) -> Claim | None:
        return self._claim(schema.claim.c.key == key)

    def put_claim(self, claim: Claim) -> None:
        self._do(sql.put_claim, claim_row(claim))

    def live_of_machine(self, machine: str) -> list[Claim]:
        return self._claims(
            sa.select(schema.claim)
            .where(sql.IS_LIVE, schema.claim.c.machine == machine)
            .order_by(schema.claim.c.id)
        )

    def live_of_group(self, group: GroupId) -> list[Claim]:
        return self._claims(
            sa.select(schema.claim)
            .where(sql.IS_LIVE, schema.claim.c.grp == group)
            .order_by(schema.claim.c.id.desc())
        )

    def silent(self, heard_before: float, limit: int) -> list[Claim]:
        return self._claims(sql.silent, {"before": heard_before, "most": limit})

    def due_claims(self, at: float, limit: int) -> list[Claim]:
        return self._claims(sql.due_claims, {"at": at, "most": limit})

    def forget_claims(self, at: float, limit: int) -> int:
        return self._do(sql.forget_claims, {"at": at, "most": limit}).rowcount

    def newest_claims(self, limit: int, *, live: bool, pool: str | None = None) -> list[Claim]:
        query = sa.select(schema.claim).order_by(schema.claim.c.id.desc()).limit(limit)
        if pool is not None:
            query = query.where(schema.claim.c.pool == pool)
        return self._claims(query.where(sql.IS_LIVE) if live else query)

    def registration(self, name: str) -> Registration | None:
        found = self._registrations(sql.registrations.where(schema.registration.c.name == name))
        return found[0] if found else None

    def registrations_of(self, claim: ClaimId) -> list[Registration]:
        return self._registrations(sql.registrations.where(schema.registration.c.claim == claim))

    def put_registration(self, registration: Registration) -> None:
        self._do(sql.put_registration, msgspec.structs.asdict(registration))

    def drop_registration(self, name: str) -> None:
        self._do(sa.delete(schema.registration).where(schema.registration.c.name == name))

    def due_registrations(self, at: float, limit: int) -> list[Registration]:
        return self._registrations(sql.due_registrations, at=at, most=limit)

    def unreached(self, installation: InstallationId) -> list[Registration]:
        return self._registrations(sql.unreached, installation=installation)

    def registrations(self) -> list[Registration]:
        return self._registrations(sql.registrations)

    def machine(self, machine: str) -> MachineRow:
        row = self._do(sa.select(schema.machine).where(schema.machine.c.id == machine)).first()
        return MachineRow(row.fails, row.until) if row else MachineRow()

    def put_machine(self, machine: str, row: MachineRow) -> None:
        if row.fails:
            self._do(sql.put_machine, {"id": machine, "fails": row.fails, "until": row.until})
        else:
            self._do(sa.delete(schema.machine).where(schema.machine.c.id == machine))

    def forget_machines(self, at: float) -> None:
        self._do(sql.forget_machines, {"at": at})

    def add_release(self, release: Release) -> None:
        version = release.version._asdict()
        self._do(sql.add_release, {**version, "seen_at": millis(release.seen_at)})

    def releases(self) -> list[Release]:
        rows = self._do(sql.releases)
        return [Release(Version(*numbers), time_of(seen_at)) for *numbers, seen_at in rows]

    def _jobs(self, query: sa.Select[Any], **values: Any) -> list[WorkflowJob]:  # noqa: ANN401 - bound as they are
        return [job_of(facts) for (facts,) in self._do(query, values)]

    def _number(self, query: sa.Select[Any], values: dict[str, Any]) -> int:
        return int(self._do(query, values).scalar() or 0)

    def _claim(self, condition: sa.ColumnElement[bool]) -> Claim | None:
        found = self._claims(sa.select(schema.claim).where(condition))
        return found[0] if found else None

    def _claims(self, query: sa.Select[Any], values: dict[str, Any] | None = None) -> list[Claim]:
        return self._sure(
            lambda: [claim_of(row) for row in self._do(query, values or {})],
            lambda claim: claim.pool,
        )

    def _group(self, query: sa.Select[Any], **values: Any) -> DemandGroup | None:  # noqa: ANN401 - bound as they are
        found = self._groups(query, **values)
        return found[0] if found else None

    def _groups(self, query: sa.Select[Any], **values: Any) -> list[DemandGroup]:  # noqa: ANN401 - bound as they are
        return self._sure(
            lambda: [group_of(row) for row in self._do(query, values)], lambda group: group.pool
        )

    def _registrations(self, query: sa.Select[Any], **values: Any) -> list[Registration]:  # noqa: ANN401 - bound as they are
        rows = self._sure(lambda: list(self._do(query, values)), lambda row: row.pool)
        return [registration_of(row) for row in rows]

    def _sure(
        self,
        read: Callable[[], list[T]],
        pool_of: Callable[[T], str | None],
        jobs: Collection[JobId] = (),
    ) -> list[T]:
        """What is read, when nobody else can change it any more."""
        found = read()
        while self._locks.hold(map(pool_of, found), jobs):
            found = read()
        return found
