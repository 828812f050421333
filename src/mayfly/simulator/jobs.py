"""Workflow jobs and runs: their states, and the steps from one to the next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from mayfly.simulator.accounts import Repository
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.workflows import JobPlan

# `planned` is ours: its needs are not done, and GitHub does not show it yet.
Status = Literal["planned", "waiting", "queued", "in_progress", "completed"]
Conclusion = Literal["success", "failure", "cancelled", "skipped"]


class RunnerName(Struct, frozen=True, kw_only=True):
    """What a job remembers of its runner when that is long gone."""

    id: int
    name: str
    group_id: int = 1
    group_name: str = "Default"


class StepRecord(Struct, frozen=True, kw_only=True):
    """How one step went."""

    number: int
    name: str
    status: Literal["queued", "in_progress", "completed"] = "queued"
    conclusion: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


class WorkflowJob(Struct, frozen=True, kw_only=True):
    """One job of one attempt of a run."""

    uid: int
    """Ours, and unique; `id` may come twice where re-runs keep it."""
    id: int
    run_id: int
    run_attempt: int
    plan: JobPlan
    created_at: datetime
    status: Status = "planned"
    conclusion: Conclusion | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    runner: RunnerName | None = None
    steps: tuple[StepRecord, ...] = ()
    cancelling: bool = False


class WorkflowRun(Struct, frozen=True, kw_only=True):
    """One run of a workflow; its status follows from its jobs."""

    id: int
    number: int
    attempt: int
    repository: Repository
    workflow: str
    path: str
    event: str
    actor: str
    head_repository: Repository
    head_branch: str
    head_sha: str
    created_at: datetime
    updated_at: datetime


def release(job: WorkflowJob, at: datetime) -> WorkflowJob:
    """Its needs are done: the job is queued, or waits for the approval of its environment."""
    status: Status = "waiting" if job.plan.environment else "queued"
    return replace(job, status=status, created_at=at)


def approve(job: WorkflowJob) -> WorkflowJob:
    if job.status != "waiting":
        raise Refusal(409, f"job {job.id} is {job.status}, not waiting")
    return replace(job, status="queued")


def start(job: WorkflowJob, runner: RunnerName, at: datetime) -> WorkflowJob:
    if job.status != "queued":
        raise Refusal(409, f"job {job.id} is {job.status}, not queued")
    return replace(job, status="in_progress", runner=runner, started_at=at)


def finish(job: WorkflowJob, conclusion: Conclusion, at: datetime) -> WorkflowJob:
    """The end; a completed job stays as it is, whoever reports again."""
    if job.status == "completed":
        return job
    steps = tuple(_closed(step, conclusion, at) for step in job.steps)
    return replace(job, status="completed", conclusion=conclusion, completed_at=at, steps=steps)


def _closed(step: StepRecord, conclusion: Conclusion, at: datetime) -> StepRecord:
    if step.status == "completed":
        return step
    ending = "skipped" if step.status == "queued" else conclusion
    return replace(step, status="completed", conclusion=ending, completed_at=at)


def outcome(jobs: Iterable[WorkflowJob]) -> tuple[str, str | None]:
    """A run's (status, conclusion) from the jobs of its latest attempt."""
    found = list(jobs)
    if all(job.status == "completed" for job in found):
        endings = {job.conclusion for job in found}
        for worst in ("failure", "cancelled", "success"):
            if worst in endings:
                return "completed", worst
        return "completed", "skipped"
    states = {job.status for job in found}
    if "in_progress" in states or "completed" in states:
        return "in_progress", None
    if "queued" in states:
        return "queued", None
    return ("waiting", None) if "waiting" in states else ("queued", None)


def verdict(job: WorkflowJob, siblings: Iterable[WorkflowJob]) -> Literal["later", "go", "skip"]:
    """Whether a planned job may be queued, given the jobs of its attempt."""
    needed = [other for other in siblings if other.plan.key in job.plan.needs]
    if any(other.status != "completed" for other in needed):
        return "later"
    if job.plan.always or all(other.conclusion == "success" for other in needed):
        return "go"
    return "skip"


def rerun_keys(key: str, siblings: Iterable[WorkflowJob]) -> frozenset[str]:
    """The jobs GitHub runs again with one: itself and whatever needs it."""
    again = {key}
    jobs = list(siblings)
    while more := {j.plan.key for j in jobs if j.plan.key not in again and again & {*j.plan.needs}}:
        again |= more
    return frozenset(again)
