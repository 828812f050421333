"""Rows of the SQL tables, as the model's values and back."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Row

from mayfly.model.access import Admitted, Scope
from mayfly.model.demand import Demand, DemandGroup
from mayfly.model.jobs import GroupId, InstallationId, JobId, JobKey, WorkflowJob
from mayfly.model.runners import Claim, ClaimId, ClaimState, Registration, RunKey

_encode = msgspec.json.Encoder().encode
_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode

job_of = msgspec.json.Decoder(WorkflowJob).decode
"""The job in a row's `facts`."""


def job_row(job: WorkflowJob) -> dict[str, Any]:
    """The columns of a job."""
    event = job.event
    return {
        "id": event.key.id,
        "attempt": event.key.attempt,
        "grp": None if job.doubted else job.group,  # not in its group until GitHub confirms it
        "state": int(event.state),
        "queued_at": millis(event.created_at),
        "received_at": millis(job.received_at),
        "due_at": job.due_at,
        "pool": pool_of(job),
        "owner": event.owner,
        "repo": event.repository,
        "runner_name": event.runner_name,
        "facts": _encode(job),
        "installation": event.installation,
        "pending": job.pending,
    }


def pool_of(job: WorkflowJob) -> str | None:
    """Where it was admitted to."""
    return job.decision.pool if isinstance(job.decision, Admitted) else None


def new_group(demand: Demand, queued: int, at: float) -> dict[str, Any]:
    """The columns of a group nobody has claimed for."""
    return {
        "id": demand.group,
        "key": demand.key,
        "installation": demand.installation,
        "scope": demand.scope,
        "pool": demand.pool,
        "owner": demand.owner,
        "variant": demand.variant,
        "labels": ",".join(demand.labels),
        "queued": queued,
        "supply": 0,
        "sure": 0,
        "at": at,
    }


def group_of(row: Row[Any]) -> DemandGroup:
    """The group in a row."""
    return DemandGroup(
        id=GroupId(row.id),
        installation=InstallationId(row.installation),
        scope=Scope(row.scope),
        pool=row.pool,
        owner=row.owner,
        variant=row.variant,
        labels=tuple(row.labels.split(",")),
        queued=row.queued,
        supply=row.supply,
        sure=row.sure,
        surplus_since=row.surplus_since,
        fails=row.fails,
        failed_on=_decode_names(row.failed_on),
        retry_at=row.retry_at,
        trouble=row.trouble,
        stalled=row.stalled,
    )


def claim_row(claim: Claim) -> dict[str, Any]:
    """The columns of a claim."""
    return {
        "id": claim.id,
        "grp": claim.group,
        "pool": claim.pool,
        "owner": claim.owner,
        "machine": claim.machine,
        "boot": claim.boot,
        "key": claim.key,
        "state": claim.state.value,
        "state_at": claim.state_at,
        "heard_at": claim.heard_at,
        "made_at": millis(claim.made_at),
        "generation": claim.generation,
        "job_id": claim.job.id if claim.job else None,
        "job_attempt": claim.job.attempt if claim.job else None,
        "unattributed": claim.unattributed,
        "registrations": claim.registrations,
        "finished": claim.finished,
        "detail": claim.detail,
        "per_owner": claim.per_owner,
        "due_at": claim.due_at,
        "idle_since": claim.idle_since,
        "extensions": claim.extensions,
        "run_repository": claim.run and claim.run.repository,
        "run_id": claim.run and claim.run.id,
        "run_attempt": claim.run and claim.run.attempt,
        "written_off": claim.written_off,
    }


def claim_of(row: Row[Any]) -> Claim:
    """The claim in a row."""
    return Claim(
        id=ClaimId(row.id),
        group=GroupId(row.grp),
        pool=row.pool,
        owner=row.owner,
        machine=row.machine,
        boot=row.boot,
        key=row.key,
        state=ClaimState(row.state),
        state_at=row.state_at,
        heard_at=row.heard_at,
        made_at=time_of(row.made_at),
        generation=row.generation,
        job=None if row.job_id is None else JobKey(JobId(row.job_id), row.job_attempt),
        unattributed=row.unattributed,
        registrations=row.registrations,
        finished=row.finished,
        detail=row.detail,
        per_owner=row.per_owner,
        due_at=row.due_at,
        idle_since=row.idle_since,
        extensions=row.extensions,
        run=RunKey(row.run_repository, row.run_id, row.run_attempt) if row.run_id else None,
        written_off=row.written_off,
    )


def registration_of(row: Row[Any]) -> Registration:
    """The registration in a row, beside its claim's pool."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public spelling
    del values["pool"]
    return Registration(**values)


def millis(at: datetime) -> int:
    """As it is stored: milliseconds since 1970."""
    return int(at.timestamp() * 1000)


def time_of(stored: int) -> datetime:
    """What was stored."""
    return datetime.fromtimestamp(stored / 1000, UTC)


def maybe_time_of(stored: int | None) -> datetime | None:
    """What was stored, if anything was."""
    return None if stored is None else time_of(stored)
