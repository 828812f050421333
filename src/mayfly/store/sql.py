"""The store in SQL: the ledger's tables and the access rules of one database."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Row

from mayfly.database import Database, open_database
from mayfly.model.access import Admitted, Scope
from mayfly.model.changes import PoolUse
from mayfly.model.deadlines import Deadlines
from mayfly.model.demand import Demand, DemandGroup
from mayfly.model.jobs import GroupId, InstallationId, JobId, JobKey, WorkflowJob
from mayfly.model.runners import Claim, ClaimId, ClaimState, Registration
from mayfly.ports import AccessRules, Clock, Ledger
from mayfly.store import schema
from mayfly.store import statements as sql
from mayfly.store.access import SqlAccessRules
from mayfly.store.ledger import TransactionalLedger
from mayfly.store.tables import ClockRow, MachineRow, Tables, by_key

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(WorkflowJob).decode
_UNBOUNDED = 2**31 - 1


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
        return await self._database.write(lambda connection: step(SqlTables(connection)))

    async def read(self, step: Callable[[Tables], T]) -> T:
        return await self._database.read(lambda connection: step(SqlTables(connection)))


class SqlTables:
    """Rows of the SQL tables; counters move by guarded increments."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._do = connection.execute

    def clock(self) -> ClockRow:
        row = self._do(sa.select(schema.clock)).first()
        if row is None:
            return ClockRow()
        return ClockRow(
            row.ledger_seconds,
            _maybe_time(row.last_tick),
            row.leader,
            _maybe_time(row.leader_until),
        )

    def put_clock(self, row: ClockRow) -> None:
        self._do(
            sql.put_clock,
            {
                "id": 1,
                "ledger_seconds": row.ledger_seconds,
                "last_tick": row.last_tick and _millis(row.last_tick),
                "leader": row.leader,
                "leader_until": row.leader_until and _millis(row.leader_until),
            },
        )

    def jobs(self, keys: Collection[JobKey]) -> dict[JobKey, WorkflowJob]:
        rows = self._do(sql.get_jobs, {"ids": [key.id for key in keys]})
        found = by_key(_decode(facts) for (facts,) in rows)
        return {key: found[key] for key in keys if key in found}

    def put_jobs(self, jobs: Sequence[WorkflowJob]) -> None:
        sql.put_job_many.run(self._connection, [_job_row(job) for job in jobs])

    def newest_jobs(self, limit: int, pool: str | None) -> list[WorkflowJob]:
        query = sa.select(schema.job.c.facts)
        if pool is not None:
            query = query.where(schema.job.c.pool == pool)
        newest = query.order_by(
            schema.job.c.received_at.desc(), schema.job.c.id.desc(), schema.job.c.attempt.desc()
        )
        return [_decode(facts) for (facts,) in self._do(newest.limit(limit))]

    def queued_jobs(self, limit: int, after: JobKey | None) -> list[WorkflowJob]:
        rows = self._do(
            sql.queued_jobs,
            {"id": after.id, "attempt": after.attempt, "most": limit}
            if after
            else {"id": -1, "attempt": 0, "most": limit},
        )
        return [_decode(facts) for (facts,) in rows]

    def attempts(self, job_id: int) -> list[WorkflowJob]:
        query = sa.select(schema.job.c.facts).where(schema.job.c.id == job_id)
        rows = self._do(query.order_by(schema.job.c.attempt.desc()))
        return [_decode(facts) for (facts,) in rows]

    def ahead(self, job: WorkflowJob) -> int:
        place = {"group": job.group, "at": _millis(job.event.created_at)}
        return self._number(sql.ahead, {**place, "id": job.key.id, "attempt": job.key.attempt})

    def add_queued(self, changes: Sequence[tuple[Demand, int]], at: float) -> None:
        rows = [_new_group(demand, change, at) for demand, change in changes]
        sql.add_queued_many.run(self._connection, rows)

    def add_supply(self, changes: Sequence[tuple[GroupId, int, int]], at: float) -> None:
        self._do(
            sql.add_supply,
            [
                {"group": group, "supply_change": supply, "sure_change": sure, "at": at}
                for group, supply, sure in changes
            ],
        )

    def take_supply(self, group: GroupId) -> bool:
        return self._do(sql.take_supply, {"group": group}).rowcount > 0

    def put_refusal(self, group: GroupId, fails: int, retry_at: float | None, refusal: str) -> None:
        changed = {"fails": fails, "retry_at": retry_at, "refusal": refusal}
        self._do(sa.update(schema.grp).where(schema.grp.c.id == group).values(changed))

    def group(self, group: GroupId) -> DemandGroup | None:
        row = self._do(sa.select(schema.grp).where(schema.grp.c.id == group)).first()
        return _group(row) if row else None

    def next_group(
        self, pool: str, variants: Sequence[str | None] | None, per_owner: int | None, at: float
    ) -> DemandGroup | None:
        who: dict[str, Any] = {
            "pool": pool,
            "at": at,
            "per_owner": _UNBOUNDED if per_owner is None else per_owner,
        }
        if variants is None:
            row = self._do(sql.next_group, who).first()
        else:
            chosen = [variant or "" for variant in variants]
            row = self._do(sql.next_group_of, {**who, "variants": chosen}).first()
        return _group(row) if row else None

    def surplus_groups(self, since: float, limit: int) -> list[DemandGroup]:
        rows = self._do(sql.surplus_groups, {"since": since, "most": limit})
        return [_group(row) for row in rows]

    def take_slot(self, pool: str, maximum: int) -> bool:
        self._do(sql.add_pool, {"pool": pool})
        return self._do(sql.take_slot, {"pool": pool, "maximum": maximum}).rowcount > 0

    def add_use(self, pool: str, owner: str | None, change: int) -> None:
        if owner is None:
            self._do(sql.use_pool, {"pool": pool, "change": change})
        else:
            self._do(sql.use_owner, {"pool": pool, "owner": owner, "used": change})

    def use(self, pool: str) -> PoolUse:
        row = self._do(sql.pool_use, {"pool": pool}).one()
        return PoolUse(*(int(number or 0) for number in row))

    def pools(self) -> dict[str, PoolUse]:
        names = self._do(sa.select(schema.grp.c.pool).distinct().order_by(schema.grp.c.pool))
        return {name: self.use(name) for (name,) in names.all()}

    def claim(self, claim: ClaimId) -> Claim | None:
        return self._claim(schema.claim.c.id == claim)

    def claim_of_key(self, key: str) -> Claim | None:
        return self._claim(schema.claim.c.key == key)

    def put_claim(self, claim: Claim) -> None:
        self._do(sql.put_claim, _claim_row(claim))

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

    def newest_claims(self, limit: int, *, live: bool) -> list[Claim]:
        query = sa.select(schema.claim).order_by(schema.claim.c.id.desc()).limit(limit)
        return self._claims(query.where(sql.IS_LIVE) if live else query)

    def registration(self, name: str) -> Registration | None:
        found = self._registrations(schema.registration.c.name == name)
        return found[0] if found else None

    def registrations_of(self, claim: ClaimId) -> list[Registration]:
        return self._registrations(schema.registration.c.claim == claim)

    def put_registration(self, registration: Registration) -> None:
        self._do(sql.put_registration, msgspec.structs.asdict(registration))

    def drop_registration(self, name: str) -> None:
        self._do(sa.delete(schema.registration).where(schema.registration.c.name == name))

    def due_registrations(self, at: float, limit: int) -> list[Registration]:
        rows = self._do(sql.due_registrations, {"at": at, "most": limit})
        return [Registration(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public spelling

    def registrations(self) -> list[Registration]:
        return self._registrations(sa.true())

    def machine(self, machine: str) -> MachineRow:
        row = self._do(sa.select(schema.machine).where(schema.machine.c.id == machine)).first()
        return MachineRow(row.fails, row.until) if row else MachineRow()

    def put_machine(self, machine: str, row: MachineRow) -> None:
        self._do(sql.put_machine, {"id": machine, "fails": row.fails, "until": row.until})

    def _number(self, query: sa.Select[Any], values: dict[str, Any]) -> int:
        return int(self._do(query, values).scalar() or 0)

    def _claim(self, condition: sa.ColumnElement[bool]) -> Claim | None:
        found = self._claims(sa.select(schema.claim).where(condition))
        return found[0] if found else None

    def _claims(self, query: sa.Select[Any], values: dict[str, Any] | None = None) -> list[Claim]:
        return [_claim(row) for row in self._do(query, values or {})]

    def _registrations(self, condition: sa.ColumnElement[bool]) -> list[Registration]:
        query = sa.select(schema.registration).where(condition)
        rows = self._do(query.order_by(schema.registration.c.name))
        return [Registration(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public spelling


def _job_row(job: WorkflowJob) -> dict[str, Any]:
    event = job.event
    return {
        "id": event.key.id,
        "attempt": event.key.attempt,
        "grp": job.group,
        "state": int(event.state),
        "queued_at": _millis(event.created_at),
        "received_at": _millis(job.received_at),
        "next_check_at": None,
        "tries": 0,
        "pool": job.decision.pool if isinstance(job.decision, Admitted) else None,
        "owner": event.owner,
        "repo": event.repository,
        "runner_name": event.runner_name,
        "facts": _encode(job),
    }


def _new_group(demand: Demand, queued: int, at: float) -> dict[str, Any]:
    return {
        "id": demand.group,
        "key": demand.key,
        "installation": demand.installation,
        "scope": demand.scope,
        "pool": demand.pool,
        "owner": demand.owner,
        "variant": demand.variant,
        "labels": ",".join(demand.labels),
        "queued": queued,
        "supply": 0,
        "sure": 0,
        "at": at,
    }


def _group(row: Row[Any]) -> DemandGroup:
    return DemandGroup(
        id=GroupId(row.id),
        installation=InstallationId(row.installation),
        scope=Scope(row.scope),
        pool=row.pool,
        owner=row.owner,
        variant=row.variant,
        labels=tuple(row.labels.split(",")),
        queued=row.queued,
        supply=row.supply,
        sure=row.sure,
        surplus_since=row.surplus_since,
        fails=row.fails,
        retry_at=row.retry_at,
        refusal=row.refusal,
    )


def _claim_row(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.id,
        "grp": claim.group,
        "pool": claim.pool,
        "owner": claim.owner,
        "machine": claim.machine,
        "boot": claim.boot,
        "key": claim.key,
        "state": claim.state.value,
        "state_at": claim.state_at,
        "heard_at": claim.heard_at,
        "made_at": _millis(claim.made_at),
        "generation": claim.generation,
        "job_id": claim.job.id if claim.job else None,
        "job_attempt": claim.job.attempt if claim.job else None,
        "unattributed": claim.unattributed,
        "registrations": claim.registrations,
        "finished": claim.finished,
        "detail": claim.detail,
        "per_owner": claim.per_owner,
    }


def _claim(row: Row[Any]) -> Claim:
    return Claim(
        id=ClaimId(row.id),
        group=GroupId(row.grp),
        pool=row.pool,
        owner=row.owner,
        machine=row.machine,
        boot=row.boot,
        key=row.key,
        state=ClaimState(row.state),
        state_at=row.state_at,
        heard_at=row.heard_at,
        made_at=_time(row.made_at),
        generation=row.generation,
        job=None if row.job_id is None else JobKey(JobId(row.job_id), row.job_attempt),
        unattributed=row.unattributed,
        registrations=row.registrations,
        finished=row.finished,
        detail=row.detail,
        per_owner=row.per_owner,
    )


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)


def _maybe_time(millis: int | None) -> datetime | None:
    return None if millis is None else _time(millis)
