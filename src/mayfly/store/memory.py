"""The store in memory: for tests, simulations and a first look; gone with the process."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from mayfly.model.access import AccessRule, first_allowing
from mayfly.model.changes import PoolUse
from mayfly.model.deadlines import Deadlines
from mayfly.model.demand import Demand, DemandGroup
from mayfly.model.jobs import GroupId, JobKey, JobState, WorkflowJob
from mayfly.model.runners import Claim, ClaimId, Registration
from mayfly.ports import AccessRules, Clock, Ledger
from mayfly.store.ledger import TransactionalLedger
from mayfly.store.tables import ClockRow, MachineRow, Tables

T = TypeVar("T")


@asynccontextmanager
async def open_store(
    url: str, clock: Clock, deadlines: Deadlines
) -> AsyncIterator[tuple[Ledger, AccessRules]]:
    """An empty store; `url` is not used."""
    del url
    yield TransactionalLedger(MemoryTransactions(), clock, deadlines), MemoryAccessRules()


class MemoryTransactions:
    """One step at a time, undone when it raises."""

    def __init__(self) -> None:
        self.tables = MemoryTables()

    async def write(self, step: Callable[[Tables], T]) -> T:
        try:
            result = step(self.tables)
        except BaseException:
            self.tables.undo()
            raise
        self.tables.keep()
        return result

    async def read(self, step: Callable[[Tables], T]) -> T:
        return step(self.tables)


class MemoryTables:
    """Rows in dictionaries, with a journal of what each change replaced."""

    def __init__(self) -> None:
        self._clock: dict[str, ClockRow] = {}
        self._jobs: dict[JobKey, WorkflowJob] = {}
        self._queued: defaultdict[GroupId, dict[JobKey, datetime]] = defaultdict(dict)
        self._groups: dict[GroupId, DemandGroup] = {}
        self._used: dict[tuple[str, str | None], int] = {}
        self._claims: dict[ClaimId, Claim] = {}
        self._live: dict[ClaimId, None] = {}
        self._keys: dict[str, ClaimId] = {}
        self._registrations: dict[str, Registration] = {}
        self._machines: dict[str, MachineRow] = {}
        self._journal: list[tuple[dict[Any, Any], Any, Any]] = []

    def keep(self) -> None:
        self._journal.clear()

    def undo(self) -> None:
        for table, key, old in reversed(self._journal):
            if old is _ABSENT:
                table.pop(key, None)
            else:
                table[key] = old
        self._journal.clear()

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:  # noqa: ANN401 - rows of any table
        self._journal.append((table, key, table.get(key, _ABSENT)))
        if value is _ABSENT:
            table.pop(key, None)
        else:
            table[key] = value

    def clock(self) -> ClockRow:
        return self._clock.get("", ClockRow())

    def put_clock(self, row: ClockRow) -> None:
        self._set(self._clock, "", row)

    def jobs(self, keys: Collection[JobKey]) -> dict[JobKey, WorkflowJob]:
        return {key: self._jobs[key] for key in keys if key in self._jobs}

    def put_jobs(self, jobs: Sequence[WorkflowJob]) -> None:
        for job in jobs:
            before = self._jobs.get(job.key)
            self._set(self._jobs, job.key, job)
            if before is not None and before.group is not None:
                self._set(self._queued[before.group], job.key, _ABSENT)
            if job.group is not None:
                queued = job.event.created_at if job.counts else _ABSENT
                self._set(self._queued[job.group], job.key, queued)

    def newest_jobs(self, limit: int, pool: str | None) -> list[WorkflowJob]:
        chosen = (
            job
            for job in self._jobs.values()
            if pool is None or pool == getattr(job.decision, "pool", None)
        )
        return sorted(chosen, key=lambda job: (job.received_at, job.key), reverse=True)[:limit]

    def queued_jobs(self, limit: int, after: JobKey | None) -> list[WorkflowJob]:
        queued = [
            job
            for key, job in self._jobs.items()
            if job.state is JobState.QUEUED and (after is None or key > after)
        ]
        return sorted(queued, key=lambda job: job.key)[:limit]

    def attempts(self, job_id: int) -> list[WorkflowJob]:
        found = [job for key, job in self._jobs.items() if key.id == job_id]
        return sorted(found, key=lambda job: -job.key.attempt)

    def ahead(self, job: WorkflowJob) -> int:
        if job.group is None:
            return 0
        place = (job.event.created_at, job.key)
        return sum((at, key) < place for key, at in self._queued[job.group].items())

    def add_queued(self, changes: Sequence[tuple[Demand, int]], at: float) -> None:
        for demand, change in changes:
            group = self._groups.get(demand.group) or DemandGroup(
                id=demand.group,
                installation=demand.installation,
                scope=demand.scope,
                pool=demand.pool,
                owner=demand.owner,
                variant=demand.variant,
                labels=demand.labels,
            )
            self._count(group, at, queued=change)

    def add_supply(self, changes: Sequence[tuple[GroupId, int, int]], at: float) -> None:
        for group, supply, sure in changes:
            self._count(self._groups[group], at, supply=supply, sure=sure)

    def take_supply(self, group: GroupId) -> bool:
        found = self._groups[group]
        if not found.open:
            return False
        self._count(found, 0.0, supply=1)
        return True

    def _count(
        self, group: DemandGroup, at: float, *, queued: int = 0, supply: int = 0, sure: int = 0
    ) -> None:
        counted = msgspec.structs.replace(
            group,
            queued=group.queued + queued,
            supply=group.supply + supply,
            sure=group.sure + sure,
        )
        since = group.surplus_since if group.surplus_since is not None else at
        surplus_since = since if counted.surplus else None
        self._set(
            self._groups, group.id, msgspec.structs.replace(counted, surplus_since=surplus_since)
        )

    def put_refusal(self, group: GroupId, fails: int, retry_at: float | None, refusal: str) -> None:
        changed = msgspec.structs.replace(
            self._groups[group], fails=fails, retry_at=retry_at, refusal=refusal
        )
        self._set(self._groups, group, changed)

    def group(self, group: GroupId) -> DemandGroup | None:
        return self._groups.get(group)

    def next_group(
        self, pool: str, variants: Sequence[str | None] | None, per_owner: int | None, at: float
    ) -> DemandGroup | None:
        candidates = [
            group
            for group in self._groups.values()
            if group.pool == pool
            and group.open
            and (group.retry_at is None or group.retry_at <= at)
            and (variants is None or group.variant in variants)
            and (per_owner is None or self._used.get((pool, group.owner), 0) < per_owner)
        ]
        return min(candidates, key=self._turn_of, default=None)

    def _turn_of(self, group: DemandGroup) -> tuple[int, datetime, int]:
        oldest = min(self._queued[group.id].values(), default=_NEVER)
        return self._used.get((group.pool, group.owner), 0), oldest, group.id

    def surplus_groups(self, since: float, limit: int) -> list[DemandGroup]:
        found = [
            group
            for group in self._groups.values()
            if group.surplus_since is not None and group.surplus_since <= since
        ]
        return sorted(found, key=lambda group: (group.surplus_since, group.id))[:limit]

    def take_slot(self, pool: str, maximum: int) -> bool:
        if self._used.get((pool, None), 0) >= maximum:
            return False
        self.add_use(pool, None, 1)
        return True

    def add_use(self, pool: str, owner: str | None, change: int) -> None:
        self._set(self._used, (pool, owner), self._used.get((pool, owner), 0) + change)

    def use(self, pool: str) -> PoolUse:
        groups = [group for group in self._groups.values() if group.pool == pool]
        return PoolUse(
            used=self._used.get((pool, None), 0),
            queued=sum(group.queued for group in groups),
            open=sum(group.open for group in groups),
        )

    def pools(self) -> dict[str, PoolUse]:
        names = {group.pool: None for group in self._groups.values()}
        return {pool: self.use(pool) for pool in sorted(names)}

    def claim(self, claim: ClaimId) -> Claim | None:
        return self._claims.get(claim)

    def claim_of_key(self, key: str) -> Claim | None:
        found = self._keys.get(key)
        return self._claims[found] if found else None

    def put_claim(self, claim: Claim) -> None:
        self._set(self._claims, claim.id, claim)
        self._set(self._keys, claim.key, claim.id)
        self._set(self._live, claim.id, None if claim.live else _ABSENT)

    def live_of_machine(self, machine: str) -> list[Claim]:
        return [claim for claim in self._live_claims() if claim.machine == machine]

    def live_of_group(self, group: GroupId) -> list[Claim]:
        found = [claim for claim in self._live_claims() if claim.group == group]
        return sorted(found, key=lambda claim: claim.id, reverse=True)

    def silent(self, heard_before: float, limit: int) -> list[Claim]:
        looked_at = {
            registration.claim
            for registration in self._registrations.values()
            if registration.next_look_at is not None
        }
        return [
            claim
            for claim in self._live_claims()
            if claim.heard_at <= heard_before and claim.id not in looked_at
        ][:limit]

    def newest_claims(self, limit: int, *, live: bool) -> list[Claim]:
        claims = self._live_claims() if live else list(self._claims.values())
        return sorted(claims, key=lambda claim: claim.id, reverse=True)[:limit]

    def _live_claims(self) -> list[Claim]:
        return [self._claims[claim] for claim in sorted(self._live)]

    def registration(self, name: str) -> Registration | None:
        return self._registrations.get(name)

    def registrations_of(self, claim: ClaimId) -> list[Registration]:
        return [found for found in self.registrations() if found.claim == claim]

    def put_registration(self, registration: Registration) -> None:
        self._set(self._registrations, registration.name, registration)

    def drop_registration(self, name: str) -> None:
        self._set(self._registrations, name, _ABSENT)

    def due_registrations(self, at: float, limit: int) -> list[Registration]:
        due = [
            found
            for found in self._registrations.values()
            if found.next_look_at is not None and found.next_look_at <= at
        ]
        return sorted(due, key=lambda found: (found.next_look_at, found.name))[:limit]

    def registrations(self) -> list[Registration]:
        return sorted(self._registrations.values(), key=lambda found: found.name)

    def machine(self, machine: str) -> MachineRow:
        return self._machines.get(machine, MachineRow())

    def put_machine(self, machine: str, row: MachineRow) -> None:
        self._set(self._machines, machine, row)


class MemoryAccessRules:
    """Access rules in a list."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str, str, str | None], AccessRule] = {}

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        return first_allowing(self._rules, owner, repository, label)

    async def rules(self) -> list[AccessRule]:
        return sorted(self._rules.values(), key=str)

    async def grant(self, rule: AccessRule) -> None:
        self._rules.setdefault(rule.identity, rule)

    async def revoke(self, rule: AccessRule) -> bool:
        return self._rules.pop(rule.identity, None) is not None


_ABSENT = object()
_NEVER = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)
