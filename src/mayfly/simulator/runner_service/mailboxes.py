"""What waits for each runner: its job, and the word that the job is cancelled."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Final

from msgspec import Struct, field

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.jobs import WorkflowJob
from mayfly.simulator.runner_service import encryption
from mayfly.simulator.runner_service.plans import job_guid
from mayfly.simulator.runner_service.sessions import OpenSession
from mayfly.simulator.runners import Runner

CANCELLATION: Final = "JobCancellation"


class Message(Struct, frozen=True, kw_only=True):
    """One message; it comes again until it is deleted or acknowledged."""

    id: int
    kind: str
    body: str
    job: int


class Mailbox(Struct, kw_only=True):
    """The messages of one runner, and what it was told before."""

    waiting: list[Message] = field(default_factory=list)
    given: int | None = None
    cancelled: int | None = None


class Mailboxes:
    """One for each runner that has listened."""

    def __init__(self, write: Callable[[WorkflowJob, Runner], tuple[str, Json]]) -> None:
        """`write` words the message of a job: (kind, body)."""
        self._write = write
        self._boxes: dict[int, Mailbox] = {}
        self._ids = itertools.count(1)

    def first(self, runner: Runner, job: WorkflowJob | None, after: int) -> Message | None:
        """The oldest message newer than `after`; `job` is the runner's at present."""
        box = self._boxes.setdefault(runner.id, Mailbox())
        box.waiting = [message for message in box.waiting if message.job == runner.job]
        if job is not None and job.status == "queued" and box.given != job.uid:
            box.given = job.uid
            kind, body = self._write(job, runner)
            self._put(box, kind, body, job.uid)
        if job is not None and job.cancelling and box.cancelled != job.uid:
            box.cancelled = job.uid
            body = {"jobId": job_guid(job), "timeout": "00:05:00"}
            self._put(box, CANCELLATION, body, job.uid)
        return next((message for message in box.waiting if message.id > after), None)

    def take(self, runner_id: int, message_id: int) -> Message | None:
        """Remove a message; None when it is not there any more."""
        box = self._boxes.get(runner_id, Mailbox())
        found = next((m for m in box.waiting if m.id == message_id), None)
        if found is not None:
            box.waiting.remove(found)
        return found

    def take_of(self, runner_id: int, job: int) -> None:
        """Remove the message of a job: the runner has it."""
        box = self._boxes.get(runner_id, Mailbox())
        box.waiting = [m for m in box.waiting if m.job != job or m.kind == CANCELLATION]

    def clear(self, runner_id: int) -> None:
        """Begin anew: the runner was away, and its job may have been another's in between."""
        self._boxes.pop(runner_id, None)

    def _put(self, box: Mailbox, kind: str, body: Json, job: int) -> None:
        box.waiting.append(Message(id=next(self._ids), kind=kind, body=text(body), job=job))


def text(body: Json) -> str:
    """A message's body before it is sealed."""
    return json.dumps(body)


def shape(message: Message, session: OpenSession) -> Json:
    """A message as this session may read it."""
    head: Json = {"messageId": message.id, "messageType": message.kind}
    if session.key is None:
        return head | {"iv": None, "body": message.body}
    iv, body = encryption.sealed(message.body, session.key)
    return head | {"iv": iv, "body": body}
