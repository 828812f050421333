"""Messages: what goes over the bus, as documented JSON with a schema version."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from mayfly.model.errors import Permanent
from mayfly.model.jobs import WorkflowJobEvent

LARGEST_MESSAGE = 64 * 1024
"""Bytes; well under the smallest limit of a bus we know (Service Bus standard: 256 KiB)."""
LEASE_TIME = timedelta(seconds=30)
"""A lease lasts from `lease` to the answer of a claim, about a second."""
KEPT_FOR = timedelta(days=7)
LARGEST_DELIVERIES = 10
"""Leases of a message before it counts as poisoned: ten consumers do not die of bad luck."""
EVENTS = "events"
"""The subject of what edge reflectors publish; no pool may be called so where they do."""
LONGEST_LOOK = 500
"""Characters of a dead message that are shown."""


class RunnerRequest(msgspec.Struct, frozen=True, kw_only=True, tag="runner_request"):
    """A doorbell: the pool has work. Whoever leases it asks the ledger what to do."""

    pool: str
    version: Literal[1] = 1

    @property
    def subject(self) -> str:
        """What a consumer subscribes to."""
        return self.pool


class ReflectedEvent(msgspec.Struct, frozen=True, kw_only=True, tag="workflow_job_event"):
    """What GitHub said of a job, proven by an edge reflector, for a control plane to record."""

    event: WorkflowJobEvent
    version: Literal[1] = 1

    @property
    def subject(self) -> str:
        """What a control plane with `intake = "bus"` subscribes to."""
        return EVENTS


Message = RunnerRequest | ReflectedEvent


class Lease(NamedTuple):
    """A message held by one consumer until it is completed, abandoned or its time is over."""

    id: str
    message: Message


class Waiting(msgspec.Struct, frozen=True):
    """A message that waits, as somebody who only looks sees it."""

    text: str
    """Its body as far as it is text, at most LONGEST_LOOK characters."""
    published_at: datetime


class Dead(msgspec.Struct, frozen=True):
    """A message nobody is given any more."""

    text: str
    """Its body as far as it is text, at most LONGEST_LOOK characters."""
    reason: str
    published_at: datetime


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encoded(message: Message) -> bytes:
    """The message on the wire."""
    return _encoder.encode(message)


def decoded(body: bytes) -> Message:
    """The message from the wire; Permanent for anything we do not understand."""
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise Permanent(f"a message on the bus is not one of ours: {error}") from error


def sized(messages: Sequence[Message]) -> list[tuple[str, bytes]]:
    """Subject and body of each; Permanent when one is too large for a bus."""
    bodies = [(message.subject, encoded(message)) for message in messages]
    if any(len(body) > LARGEST_MESSAGE for _, body in bodies):
        raise Permanent(f"a message is larger than {LARGEST_MESSAGE} bytes")
    return bodies


def legible(body: bytes) -> str:
    """A body nobody understood, for a person to look at."""
    text = body[:LONGEST_LOOK].decode("utf-8", "replace")
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def overdelivered(times: int) -> str:
    """Why a message that was leased too often is dead."""
    return f"leased {times} times and never completed"
