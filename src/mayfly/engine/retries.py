"""Retries: groups that get no runner any more, and what an operator's word changes (R15)."""

from typing import NamedTuple

import msgspec

from mayfly.engine.aftermath import Aftermath
from mayfly.engine.declined import Declined
from mayfly.engine.news import News
from mayfly.model.access import Refused
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import NotFound
from mayfly.model.jobs import GroupId, JobId, JobKey, JobState, WorkflowJob
from mayfly.ports import Ledger

SEARCHED = 1000
MOST_PAGES = 50
"""Pages of so many queued jobs are looked through for one of each stalled group."""


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's retry, and what it made forgotten."""

    job_id: int
    attempt: int
    pool: str
    failures: int
    """In a row."""
    machines: tuple[str, ...]
    sentence: str


class Stall(NamedTuple):
    """A stalled group, and one of the jobs that wait in it."""

    group: DemandGroup
    job: JobId | None


class Retries:
    """What operators ask for once they have repaired something."""

    def __init__(self, ledger: Ledger, aftermath: Aftermath, news: News) -> None:
        self._ledger = ledger
        self._aftermath = aftermath
        self._news = news

    async def stalled(self, limit: int) -> list[Stall]:
        """Groups that wait for an operator, or for their hour to be over."""
        groups = await self._ledger.stalled(limit)
        jobs = await self._one_job_each({group.id for group in groups})
        return [Stall(group, jobs.get(group.id)) for group in groups]

    async def _one_job_each(self, missing: set[GroupId]) -> dict[GroupId, JobId]:
        found: dict[GroupId, JobId] = {}
        after: JobKey | None = None
        for _ in range(MOST_PAGES):
            page = await self._ledger.queued(SEARCHED, after) if missing else []
            for job in page:
                if job.group in missing:
                    missing.remove(job.group)
                    found[job.group] = job.key.id
            if not page:
                break
            after = page[-1].key
        return found

    async def retry(self, job_id: JobId, who: str) -> Retried | Declined:
        """The failures of the job's group are forgotten and its pool is rung for. Idempotent.

        NotFound when the ledger has no such job.
        """
        job = await self._newest(job_id)
        if (hindrance := _hindrance(job)) is not None:
            return Declined(hindrance)
        group = None if job.group is None else await self._ledger.group(job.group)
        if group is None:
            raise NotFound(f"job {job_id} is in no demand group")
        self._aftermath.follow(await self._ledger.retry(group.id))
        self._news.publish(
            "group.retried", who=who, pool=group.pool, scope=group.scope, failures=group.fails
        )
        return Retried(
            job_id=job_id,
            attempt=job.key.attempt,
            pool=group.pool,
            failures=group.fails,
            machines=group.failed_on,
            sentence=_forgotten(group),
        )

    async def _newest(self, job_id: JobId) -> WorkflowJob:
        attempts = await self._ledger.attempts(job_id)
        if not attempts:
            raise NotFound(
                f"job {job_id} is not in the ledger: GitHub has not told of it, or it is long over"
            )
        return attempts[0]


def _hindrance(job: WorkflowJob) -> str | None:
    """Why no runner is wanted for the job; None when one is."""
    event, name = job.event, f"job {job.key.id}"
    if isinstance(job.decision, Refused):
        return f"{name} was refused, which a retry does not change: {job.decision.sentence}"
    match job.state:
        case JobState.WAITING:
            return f"GitHub holds {name} back, for an approval or a concurrency limit; approve it"
        case JobState.QUEUED:
            return None
        case JobState.IN_PROGRESS:
            where = event.runner_name or "a runner"
            return f"{name} is running on {where}; once it has ended, re-run it at GitHub"
        case JobState.COMPLETED:
            return f"{name} has ended ({event.conclusion}); re-run it at {event.html_url}"


def _forgotten(group: DemandGroup) -> str:
    if not group.fails:
        return f"there was no failure to forget; pool {group.pool} is rung for all the same"
    failures = "1 failure" if group.fails == 1 else f"{group.fails} failures in a row"
    where = f" on {', '.join(group.failed_on)}" if group.failed_on else ""
    return f"forgotten: {failures}{where}, the last one: {group.trouble}"
