"""Workflow jobs: what GitHub says happened to one, and what the ledger keeps of it."""

from datetime import datetime
from enum import IntEnum
from typing import NamedTuple, NewType

import msgspec

from mayfly.model.access import Admitted, Decision, Refused

JobId = NewType("JobId", int)
InstallationId = NewType("InstallationId", int)
GroupId = NewType("GroupId", int)


class JobKey(NamedTuple):
    """One attempt of one workflow job; a re-run is another attempt."""

    id: JobId
    attempt: int


class JobState(IntEnum):
    """Ordered: an event never moves a job back. GitHub's `action` words, not its `status`."""

    WAITING = 1
    QUEUED = 2
    IN_PROGRESS = 3
    COMPLETED = 4

    @property
    def word(self) -> str:
        """The word GitHub uses for this state."""
        return self.name.lower()


GONE = "gone"
"""The conclusion of a job GitHub twice did not have; it may be hidden from us for a while."""
ASKED_FOR = "api"
"""Stands for the delivery of a job that GitHub was asked for."""


class WorkflowJobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One `workflow_job` delivery, decoded once at the edge; everything in it comes from GitHub."""

    key: JobKey
    state: JobState
    run_id: int
    name: str
    workflow: str
    labels: tuple[str, ...]
    installation: InstallationId | None
    owner: str
    owner_is_organization: bool
    repository: str
    html_url: str
    branch: str
    conclusion: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    runner_name: str | None
    delivery: str
    """The GUID, or ASKED_FOR when GitHub did not tell but was asked."""

    @property
    def full_name(self) -> str:
        """`owner/repository`, as GitHub writes it."""
        return f"{self.owner}/{self.repository}"

    @property
    def asked_for(self) -> bool:
        """GitHub said it just now, and not in a delivery that may be late."""
        return self.delivery == ASKED_FOR


class WorkflowJob(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the ledger: the newest event, the decision about it and what came of it.

    `received_at` is when Mayfly first heard of the job; `group` is None for a refused one.
    """

    event: WorkflowJobEvent
    decision: Decision
    group: GroupId | None
    received_at: datetime
    due_at: float | None = None
    """Ledger seconds at which GitHub is asked about it (R10), or it is forgotten (R17)."""
    checks: int = 0
    """How often GitHub was asked in this state."""
    misses: int = 0
    """How often in a row GitHub had no such job."""
    doubted: bool = False
    """Not counted before GitHub confirms that it is queued (R10, R17)."""

    @property
    def key(self) -> JobKey:
        """Job id and attempt."""
        return self.event.key

    @property
    def state(self) -> JobState:
        """The furthest state GitHub has reported."""
        return self.event.state

    @property
    def pending(self) -> bool:
        """Whether it is still to be decided, because the access rules could not be read."""
        undecided = isinstance(self.decision, Refused) and self.decision.pending
        return undecided and self.state is not JobState.COMPLETED

    @property
    def counts(self) -> int:
        """1 when the job asks its group for a runner, else 0."""
        waits = self.state is JobState.QUEUED and not self.doubted
        return int(waits and isinstance(self.decision, Admitted))


def merged(known: WorkflowJob | None, new: WorkflowJob) -> WorkflowJob:
    """The row after `new`: states only grow, and the first decision and reception stand.

    A job that waited, or was pending a check, is decided by `new`.

    Idempotent; the order of deliveries does not matter for the state that comes out. What was
    closed as gone has no state of GitHub's, so whatever GitHub says of it begins it anew.
    """
    if known is None or known.event.conclusion == GONE:
        return new
    if new.state <= known.state:
        return _moved(known, new) if _is_installed_anew(known, new) else known
    event = msgspec.structs.replace(
        new.event,
        created_at=min(known.event.created_at, new.event.created_at),
        started_at=new.event.started_at or known.event.started_at,
        runner_name=new.event.runner_name or known.event.runner_name,
    )
    if known.state is JobState.WAITING or known.pending:
        return msgspec.structs.replace(new, event=event, received_at=known.received_at)
    return msgspec.structs.replace(known, event=event, doubted=False)


def _is_installed_anew(known: WorkflowJob, new: WorkflowJob) -> bool:
    """The App was removed and came back, under another id; GitHub's ids only grow."""
    if new.state is not known.state or known.state is JobState.COMPLETED:
        return False
    before, now = known.event.installation, new.event.installation
    return before is not None and now is not None and before < now


def _moved(known: WorkflowJob, new: WorkflowJob) -> WorkflowJob:
    """The row under the new installation, as nothing can be asked of the old one any more."""
    event = msgspec.structs.replace(known.event, installation=new.event.installation)
    if known.state is JobState.IN_PROGRESS:
        return msgspec.structs.replace(known, event=event)
    return msgspec.structs.replace(known, event=event, decision=new.decision, group=new.group)


def closed(job: WorkflowJob, conclusion: str) -> WorkflowJob:
    """The job completed without GitHub having said so: `gone` or `superseded`."""
    event = msgspec.structs.replace(job.event, state=JobState.COMPLETED, conclusion=conclusion)
    return msgspec.structs.replace(job, event=event, doubted=False)
