"""What the operator API shows: flat records for people and scripts, times in UTC."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from mayfly.engine.leftovers import Found
from mayfly.model.access import AccessRule, Admitted, Decision, Refused
from mayfly.model.changes import PoolUse
from mayfly.model.demand import DemandGroup
from mayfly.model.executors import Standing
from mayfly.model.jobs import JobId, JobState, WorkflowJob
from mayfly.model.launches import LaunchRecord
from mayfly.model.pools import Pool
from mayfly.model.runners import Claim, Registration
from mayfly.model.scaling import told


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a workflow job."""

    id: int
    attempt: int
    run_id: int
    repository: str
    workflow: str
    name: str
    branch: str
    labels: tuple[str, ...]
    html_url: str
    state: str
    conclusion: str | None
    decision: str
    """`admitted`, or the reason it was refused."""
    pool: str | None
    variant: str | None
    sentence: str
    """The rule that allowed it, or what to do about the refusal."""
    runner: str | None
    created_at: datetime
    received_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    waited_seconds: float
    """Created until started or completed; until now for one that waits."""


class StallView(msgspec.Struct, frozen=True, kw_only=True):
    """A demand group that gets no runner until it is retried or its hour is over."""

    pool: str
    scope: str
    labels: tuple[str, ...]
    queued: int
    """Jobs that wait for it."""
    job_id: int | None
    """One of them, to retry; None when none waits or it was not found among the first 1,000."""
    failures: int
    """In a row."""
    machines: tuple[str, ...]
    """The last two they happened on; none when it was GitHub that refused."""
    reason: str


class RunnerView(msgspec.Struct, frozen=True, kw_only=True):
    """A claim and the runner made of it."""

    claim: str
    state: str
    live: bool
    pool: str
    owner: str
    machine: str
    runner: str | None
    """Its newest name at GitHub; None before there is one and after it is proven gone."""
    job_id: int | None
    job_attempt: int | None
    since: datetime
    detail: str


class GitHubRunnerView(msgspec.Struct, frozen=True, kw_only=True):
    """A self-hosted runner as GitHub lists it."""

    name: str
    scope: str
    status: str
    busy: bool
    labels: tuple[str, ...]
    whose: str
    """ours, worklist (ended, being proven gone), leaked (left behind), or foreign."""


class ExecutorView(msgspec.Struct, frozen=True, kw_only=True):
    """An executor, and whether it serves."""

    machine: str
    pool: str
    state: str
    """idle, busy, or absent: it said goodbye, or nothing for `silent_seconds`."""
    service: str
    """in service, draining, out of service, or ending."""
    claim: str | None
    job_id: int | None
    last_seen: datetime
    reason: str
    """Why it is out of service."""


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of mayfly.toml and how it is used."""

    name: str
    labels: tuple[str, ...]
    own: str | None
    variant: str
    variants: tuple[str, ...]
    scope: str
    guard: bool
    max: int
    max_per_owner: int | None
    used: int
    queued: int
    open: int
    """Runners still to be made."""
    launching: str = ""
    """How executors that are started for it come along; empty: nothing to say."""


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """An access rule."""

    owner: str
    repository: str | None
    label: str
    declared: bool
    """In mayfly.toml, so it cannot be changed here."""
    text: str


class AccessVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a repository may use a pool."""

    allowed: bool
    rule: str | None
    sentence: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One word about the process."""

    status: str


def job_view(job: WorkflowJob, now: datetime) -> JobView:
    """One attempt as people see it."""
    event = job.event
    waiting = event.state <= JobState.QUEUED
    end = now if waiting else event.started_at or event.completed_at or now
    word, pool, variant, sentence = _decided(job.decision)
    return JobView(
        id=event.key.id,
        attempt=event.key.attempt,
        run_id=event.run_id,
        repository=event.full_name,
        workflow=event.workflow,
        name=event.name,
        branch=event.branch,
        labels=event.labels,
        html_url=event.html_url,
        state=event.state.word,
        conclusion=event.conclusion,
        decision=word,
        pool=pool,
        variant=variant,
        sentence=sentence,
        runner=event.runner_name,
        created_at=event.created_at,
        received_at=job.received_at,
        started_at=event.started_at,
        completed_at=event.completed_at,
        waited_seconds=max(0.0, (end - event.created_at).total_seconds()),
    )


def stall_view(group: DemandGroup, job: JobId | None) -> StallView:
    """A stalled group, and one of the jobs that wait in it."""
    return StallView(
        pool=group.pool,
        scope=group.scope,
        labels=group.labels,
        queued=group.queued,
        job_id=job,
        failures=group.fails,
        machines=group.failed_on,
        reason=group.trouble,
    )


def runner_views(
    claims: Iterable[Claim], registrations: Iterable[Registration]
) -> list[RunnerView]:
    """Claims with the newest name each has at GitHub."""
    names = {
        registration.claim: registration.name
        for registration in sorted(registrations, key=lambda known: known.generation)
    }
    return [_runner_view(claim, names.get(claim.id)) for claim in claims]


def github_runner_view(found: Found) -> GitHubRunnerView:
    """A runner at GitHub and whose it is."""
    runner = found.runner
    return GitHubRunnerView(
        name=runner.name,
        scope=found.scope,
        status=runner.status,
        busy=runner.busy,
        labels=runner.labels,
        whose=found.whose.value,
    )


def executor_view(standing: Standing) -> ExecutorView:
    """An executor as people see it."""
    executor, claim, _ = standing
    return ExecutorView(
        machine=executor.machine,
        pool=executor.pool,
        state=standing.activity.value,
        service=standing.service.value,
        claim=claim.id if claim else None,
        job_id=claim.job.id if claim and claim.job else None,
        last_seen=executor.seen_at,
        reason=executor.reason,
    )


def pool_view(pool: Pool, use: PoolUse, launches: Sequence[LaunchRecord]) -> PoolView:
    """Settings and use of one pool."""
    return PoolView(
        name=pool.name,
        labels=pool.labels,
        own=pool.own,
        variant=pool.variant.value,
        variants=pool.variants,
        scope=pool.scope.value,
        guard=pool.guard,
        max=pool.max,
        max_per_owner=pool.max_per_owner,
        used=use.used,
        queued=use.queued,
        open=use.open,
        launching=told(launches),
    )


def rule_view(rule: AccessRule) -> RuleView:
    """One access rule."""
    return RuleView(
        owner=rule.owner,
        repository=rule.repository,
        label=rule.label,
        declared=rule.declared,
        text=str(rule),
    )


def _decided(decision: Decision) -> tuple[str, str | None, str | None, str]:
    match decision:
        case Admitted():
            return "admitted", decision.pool, decision.variant, decision.rule
        case Refused():
            return decision.reason.value, None, None, decision.sentence


def _runner_view(claim: Claim, name: str | None) -> RunnerView:
    return RunnerView(
        claim=claim.id,
        state=claim.state.value,
        live=claim.live,
        pool=claim.pool,
        owner=claim.owner,
        machine=claim.machine,
        runner=name,
        job_id=claim.job and claim.job.id,
        job_attempt=claim.job and claim.job.attempt,
        since=claim.made_at,
        detail=claim.detail,
    )
