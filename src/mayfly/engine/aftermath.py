"""What follows a change of the ledger: doorbells are rung, people are told, figures are counted."""

from collections.abc import Callable, Iterable

from mayfly.engine.doorbells import Doorbells
from mayfly.engine.news import News
from mayfly.model.access import Admitted, Refused
from mayfly.model.changes import Changes
from mayfly.model.jobs import JobState, WorkflowJob
from mayfly.ports import Clock
from mayfly.telemetry import Correction, Telemetry


class Aftermath:
    """The same for every stage, so that no change is rung for and not counted, or told twice."""

    def __init__(
        self,
        doorbells: Doorbells,
        news: News,
        telemetry: Telemetry,
        clock: Clock,
        wake: Callable[[Iterable[str]], None] | None = None,
    ) -> None:
        self._doorbells = doorbells
        self._wake = wake
        self._news = news
        self._telemetry = telemetry
        self._clock = clock

    def follow(self, changes: Changes) -> None:
        """Once for each committed transaction."""
        self._doorbells.ring(changes.pools)
        if self._wake is not None:
            self._wake(changes.pools)
        self._tell_of_misplaced(changes)
        for job in changes.jobs:
            self._count(job)
            self._news.whisper(
                "job.admitted" if isinstance(job.decision, Admitted) else "job.refused",
                job=job.key.id,
                repository=job.event.full_name,
                name=job.event.name,
                state=job.state.word,
                runner=job.event.runner_name,
            )
        for claim in changes.ended:
            self._telemetry.claim_ended(claim.pool, claim.state)
            self._news.publish(
                "claim.ended",
                claim=claim.id,
                pool=claim.pool,
                state=claim.state.value,
                detail=claim.detail,
            )
        for group in changes.stalled:
            self._news.publish(
                "group.stalled", pool=group.pool, scope=group.scope, reason=group.trouble
            )
        for executor in changes.broken:
            self._news.publish(
                "executor.failed",
                pool=executor.pool,
                machine=executor.machine,
                reason=executor.reason,
            )
        for registration in changes.abandoned:
            self._telemetry.corrected(Correction.REGISTRATION_ABANDONED)
            self._news.publish("registration.abandoned", runner=registration.name)

    def _tell_of_misplaced(self, changes: Changes) -> None:
        """GitHub gives a runner to whichever job its labels cover, refused or not (R12)."""
        pools = {claim.job: claim.pool for claim in changes.claims if claim.job is not None}
        for job in changes.jobs:
            refused = isinstance(job.decision, Refused) and not job.pending
            if job.state is JobState.IN_PROGRESS and refused and job.key in pools:
                self._telemetry.job_misplaced(pools[job.key])
                self._news.publish(
                    "job.misplaced",
                    job=job.key.id,
                    repository=job.event.full_name,
                    runner=job.event.runner_name,
                )

    def _count(self, job: WorkflowJob) -> None:
        if job.state <= JobState.QUEUED:
            self._telemetry.job_decided(job.decision)
        elif job.state is JobState.IN_PROGRESS and isinstance(job.decision, Admitted):
            began = job.event.started_at or self._clock.now()
            self._telemetry.job_started(job.decision.pool, began - job.event.created_at)
