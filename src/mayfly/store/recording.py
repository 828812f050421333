"""What GitHub said of workflow jobs, and which of our runners it named (R2, R5, R10)."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from mayfly.model.access import Admitted
from mayfly.model.jobs import GONE, JobId, JobKey, JobState, WorkflowJob, closed, merged
from mayfly.model.runners import Claim, ClaimId, ClaimState, advanced
from mayfly.store.due import AT_ONCE, due_job, too_old_to_count
from mayfly.store.tables import Tables
from mayfly.store.turns import Turn

SUPERSEDED = "superseded"
"""The conclusion of an attempt whose own was never heard before the next attempt."""


def record(turn: Turn, jobs: Sequence[WorkflowJob]) -> None:
    """Merge the jobs into the ledger; a runner of ours named in one moves its claim."""
    ids = {job.key.id for job in jobs}
    turn.tables.hold(pools=_pools(jobs), jobs=ids)
    rows = turn.tables.attempts(ids)
    for job in jobs:
        before = rows.get(job.key)
        after = merged(before, job)
        if after is before:
            if after.doubted and job.state is JobState.QUEUED:
                turn.check_soon(job.key, AT_ONCE)  # it may be queued again, or have been long ago
            continue
        fresh = before is None and too_old_to_count(after)
        if fresh or (before is not None and before.event.conclusion == GONE):
            after = msgspec.structs.replace(after, doubted=not after.event.asked_for)
        rows[job.key] = _changed(turn, before, after)
        if after.event.runner_name and after.state >= JobState.IN_PROGRESS:
            _attribute(turn, after, after.event.runner_name)
    for job_id, attempts in Counter(key.id for key in rows).items():
        if attempts > 1:
            _supersede(turn, rows, job_id)


def redecide(turn: Turn, jobs: Sequence[WorkflowJob]) -> None:
    """Put another decision on jobs that are queued, or still to be decided."""
    turn.tables.hold(pools=_pools(jobs))
    rows = turn.tables.attempts({job.key.id for job in jobs})
    for job in jobs:
        before = rows.get(job.key)
        if before is None or not (before.state is JobState.QUEUED or before.pending):
            continue
        if job.pending and isinstance(before.decision, Admitted):
            continue  # what nobody can decide now stays admitted
        if (before.decision, before.group) != (job.decision, job.group):
            after = msgspec.structs.replace(before, decision=job.decision, group=job.group)
            _changed(turn, before, after)


def claim_named(tables: Tables, runner: str) -> Claim | None:
    """The claim a runner's name (`PREFIX-CLAIM-GENERATION`) belongs to."""
    parts = runner.rsplit("-", 2)
    if len(parts) != 3 or not parts[2].isdecimal():
        return None
    claim = tables.claim(ClaimId(parts[1]))
    return claim if claim and 1 <= int(parts[2]) <= claim.generation else None


def _pools(jobs: Sequence[WorkflowJob]) -> set[str]:
    return {job.decision.pool for job in jobs if isinstance(job.decision, Admitted)}


def _changed(turn: Turn, before: WorkflowJob | None, after: WorkflowJob) -> WorkflowJob:
    fresh = msgspec.structs.replace(after, checks=0, misses=0)
    after = msgspec.structs.replace(fresh, due_at=due_job(fresh, turn.at, turn.deadlines))
    turn.job(before, after)
    return after


def _supersede(turn: Turn, rows: dict[JobKey, WorkflowJob], job: JobId) -> None:
    """A higher attempt closes the older ones, in whatever order they are heard of (R10)."""
    attempts = sorted(key for key in rows if key.id == job)
    for older in attempts[:-1]:
        if rows[older].state is not JobState.COMPLETED:
            _changed(turn, rows[older], closed(rows[older], SUPERSEDED))


def _attribute(turn: Turn, job: WorkflowJob, runner: str) -> None:
    claim = claim_named(turn.tables, runner)
    if claim is None or claim.owner != job.event.owner.lower():
        return  # anyone may name a runner of their own like one of ours
    if job.state is JobState.COMPLETED:
        _completed(turn, claim, job, runner)
    elif claim.live:
        busy = advanced(claim, ClaimState.BUSY, turn.at)
        turn.claim(claim, msgspec.structs.replace(busy, job=job.key))
    else:
        turn.claim(claim, msgspec.structs.replace(claim, job=job.key))
        turn.check_soon(job.key, turn.at + turn.deadlines.proof_seconds)


def _completed(turn: Turn, claim: Claim, job: WorkflowJob, runner: str) -> None:
    """GitHub removes an ephemeral runner with its job, so its name is proven gone."""
    after = claim
    if claim.live:
        after = advanced(claim, ClaimState.DONE, turn.at)
        for older in turn.tables.registrations_of(claim.id):
            if older.next_look_at is None and older.name != runner:
                turn.tables.put_registration(msgspec.structs.replace(older, next_look_at=turn.at))
    gone = turn.tables.registration(runner) is not None
    if gone:
        turn.tables.drop_registration(runner)
    after = msgspec.structs.replace(
        after, job=job.key, registrations=after.registrations - int(gone)
    )
    turn.claim(claim, after)
