"""The ledger's tables in memory: dictionaries, and a journal that undoes a failed step."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from mayfly.model.access import Scope
from mayfly.model.changes import PoolUse
from mayfly.model.demand import Demand, DemandGroup
from mayfly.model.jobs import GroupId, InstallationId, JobId, JobKey, JobState, WorkflowJob
from mayfly.model.releases import Release, Version
from mayfly.model.repositories import Repository
from mayfly.model.runners import Claim, ClaimId, Registration
from mayfly.store.memory_executors import ABSENT, MemoryExecutors
from mayfly.store.memory_launches import MemoryLaunches
from mayfly.store.tables import ClockRow, Counts, MachineRow


class MemoryTables:
    """Rows in dictionaries, with a journal of what each change replaced."""

    def __init__(self) -> None:
        self._clock: dict[str, ClockRow] = {}
        self._jobs: dict[JobKey, WorkflowJob] = {}
        self._attempts: defaultdict[JobId, dict[JobKey, None]] = defaultdict(dict)
        self._queued: defaultdict[GroupId, dict[JobKey, datetime]] = defaultdict(dict)
        self._groups: dict[GroupId, DemandGroup] = {}
        self._used: dict[tuple[str, str | None], int] = {}
        self._claims: dict[ClaimId, Claim] = {}
        self._live: dict[ClaimId, None] = {}
        self._keys: dict[str, ClaimId] = {}
        self._registrations: dict[str, Registration] = {}
        self._machines: dict[str, MachineRow] = {}
        self._releases: dict[Version, Release] = {}
        self._journal: list[tuple[dict[Any, Any], Any, Any]] = []
        self.executors = MemoryExecutors(self._set)
        self.launches = MemoryLaunches(self._set)

    def keep(self) -> None:
        self._journal.clear()

    def undo(self) -> None:
        for table, key, old in reversed(self._journal):
            if old is ABSENT:
                table.pop(key, None)
            else:
                table[key] = old
        self._journal.clear()

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:  # noqa: ANN401 - rows of any table
        self._journal.append((table, key, table.get(key, ABSENT)))
        if value is ABSENT:
            table.pop(key, None)
        else:
            table[key] = value

    def hold(
        self, *, pools: Collection[str] = (), jobs: Collection[JobId] = (), clock: bool = False
    ) -> None:
        """There is one step at a time."""

    def clock(self) -> ClockRow:
        return self._clock.get("", ClockRow())

    def put_clock(self, row: ClockRow) -> None:
        self._set(self._clock, "", row)

    def attempts(self, ids: Collection[JobId]) -> dict[JobKey, WorkflowJob]:
        keys = [key for id_ in ids if id_ in self._attempts for key in self._attempts[id_]]
        return {key: self._jobs[key] for key in keys}

    def put_jobs(self, jobs: Sequence[WorkflowJob]) -> None:
        for job in jobs:
            before = self._jobs.get(job.key)
            self._set(self._jobs, job.key, job)
            self._set(self._attempts[job.key.id], job.key, None)
            if before is not None and before.group is not None:
                self._set(self._queued[before.group], job.key, ABSENT)
            if job.group is not None:
                queued = job.event.created_at if job.counts else ABSENT
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

    def pending_jobs(self, limit: int) -> list[WorkflowJob]:
        pending = [job for job in self._jobs.values() if job.pending]
        return sorted(pending, key=lambda job: job.key)[:limit]

    def ahead(self, job: WorkflowJob) -> int:
        if job.group is None:
            return 0
        place = (job.event.created_at, job.key)
        return sum((at, key) < place for key, at in self._queued[job.group].items())

    def oldest_queued(self, group: GroupId, limit: int) -> list[WorkflowJob]:
        queued = self._queued[group]
        oldest = sorted(queued, key=lambda key: (queued[key], key))
        return [self._jobs[key] for key in oldest[:limit]]

    def due_jobs(self, at: float, limit: int, *, running: bool) -> list[WorkflowJob]:
        due = [
            job
            for job in self._due_jobs(at)
            if not _may_be_forgotten(job) and (job.state is JobState.IN_PROGRESS) is running
        ]
        return sorted(due, key=lambda job: (job.due_at, job.key))[:limit]

    def forget_jobs(self, at: float, limit: int) -> int:
        over = [job for job in self._due_jobs(at) if _may_be_forgotten(job)][:limit]
        for job in over:
            self._set(self._jobs, job.key, ABSENT)
            self._set(self._attempts[job.key.id], job.key, ABSENT)
            if job.group is not None:
                self._set(self._queued[job.group], job.key, ABSENT)
        return len(over)

    def _due_jobs(self, at: float) -> list[WorkflowJob]:
        return [job for job in self._jobs.values() if job.due_at is not None and job.due_at <= at]

    def repositories(self, since: datetime) -> list[Repository]:
        found = {
            Repository(event.installation, event.owner, event.repository): None
            for job in self._jobs.values()
            if (event := job.event).installation is not None
            and job.group is not None
            and job.received_at >= since
        }
        return sorted(found)

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

    def add_counts(self, changes: Sequence[Counts], at: float) -> None:
        for group, queued, supply, sure in changes:
            self._count(self._groups[group], at, queued=queued, supply=supply, sure=sure)

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

    def put_health(self, group: DemandGroup) -> None:
        changed = msgspec.structs.replace(
            self._groups[group.id],
            fails=group.fails,
            failed_on=group.failed_on,
            retry_at=group.retry_at,
            trouble=group.trouble,
            stalled=group.stalled,
        )
        self._set(self._groups, group.id, changed)

    def forgive(self, group: GroupId) -> bool:
        found = self._groups[group]
        if found.fails:
            self.put_health(found.healthy)
        return bool(found.fails)

    def group_after(self, group: GroupId | None) -> DemandGroup | None:
        later = [found for found in self._groups if group is None or found > group]
        return self._groups[min(later)] if later else None

    def count_queued(self, group: GroupId) -> int:
        return sum(job.counts for job in self._jobs.values() if job.group == group)

    def drop_unused_groups(self) -> None:
        claimed = {claim.group for claim in self._claims.values()}
        for group in list(self._groups.values()):
            if group.queued == group.supply == 0 and group.id not in claimed:
                self._set(self._groups, group.id, ABSENT)

    def scopes(self, since: datetime) -> list[tuple[InstallationId, Scope]]:
        recent = [job for job in self._jobs.values() if job.received_at >= since]
        ids = {job.group: None for job in recent if not job.doubted}
        groups = [self._groups[group] for group in ids if group in self._groups]
        return sorted({(group.installation, group.scope): None for group in groups})

    def troubled_groups(self, installation: InstallationId) -> list[DemandGroup]:
        groups = [group for group in self._groups.values() if group.installation == installation]
        return sorted((group for group in groups if group.fails), key=lambda group: group.id)

    def stalled_groups(self, limit: int) -> list[DemandGroup]:
        stalled = [group for group in self._groups.values() if group.stalled]
        return sorted(stalled, key=lambda group: group.id)[:limit]

    def group(self, group: GroupId) -> DemandGroup | None:
        return self._groups.get(group)

    def next_group(
        self, pool: str, variants: Sequence[str | None] | None, per_owner: int | None, at: float
    ) -> DemandGroup | None:
        candidates = [
            group
            for group in self._groups.values()
            if group.pool == pool
            and group.claimable(at)
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

    def use(self, pool: str, at: float) -> PoolUse:
        groups = [group for group in self._groups.values() if group.pool == pool]
        return PoolUse(
            used=self._used.get((pool, None), 0),
            queued=sum(group.queued for group in groups),
            open=sum(group.claimable(at) for group in groups),
        )

    def pools(self, at: float) -> dict[str, PoolUse]:
        names = {group.pool: None for group in self._groups.values()}
        return {pool: self.use(pool, at) for pool in sorted(names)}

    def used_by(self, pool: str) -> list[Claim]:
        return [claim for claim in self._claims.values() if claim.pool == pool and claim.used]

    def owners_of(self, pool: str) -> dict[str, int]:
        return {owner: used for (of, owner), used in self._used.items() if of == pool and owner}

    def claim(self, claim: ClaimId) -> Claim | None:
        return self._claims.get(claim)

    def claim_of_key(self, key: str) -> Claim | None:
        found = self._keys.get(key)
        return self._claims[found] if found else None

    def put_claim(self, claim: Claim) -> None:
        self._set(self._claims, claim.id, claim)
        self._set(self._keys, claim.key, claim.id)
        self._set(self._live, claim.id, None if claim.live else ABSENT)

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

    def due_claims(self, at: float, limit: int) -> list[Claim]:
        due = [claim for claim in self._live_claims() if _is_due(claim, at)]
        return sorted(due, key=lambda claim: (claim.due_at, claim.id))[:limit]

    def forget_claims(self, at: float, limit: int) -> int:
        over = [
            claim
            for claim in self._claims.values()
            if not claim.live and not claim.registrations and _is_due(claim, at)
        ][:limit]
        for claim in over:
            self._set(self._claims, claim.id, ABSENT)
            self._set(self._keys, claim.key, ABSENT)
        return len(over)

    def newest_claims(self, limit: int, *, live: bool, pool: str | None = None) -> list[Claim]:
        every = self._live_claims() if live else list(self._claims.values())
        claims = [claim for claim in every if pool is None or claim.pool == pool]
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
        self._set(self._registrations, name, ABSENT)

    def due_registrations(self, at: float, limit: int) -> list[Registration]:
        due = [
            found
            for found in self._registrations.values()
            if found.next_look_at is not None and found.next_look_at <= at
        ]
        return sorted(due, key=lambda found: (found.next_look_at, found.name))[:limit]

    def unreached(self, installation: InstallationId) -> list[Registration]:
        found = [one for one in self._registrations.values() if one.unreachable_since is not None]
        ours = [one for one in found if self._installation_of(one) == installation]
        return sorted(ours, key=lambda one: one.name)

    def _installation_of(self, registration: Registration) -> InstallationId | None:
        claim = self._claims.get(registration.claim)
        group = self._groups.get(claim.group) if claim else None
        return group.installation if group else None

    def registrations(self) -> list[Registration]:
        return sorted(self._registrations.values(), key=lambda found: found.name)

    def machine(self, machine: str) -> MachineRow:
        return self._machines.get(machine, MachineRow())

    def put_machine(self, machine: str, row: MachineRow) -> None:
        self._set(self._machines, machine, row if row.fails else ABSENT)

    def forget_machines(self, at: float) -> None:
        for machine, row in list(self._machines.items()):
            if row.until <= at:
                self._set(self._machines, machine, ABSENT)

    def add_release(self, release: Release) -> None:
        if release.version not in self._releases:
            self._set(self._releases, release.version, release)

    def releases(self) -> list[Release]:
        return sorted(self._releases.values())


def _is_due(claim: Claim, at: float) -> bool:
    return claim.due_at is not None and claim.due_at <= at


def _may_be_forgotten(job: WorkflowJob) -> bool:
    return job.state is JobState.COMPLETED or job.group is None


_NEVER = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)
