"""A message as RabbitMQ carries it: properties and headers, as docs/reference/bus-messages.md."""

from datetime import UTC, datetime
from typing import Any, Final

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage

from mayfly.model.requests import EVENTS, LARGEST_DELIVERIES, overdelivered
from mayfly.ports import Clock

VERSION: Final = "mayfly-version"
"""The header with the schema's version."""
REASON: Final = "mayfly-reason"
"""The header of a dead message that says why."""
_COUNTED: Final = "x-delivery-count"


def outgoing(subject: str, body: bytes, clock: Clock) -> Message:
    """A new message; its type says to other programs what the subject says to us."""
    return Message(
        body,
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=clock.new_id(),
        timestamp=clock.now(),
        type="workflow_job_event" if subject == EVENTS else "runner_request",
        app_id="mayfly",
        headers={VERSION: 1},
    )


def copied(message: AbstractIncomingMessage, reason: str | None = None) -> Message:
    """The same message once more, its deliveries forgotten; with a `reason` it is a dead one."""
    headers = {key: value for key, value in message.headers.items() if _is_kept(key)}
    return Message(
        message.body,
        content_type=message.content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
        headers={**headers, REASON: reason} if reason is not None else headers,
    )


def deliveries(message: AbstractIncomingMessage) -> int:
    """How often its queue has handed it out before."""
    counted = message.headers.get(_COUNTED)
    return counted if isinstance(counted, int) else 0


def published_at(message: AbstractIncomingMessage, otherwise: datetime) -> datetime:
    """When it was published, in whole seconds, if its publisher says so."""
    return otherwise if message.timestamp is None else message.timestamp.astimezone(UTC)


def reason_of(message: AbstractIncomingMessage) -> str:
    """Why it is dead: in our words, or as the server has it."""
    if said := message.headers.get(REASON):
        return str(said)
    word = _first_death(message)
    if word == "delivery_limit":
        return overdelivered(LARGEST_DELIVERIES)
    return f"RabbitMQ put it here: {word}"


def _first_death(message: AbstractIncomingMessage) -> str:
    deaths: Any = message.headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return str(deaths[0].get("reason", "unknown"))
    return "unknown"


def _is_kept(header: str) -> bool:
    return not header.startswith("x-") and header != REASON
