"""The workflow runs and jobs this GitHub knows."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from mayfly.simulator.accounts import Repository
from mayfly.simulator.jobs import WorkflowJob, WorkflowRun, outcome, rerun_keys
from mayfly.simulator.refusals import Refusal, not_found
from mayfly.simulator.workflows import JobPlan, Workflow


class Trigger(Struct, frozen=True, kw_only=True):
    """What started a run."""

    event: str = "push"
    actor: str = "octocat"
    head_branch: str = "main"
    head_repository: Repository | None = None
    """The fork it came from; None: the repository itself."""
    path: str = ".github/workflows/ci.yml"


class Runs:
    """All runs, with the jobs of every attempt."""

    def __init__(self) -> None:
        self.runs: dict[int, WorkflowRun] = {}
        self.jobs: dict[int, WorkflowJob] = {}
        self.logs: dict[int, list[str]] = {}
        self.queued: dict[int, None] = {}
        """The uids of queued jobs, oldest first."""
        self._attempts: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._latest: dict[int, int] = {}
        self._uids = itertools.count(1)
        self._job_ids = itertools.count(41_000_001)
        self._run_ids = itertools.count(9_000_001)
        self._numbers: defaultdict[int, int] = defaultdict(int)

    def add(
        self, repository: Repository, workflow: Workflow, trigger: Trigger, now: datetime
    ) -> WorkflowRun:
        """A new run with all of its jobs planned."""
        self._numbers[repository.id] += 1
        run_id = next(self._run_ids)
        run = WorkflowRun(
            id=run_id,
            number=self._numbers[repository.id],
            attempt=1,
            repository=repository,
            workflow=workflow.name,
            path=trigger.path,
            event=trigger.event,
            actor=trigger.actor,
            head_repository=trigger.head_repository or repository,
            head_branch=trigger.head_branch,
            head_sha=hashlib.sha1(str(run_id).encode()).hexdigest(),  # noqa: S324 - git's hash
            created_at=now,
            updated_at=now,
        )
        self.runs[run.id] = run
        for plan in workflow.jobs:
            self.put(self._job(run, plan, next(self._job_ids), now))
        return run

    def again(
        self, run: WorkflowRun, key: str | None, now: datetime, *, reuse_ids: bool
    ) -> WorkflowRun:
        """The next attempt: one job and its dependents, or with None every job.

        The other jobs are carried over as they ended, under new ids, as GitHub does.
        """
        before = self.of_attempt(run.id, run.attempt)
        if any(job.status != "completed" for job in before):
            raise Refusal(403, "The workflow run containing this job is already running")
        keys = rerun_keys(key, before) if key else frozenset(j.plan.key for j in before)
        following = replace(run, attempt=run.attempt + 1, updated_at=now)
        self.runs[run.id] = following
        for old in before:
            job_id = old.id if reuse_ids else next(self._job_ids)
            made = self._job(following, old.plan, job_id, now)
            if old.plan.key not in keys:
                made = replace(old, uid=made.uid, id=job_id, run_attempt=following.attempt)
            self.put(made)
        return following

    def put(self, job: WorkflowJob) -> None:
        """Store a job's new state."""
        if job.uid not in self.jobs:
            self._attempts[job.run_id, job.run_attempt].append(job.uid)
            self._latest[job.id] = job.uid
        self.jobs[job.uid] = job
        if job.status == "queued":
            self.queued.setdefault(job.uid)
        else:
            self.queued.pop(job.uid, None)

    def touch(self, run_id: int, now: datetime) -> None:
        self.runs[run_id] = replace(self.runs[run_id], updated_at=now)

    def job(self, job_id: int, repository: Repository | None = None) -> WorkflowJob:
        """The latest job of this id, if GitHub shows it."""
        uid = self._latest.get(job_id)
        if uid is None:
            raise not_found()
        job = self.jobs[uid]
        if repository is not None and self.runs[job.run_id].repository.id != repository.id:
            raise not_found()
        return job

    def run(self, run_id: int, repository: Repository | None = None) -> WorkflowRun:
        run = self.runs.get(run_id)
        if run is None or (repository is not None and run.repository.id != repository.id):
            raise not_found()
        return run

    def of_attempt(self, run_id: int, attempt: int) -> list[WorkflowJob]:
        return [self.jobs[uid] for uid in self._attempts.get((run_id, attempt), ())]

    def shown(self, run_id: int, attempt: int) -> list[WorkflowJob]:
        """What GitHub lists: jobs whose needs are not done do not exist yet."""
        return [job for job in self.of_attempt(run_id, attempt) if job.status != "planned"]

    def siblings(self, job: WorkflowJob) -> list[WorkflowJob]:
        return self.of_attempt(job.run_id, job.run_attempt)

    def outcome(self, run: WorkflowRun) -> tuple[str, str | None]:
        return outcome(self.of_attempt(run.id, run.attempt))

    def of_repository(self, repository: Repository) -> Iterator[WorkflowRun]:
        """Newest first."""
        every = reversed(self.runs.values())
        return (run for run in every if run.repository.id == repository.id)

    def remove(self, run: WorkflowRun) -> None:
        """Forget a run and its jobs."""
        del self.runs[run.id]
        for attempt in range(1, run.attempt + 1):
            for uid in self._attempts.pop((run.id, attempt), ()):
                job = self.jobs.pop(uid)
                self._latest.pop(job.id, None)
                self.queued.pop(uid, None)
                self.logs.pop(uid, None)

    def _job(self, run: WorkflowRun, plan: JobPlan, job_id: int, now: datetime) -> WorkflowJob:
        return WorkflowJob(
            uid=next(self._uids),
            id=job_id,
            run_id=run.id,
            run_attempt=run.attempt,
            plan=plan,
            created_at=now,
        )
