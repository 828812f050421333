"""A workflow job as GitHub writes it, in a webhook or in an answer, and the event it becomes."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from mayfly.model.jobs import InstallationId, JobId, JobKey, JobState, WorkflowJobEvent

Id = Annotated[int, msgspec.Meta(gt=0, le=2**63 - 1)]
"""GitHub's ids fit in a signed 64-bit column; anything else is not one."""

Time = Annotated[datetime, msgspec.Meta(tz=True)]

STATE_OF_ACTION = {state.word: state for state in JobState}
"""By the `action` of a delivery. `status` is no guide: GitHub's `queued` example says waiting."""

STATE_OF_STATUS = {
    **STATE_OF_ACTION,
    # Neither can take a runner yet; they are asked about again before they count.
    "pending": JobState.WAITING,
    "requested": JobState.WAITING,
}
"""By the `status` of a job GitHub was asked for."""


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The fields of a workflow job that are used."""

    id: Id
    run_id: Id
    run_attempt: Id = 1
    name: str = ""
    workflow_name: str | None = None
    status: str = ""
    conclusion: str | None = None
    labels: tuple[str, ...]
    head_branch: str | None = None
    html_url: str | None = None
    created_at: Time | None = None
    started_at: Time | None = None
    completed_at: Time | None = None
    runner_name: str | None = None


class Place(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a job belongs."""

    owner: str
    owner_is_organization: bool
    repository: str
    installation: InstallationId | None


def event_of(
    record: JobRecord, state: JobState, place: Place, delivery: str
) -> WorkflowJobEvent | None:
    """The event, or None for a record without any time, which cannot be put in order."""
    created_at = record.created_at or record.started_at
    if created_at is None:
        return None
    return WorkflowJobEvent(
        key=JobKey(JobId(record.id), record.run_attempt),
        state=state,
        run_id=record.run_id,
        name=record.name,
        workflow=record.workflow_name or "",
        labels=record.labels,
        installation=place.installation,
        owner=place.owner,
        owner_is_organization=place.owner_is_organization,
        repository=place.repository,
        html_url=record.html_url or "",
        branch=record.head_branch or "",
        conclusion=record.conclusion,
        created_at=created_at.astimezone(UTC),
        started_at=_utc(record.started_at),
        completed_at=_utc(record.completed_at),
        # A job cancelled before a runner took it names none, as null or as an empty string.
        runner_name=record.runner_name or None,
        delivery=delivery,
    )


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)


def without_nul(event: WorkflowJobEvent) -> WorkflowJobEvent:
    """The event with U+FFFD for NUL, which PostgreSQL's text type does not take."""
    return msgspec.structs.replace(
        event,
        name=_shown(event.name),
        workflow=_shown(event.workflow),
        labels=tuple(_shown(label) for label in event.labels),
        owner=_shown(event.owner),
        repository=_shown(event.repository),
        html_url=_shown(event.html_url),
        branch=_shown(event.branch),
        conclusion=_shown(event.conclusion or "") or None,
        runner_name=_shown(event.runner_name or "") or None,
        delivery=_shown(event.delivery),
    )


def has_nul(event: WorkflowJobEvent) -> bool:
    """Whether any text in it contains NUL; searching the whole body would take longer."""
    texts = (event.name, event.workflow, event.owner, event.repository, event.html_url)
    others = (event.branch, event.conclusion or "", event.runner_name or "", event.delivery)
    return "\0" in "".join((*texts, *others, *event.labels))


def _shown(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
