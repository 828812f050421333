"""Overdue jobs: those that wait although a slot and a fitting machine are free (1)."""

from mayfly.model.jobs import JobState
from mayfly.model.runners import LIVE, ClaimState
from tests.simulation.endings import truly_stalled, undiscovered
from tests.simulation.jobs import Job
from tests.simulation.machines import Machine
from tests.simulation.plans import PoolPlan
from tests.simulation.world import World

GRACE_SECONDS = 1800.0
"""So long after the last fault a job may wait for a repair."""
STUCK_SECONDS = 300.0
"""A group whose claims have not moved for so long is not being served."""
SERVES = {*LIVE, ClaimState.DONE}
LOOKS = 3
"""A slot that is free in one look may be free for the moment only."""


class Overdue:
    """Looked for from the end of the faults on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since = world.clock.seconds()
        self._seen: dict[Job, int] = {}

    def look(self) -> None:
        """Complains of a job that was found waiting in vain several times in a row."""
        if self._world.planes.reached() is None:
            self._since = self._world.clock.seconds()
        seen = {job: self._seen.get(job, 0) + 1 for job in self._waiting_in_vain()}
        for job, looks in seen.items():
            if looks == LOOKS:
                self._world.complain(f"job {job} waits, and a slot and a machine are free for it")
        self._seen = seen

    def _waiting_in_vain(self) -> list[Job]:
        world = self._world
        oldest = world.clock.seconds() - GRACE_SECONDS
        late = [job for job in world.jobs.queued if max(job.queued_at, self._since) < oldest]
        if not late:
            return []
        return [
            job
            for job in late
            if job.state is JobState.QUEUED
            and job.repository.owner.reachable
            and world.verdicts.admitted(job)
            and not truly_stalled(world, job)
            and not undiscovered(world, job)
            and not self._is_being_served(job)
            and self._could_be_served(job)
        ]

    def _is_being_served(self, job: Job) -> bool:
        """Runners of its group come and go; which of its jobs one gets is GitHub's choice."""
        tables = self._world.database.tables
        row, now = tables._jobs.get(job.key), tables.clock().ledger_seconds
        return row is not None and any(
            claim.state in SERVES and now - claim.state_at < STUCK_SECONDS
            for claim in tables._claims.values()
            if claim.group == row.group
        )

    def _could_be_served(self, job: Job) -> bool:
        each = next(each for each in self._world.plan.pools if each.pool.name == job.work.pool)
        used = self._world.database.tables._used
        name, owner = each.pool.name, job.repository.owner.name.lower()
        most = each.pool.max_per_owner or each.pool.max
        if used.get((name, None), 0) >= each.pool.max or used.get((name, owner), 0) >= most:
            return False
        return any(machine.serves(job.work.labels) for machine in self._parked(each))

    def _parked(self, each: PoolPlan) -> list[Machine]:
        claims = self._world.database.tables._claims.values()
        busy = {claim.machine for claim in claims if claim.live}
        return [m for m in self._world.good_machines(each.pool.name) if m.name not in busy]
