"""One transaction's bookkeeping: every state change moves its counters here, and nowhere else."""

from collections import defaultdict

import msgspec

from mayfly.model.changes import Changes, Touch
from mayfly.model.deadlines import Deadlines
from mayfly.model.demand import Demand, DemandGroup, demand_for
from mayfly.model.executors import Executor
from mayfly.model.jobs import GroupId, JobKey, JobState, WorkflowJob
from mayfly.model.runners import Claim, ClaimState, Registration
from mayfly.store.due import due_claim
from mayfly.store.tables import Counts, Tables


class Turn:
    """Changes to jobs and claims go through `job` and `claim`; `close` moves the counters (R2)."""

    def __init__(self, tables: Tables, deadlines: Deadlines) -> None:
        self.tables = tables
        self.deadlines = deadlines
        self.at = tables.clock().ledger_seconds
        self.stalled: list[DemandGroup] = []
        self.abandoned: list[Registration] = []
        self.broken: list[Executor] = []
        self._jobs: list[WorkflowJob] = []
        self._rows: dict[JobKey, WorkflowJob] = {}
        self._claims: list[Claim] = []
        self._ended: list[Claim] = []
        self._pending = _Counters()
        self._opened: defaultdict[GroupId, int] = defaultdict(int)
        self._freed: defaultdict[str, int] = defaultdict(int)
        self._pool_of: dict[GroupId, str] = {}

    def job(self, before: WorkflowJob | None, after: WorkflowJob) -> None:
        """A job's state changed."""
        self._jobs.append(after)
        self.row(before, after)

    def row(self, before: WorkflowJob | None, after: WorkflowJob) -> None:
        """A job's row changed, in nothing that anybody has to be told."""
        self._rows[after.key] = after
        if before is not None and (demand := demand_for(before)):
            self._count(demand, -before.counts)
        if demand := demand_for(after):
            self._count(demand, after.counts)

    def check_soon(self, key: JobKey, at: float) -> None:
        """GitHub is asked about the job at `at`, unless that is due anyway or nobody waits."""
        job = self._rows.get(key) or self.tables.attempts([key.id]).get(key)
        if job is None or job.group is None or job.state is JobState.COMPLETED:
            return
        if job.due_at is None or job.due_at > at:
            self._rows[key] = msgspec.structs.replace(job, due_at=at)

    def claim(self, before: Claim | None, after: Claim, *, taken: bool = False) -> Claim:
        """A claim's state changed; the row as it is kept.

        `taken`: a guard has moved its group's supply already, and a new claim's slot with it.
        """
        if before is None or _moved(before, after):
            after = msgspec.structs.replace(after, due_at=due_claim(after, self.deadlines))
        self._claims.append(after)
        self.tables.put_claim(after)
        if before is not None:
            self._follow(before, after)
        pending = self._pending
        if before is not None:
            self._move(before, -1)
            pending.pools[before.pool] -= before.used
        if not (taken and before is None):
            pending.pools[after.pool] += after.used
        if taken:
            pending.owners[after.pool, after.owner] += after.used
        else:
            self._move(after, 1)
        return after

    def reopened(self, group: GroupId) -> None:
        """The group may have runners again, so its pool is rung for."""
        if found := self.tables.group(group):
            self._opened[group] += found.open
            self._pool_of[group] = found.pool

    def flush(self) -> None:
        """Write the counters of what has changed so far."""
        pending, self._pending = self._pending, _Counters()
        tables = self.tables
        if pending.queued:
            tables.add_queued(list(pending.queued.items()), self.at)
        supply = [
            Counts(group, 0, pending.supply[group], pending.sure[group])
            for group in {**pending.supply, **pending.sure}
            if pending.supply[group] or pending.sure[group]
        ]
        if supply:
            tables.add_counts(supply, self.at)
        for pool, change in pending.pools.items():
            if change:
                tables.add_use(pool, None, change)
                self._freed[pool] -= change
        for (pool, owner), change in pending.owners.items():
            if change:
                tables.add_use(pool, owner, change)

    def close(self) -> Changes:
        """Write what is left to write; nothing may change after this."""
        self.flush()
        if self._rows:
            self.tables.put_jobs(list(self._rows.values()))
        return Changes(
            jobs=self._jobs,
            claims=self._claims,
            ended=self._ended,
            pools=self._touched(),
            stalled=self.stalled,
            abandoned=self.abandoned,
            broken=self.broken,
        )

    def _follow(self, before: Claim, after: Claim) -> None:
        """A runner at work is a success of its group; a job whose claim ends is checked (R10)."""
        works = after.state is ClaimState.BUSY or after.job is not None
        worked = before.state is ClaimState.BUSY or before.job is not None
        if works and not worked and self.tables.forgive(after.group):
            self.reopened(after.group)
        if before.live and not after.live:
            self._ended.append(after)
            if after.job is not None:
                self.check_soon(after.job, self.at + self.deadlines.proof_seconds)

    def _count(self, demand: Demand, change: int) -> None:
        self._pending.queued[demand] += change
        self._opened[demand.group] += change
        self._pool_of[demand.group] = demand.pool

    def _move(self, claim: Claim, sign: int) -> None:
        pending = self._pending
        pending.supply[claim.group] += sign * claim.supply
        pending.sure[claim.group] += sign * claim.sure
        pending.owners[claim.pool, claim.owner] += sign * claim.used
        self._opened[claim.group] -= sign * claim.supply
        self._pool_of[claim.group] = claim.pool

    def _touched(self) -> dict[str, Touch]:
        opened: defaultdict[str, int] = defaultdict(int)
        for group, pool in self._pool_of.items():
            opened[pool] += max(0, self._opened[group])
        touched = {}
        for pool in {**opened, **self._freed}:
            if opened[pool] > 0 or self._freed[pool] > 0:
                use = self.tables.use(pool, self.at)
                touched[pool] = Touch(opened[pool], max(0, self._freed[pool]), use.used, use.open)
        return touched


def _moved(before: Claim, after: Claim) -> bool:
    """Whether a deadline begins anew."""
    old = (before.state, before.state_at, before.unattributed)
    return old != (after.state, after.state_at, after.unattributed)


class _Counters:
    """Changes of counters that are not written yet."""

    def __init__(self) -> None:
        self.queued: defaultdict[Demand, int] = defaultdict(int)
        self.supply: defaultdict[GroupId, int] = defaultdict(int)
        self.sure: defaultdict[GroupId, int] = defaultdict(int)
        self.pools: defaultdict[str, int] = defaultdict(int)
        self.owners: defaultdict[tuple[str, str], int] = defaultdict(int)
