"""What GitHub says of a job when it is asked, because nothing was heard of it (R10)."""

import msgspec

from mayfly.model.jobs import GONE, JobKey, JobState, WorkflowJob, closed
from mayfly.store import recording
from mayfly.store.due import due_job
from mayfly.store.turns import Turn

NEEDED_MISSES = 2
"""One 404 may be an error of a moment."""


def checked(turn: Turn, key: JobKey, answer: WorkflowJob | None) -> None:
    """Put the answer in the ledger, and say when to ask again."""
    row = turn.tables.attempts([key.id]).get(key)
    if row is None or row.state is JobState.COMPLETED:
        return
    if answer is None:
        _missed(turn, row)
    elif answer.key != key or answer.state > row.state:
        recording.record(turn, [answer])
        if answer.key < key:
            postponed(turn, key)
    else:
        held_back = row.state is JobState.QUEUED and answer.state is JobState.WAITING
        asked = msgspec.structs.replace(row, checks=row.checks + 1, misses=0, doubted=held_back)
        turn.row(row, _later(turn, asked))


def postponed(turn: Turn, key: JobKey) -> None:
    """GitHub could not be asked: neither an answer nor a miss."""
    row = turn.tables.attempts([key.id]).get(key)
    if row is not None and row.state is not JobState.COMPLETED:
        turn.row(row, _later(turn, msgspec.structs.replace(row, checks=row.checks + 1)))


def _missed(turn: Turn, row: WorkflowJob) -> None:
    misses = row.misses + 1
    if misses >= NEEDED_MISSES:
        after = closed(row, GONE)
        kept_until = turn.at + turn.deadlines.retention_seconds
        turn.job(row, msgspec.structs.replace(after, misses=misses, due_at=kept_until))
        return
    again = turn.at + turn.deadlines.look_again_seconds
    turn.row(row, msgspec.structs.replace(row, misses=misses, due_at=again))


def _later(turn: Turn, row: WorkflowJob) -> WorkflowJob:
    return msgspec.structs.replace(row, due_at=due_job(row, turn.at, turn.deadlines))
