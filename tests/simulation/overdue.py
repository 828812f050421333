"""Overdue: what is not as it should be, so long after the last fault that it must be (1, 2, 8)."""

from collections.abc import Sequence

from mayfly.model.jobs import JobState
from tests.simulation.endings import Left, Unfinished, truly_stalled, undiscovered
from tests.simulation.idleness import Idleness
from tests.simulation.jobs import Job
from tests.simulation.world import World

SERVED_SECONDS = 1800.0
"""So long after the last fault, or after it was queued, a job may wait for a repair (1)."""
GONE_SECONDS = 1500.0
"""So long after that, or after its claim has ended, a runner may be left, or its name (2)."""
CLOSED_SECONDS = 3600.0
"""So long after the last fault, or after its job has ended, a row may be open (8)."""
BOUNDS = {
    Left.LEAKED: (GONE_SECONDS, SERVED_SECONDS + GONE_SECONDS),
    Left.UNPROVEN: (GONE_SECONDS, SERVED_SECONDS + GONE_SECONDS),
    Left.OPEN: (CLOSED_SECONDS, CLOSED_SECONDS),
}
"""Seconds from when it began, and from the last fault; the later of both counts."""
FREE_SECONDS = 120.0
"""An executor nobody rings for asks again after so long (R1)."""
LOOKS = 3
"""What is wrong in one look may be so for the moment only."""


class Overdue:
    """Looked for from the end of the faults on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since = world.clock.seconds()
        self._began: dict[str, float] = {}
        self._looks: dict[str, int] = {}
        self._idleness = Idleness(world)

    def look(self, left: Sequence[Unfinished]) -> None:
        """Complains of what has lasted too long, and of what is wrong several times in a row."""
        if self._world.planes.reached() is None:
            self._since = self._world.clock.seconds()
        self._lasting([each for each in left if each.kind in BOUNDS])
        self._repeated([*self._waiting_in_vain(), *self._claims_for_nobody()])

    def _lasting(self, left: Sequence[Unfinished]) -> None:
        now = self._world.clock.seconds()
        self._began = {each.subject: self._began.get(each.subject, now) for each in left}
        for each in left:
            own, after_faults = BOUNDS[each.kind]
            began = self._began[each.subject]
            if now > max(began + own, self._since + after_faults):
                self._world.complain(f"for {(now - began) / 60:.0f} min {each.sentence}")
                self._began[each.subject] = float("inf")  # once is enough

    def _repeated(self, sentences: Sequence[str]) -> None:
        self._looks = {each: self._looks.get(each, 0) + 1 for each in sentences}
        for sentence, looks in self._looks.items():
            if looks == LOOKS:
                self._world.complain(sentence)

    def _waiting_in_vain(self) -> list[str]:
        return [
            f"job {job} waits, and a slot and a machine are free for it"
            for job in self._late_jobs()
            if job.state is JobState.QUEUED
            and job.repository.owner.reachable
            and self._world.verdicts.admitted(job)
            and not truly_stalled(self._world, job)
            and not undiscovered(self._world, job)
            and self._could_be_served(job)
        ]

    def _late_jobs(self) -> list[Job]:
        oldest = self._world.clock.seconds() - SERVED_SECONDS
        queued = self._world.jobs.queued
        return [job for job in queued if max(job.queued_at, self._since) < oldest]

    def _claims_for_nobody(self) -> list[str]:
        """More live claims than jobs they could be for; how many more may change meanwhile."""
        world = self._world
        if world.clock.seconds() - self._since < CLOSED_SECONDS:
            return []
        wanted = sum(
            job.state is JobState.IN_PROGRESS or world.verdicts.admitted(job)
            for job in world.jobs.every
            if not job.over
        )
        live = sum(claim.live for claim in world.database.tables._claims.values())
        return ["there are more live claims than jobs queued and running"] if live > wanted else []

    def _could_be_served(self, job: Job) -> bool:
        """A slot and a fitting machine have been free for it, without a break."""
        each = next(each for each in self._world.plan.pools if each.pool.name == job.work.pool)
        owner = job.repository.owner.name.lower()
        if self._idleness.slot_seconds(each, owner) < FREE_SECONDS:
            return False
        return any(
            machine.serves(job.work.labels)
            and self._idleness.machine_seconds(machine.name) >= FREE_SECONDS
            for machine in self._world.good_machines(each.pool.name)
        )
