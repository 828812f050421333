"""When a row next asks for something, in ledger seconds (R5, R7, R9, R10, R17)."""

from datetime import timedelta

from mayfly.model.deadlines import Deadlines
from mayfly.model.jobs import JobState, WorkflowJob
from mayfly.model.runners import Claim, ClaimState

AT_ONCE = 0.0
"""Before everything else that is due: somebody waits for the answer."""
OLD_EVENT = timedelta(hours=24)
"""A job so old that GitHub has to confirm it before it counts; its completion may be forgotten."""
RARELY = 8
"""A job held back by an approval is asked about so many times less often in the end."""


def due_claim(claim: Claim, deadlines: Deadlines) -> float | None:
    """The deadline of a claim's state; an ended one's is to be forgotten."""
    match claim.state:
        case ClaimState.CLAIMED:
            return claim.state_at + deadlines.prepare_seconds
        case ClaimState.MINTING:
            return claim.state_at + deadlines.minting_seconds
        case ClaimState.REGISTERED:
            return claim.state_at + deadlines.idle_look_seconds
        case ClaimState.BUSY:
            known = not claim.unattributed
            return None if known else claim.state_at + deadlines.attribute_seconds
        case _:
            return claim.state_at + deadlines.retention_seconds


def due_job(job: WorkflowJob, at: float, deadlines: Deadlines) -> float:
    """When GitHub is asked about a job, counted from `at`; a job nobody serves is forgotten."""
    if job.group is None or job.state is JobState.COMPLETED:
        return at + deadlines.retention_seconds
    longest = deadlines.check_longest_seconds
    match job.state:
        case JobState.WAITING:
            return at + longest * min(RARELY, 2.0**job.checks)
        case JobState.IN_PROGRESS:
            return at + longest
        case _:
            if job.doubted and not job.checks:
                return AT_ONCE
            return at + min(longest, deadlines.check_queued_seconds * 2.0 ** min(job.checks, 10))


def too_old_to_count(job: WorkflowJob) -> bool:
    """A `queued` that came so late that the job may be over, and even forgotten here (R17)."""
    late = job.received_at - job.event.created_at > OLD_EVENT
    return late and job.state is JobState.QUEUED and not job.event.asked_for
