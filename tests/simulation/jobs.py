"""Jobs: GitHub's workflow runs and their jobs, from a push to the end of the last attempt."""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import count

from mayfly.model.jobs import JobId, JobKey, JobState, WorkflowJobEvent
from mayfly.model.repositories import Run as ListedRun
from tests.simulation.accounts import Repository
from tests.simulation.clocks import SimulatedClock
from tests.simulation.journal import Journal

WAITING, QUEUED, IN_PROGRESS, COMPLETED = JobState


class Work:
    """What a job asks for and needs; a re-run asks for the same."""

    __slots__ = ("labels", "pool", "seconds", "wanted")

    def __init__(self, labels: tuple[str, ...], seconds: float, pool: str | None) -> None:
        self.labels = labels
        self.wanted = frozenset(label.lower() for label in labels)
        self.seconds = seconds
        self.pool = pool
        """The pool these labels name; None when no pool may take them, whoever asks."""


class Job:
    """One attempt of one workflow job."""

    __slots__ = (
        "attempt", "began", "completed_at", "conclusion", "created_at", "ended", "id", "on_end",
        "queued_at", "run", "runner", "started_at", "state", "work",
    )  # fmt: skip

    def __init__(self, job_id: int, run: "Run", attempt: int, work: Work, at: datetime) -> None:
        self.id = job_id
        self.run = run
        self.attempt = attempt
        self.work = work
        self.state = QUEUED
        self.created_at = at
        self.queued_at = self.began = self.ended = 0.0
        self.started_at: datetime | None = None
        self.completed_at: datetime | None = None
        self.conclusion: str | None = None
        self.runner: str | None = None
        self.on_end: Callable[[], object] = lambda: None

    @property
    def key(self) -> JobKey:
        return JobKey(JobId(self.id), self.attempt)

    @property
    def repository(self) -> Repository:
        return self.run.repository

    @property
    def over(self) -> bool:
        return self.state is COMPLETED

    def __str__(self) -> str:
        return f"{self.id}.{self.attempt}"


class Run:
    """A workflow run; each attempt has the same jobs again."""

    __slots__ = ("attempts", "gated", "id", "repository", "updated_at")

    def __init__(self, run_id: int, repository: Repository, at: datetime) -> None:
        self.id = run_id
        self.repository = repository
        self.attempts: list[list[Job]] = []
        self.gated = False
        self.updated_at = at

    @property
    def jobs(self) -> list[Job]:
        """Those of the newest attempt."""
        return self.attempts[-1]

    @property
    def status(self) -> str:
        """The word of GitHub's list of runs."""
        states = [job.state for job in self.jobs]
        if all(state is COMPLETED for state in states):
            return "completed"
        if any(state is IN_PROGRESS for state in states) or COMPLETED in states:
            return "in_progress"
        return "queued" if QUEUED in states else "waiting"


class Jobs:
    """GitHub Actions: people push, approve, cancel and repeat; runners take and end jobs."""

    def __init__(self, clock: SimulatedClock, journal: Journal, *, same_ids: bool) -> None:
        self._clock = clock
        self._journal = journal
        self._same_ids = same_ids
        self._ids = count(1001)
        self.runs: dict[int, Run] = {}
        self.queued: dict[Job, None] = {}
        self.every: list[Job] = []
        self.by_id: dict[int, Job] = {}
        """The newest attempt with this id."""
        self.on_event: Callable[[Job, JobState], object] = lambda job, action: None
        self.on_queued: Callable[[Job], object] = lambda job: None

    def push(self, repository: Repository, works: Sequence[Work], *, gated: bool = False) -> Run:
        """A new run, queued, or waiting behind a gate."""
        run = Run(next(self._ids), repository, self._clock.now())
        self.runs[run.id] = run
        run.gated = gated
        self._attempt(run, works)
        return run

    def approve(self, run: Run) -> None:
        run.gated = False
        for job in run.jobs:
            if job.state is WAITING:
                self._queue(job)

    def repeat(self, run: Run) -> bool:
        """Only a run that is over can be repeated."""
        if run.status != "completed":
            return False
        self._attempt(run, [job.work for job in run.jobs])
        return True

    def cancel(self, run: Run) -> None:
        for job in run.jobs:
            self.end(job, "cancelled")

    def begin(self, job: Job, runner: str) -> None:
        self.queued.pop(job)
        job.state = IN_PROGRESS
        job.runner = runner
        job.started_at = self._clock.now()
        job.began = self._clock.seconds()
        self._changed(job, IN_PROGRESS)

    def end(self, job: Job, conclusion: str) -> None:
        if job.over:
            return
        self.queued.pop(job, None)
        job.state = COMPLETED
        job.conclusion = conclusion
        job.completed_at = self._clock.now()
        job.ended = self._clock.seconds()
        job.on_end()
        self._changed(job, COMPLETED)

    def event(self, job: Job, action: JobState, delivery: str = "") -> WorkflowJobEvent:
        """The job as a delivery or the API tells it."""
        repository = job.repository
        return WorkflowJobEvent(
            key=job.key,
            state=action,
            run_id=job.run.id,
            name="build",
            workflow="ci",
            labels=job.work.labels,
            installation=repository.owner.installation,
            owner=repository.owner.name,
            owner_is_organization=repository.owner.organization,
            repository=repository.name,
            html_url=f"https://github.com/{repository.full_name}/actions/runs/{job.run.id}",
            branch="main",
            conclusion=job.conclusion,
            created_at=job.created_at,
            started_at=job.started_at,
            completed_at=job.completed_at,
            runner_name=job.runner,
            delivery=delivery,
        )

    def listed(self, repository: Repository, status: str) -> list[ListedRun]:
        """The newest 100 runs of a status."""
        found = [
            ListedRun(run.id, len(run.attempts), run.updated_at)
            for run in reversed(self.runs.values())
            if run.repository is repository and run.status == status
        ]
        return found[:100]

    def _attempt(self, run: Run, works: Sequence[Work]) -> None:
        number, before = len(run.attempts) + 1, run.attempts[-1] if run.attempts else []
        kept = [job.id for job in before] if self._same_ids else []
        ids = kept or [next(self._ids) for _ in works]
        now = self._clock.now()
        jobs = [Job(each, run, number, work, now) for each, work in zip(ids, works, strict=True)]
        run.attempts.append(jobs)
        for job in jobs:
            self.every.append(job)
            self.by_id[job.id] = job
            if run.gated:
                job.state = WAITING
                self._changed(job, WAITING)
            else:
                self._queue(job)

    def _queue(self, job: Job) -> None:
        job.state = QUEUED
        job.queued_at = self._clock.seconds()
        self.queued[job] = None
        self._changed(job, QUEUED)
        self.on_queued(job)

    def _changed(self, job: Job, action: JobState) -> None:
        job.run.updated_at = self._clock.now()
        job.repository.changes += 1
        self._journal.say(f"job.{action.word}", job, job.repository.full_name, job.runner or "")
        self.on_event(job, action)
