"""Requests and their answers: `$cbs` and `$management`; and messages as a client is given them."""

from datetime import datetime
from typing import Any, Protocol, cast
from uuid import UUID

from proton import UNDESCRIBED, Array, Data, Message, int32, symbol, timestamp

from tests.servers.servicebus.entities import LockLost, Namespace, Queue, Stored

LARGEST_PAGE = 100
"""Messages of one answer: the service gives fewer than asked for when it likes."""


class Server(Protocol):
    """What an answer depends on."""

    namespace: Namespace

    def knows(self, token: str) -> bool: ...


def answered(server: Server, path: str, request: Message) -> Message:
    """The answer to a request at `$cbs` or at an entity's `$management`."""
    if path == "$cbs":
        known = server.knows(str(request.body))
        return _answer(
            request,
            {
                "status-code": int32(202 if known else 401),
                "status-description": "Accepted"
                if known
                else "InvalidSignature: the token has an invalid signature.",
            },
        )
    queue = server.namespace.queue(path.removesuffix("/$management"))
    if queue is None:
        return _managed(request, 404, "not found", condition="amqp:not-found")
    try:
        return _managed(request, *_done(queue, request))
    except LockLost:
        return _managed(
            request, 410, "the lock is lost", condition="com.microsoft:message-lock-lost"
        )


def _done(queue: Queue, request: Message) -> tuple[int, str, Any]:
    operation = cast("dict[str, Any]", request.properties)["operation"]
    asked = cast("dict[str, Any]", request.body)
    if operation == "com.microsoft:peek-message":
        most = min(asked["message-count"], LARGEST_PAGE)
        found = queue.peeked(asked["from-sequence-number"], most)
        if not found:
            return 204, "no content", None
        return 200, "OK", {"messages": [{"message": outgoing(stored)} for stored in found]}
    tokens = [UUID(str(token)) for token in asked["lock-tokens"].elements]
    if operation == "com.microsoft:renew-lock":
        ends = [timestamp(_millis(queue.renew(token))) for token in tokens]
        return 200, "OK", {"expirations": Array(cast("Any", UNDESCRIBED), Data.TIMESTAMP, *ends)}
    if operation == "com.microsoft:update-disposition":
        for token in tokens:
            _dispose(queue, token, asked)
        return 200, "OK", None
    return 501, f"{operation} is not implemented", None


def _dispose(queue: Queue, token: UUID, asked: dict[str, Any]) -> None:
    status = asked["disposition-status"]
    if status == "completed":
        queue.complete(token)
    elif status == "abandoned":
        queue.abandon(token)
    elif status == "suspended":
        queue.bury(token, asked["deadletter-reason"], asked["deadletter-description"])


def _managed(
    request: Message, status: int, description: str, body: Any = None, condition: str | None = None
) -> Message:
    told: dict[str, Any] = {"statusCode": int32(status), "statusDescription": description}
    if condition is not None:
        told["errorCondition"] = symbol(condition)
    return _answer(request, told, body)


def _answer(request: Message, told: dict[str, Any], body: Any = None) -> Message:
    return Message(correlation_id=request.id, properties=told, body=body)


def outgoing(stored: Stored) -> bytes:
    """A message with what the service says about it."""
    message = Message()
    message.decode(stored.encoded)
    message.inferred = isinstance(message.body, bytes | memoryview)
    message.delivery_count = stored.deliveries
    annotations: dict[Any, Any] = {
        symbol("x-opt-sequence-number"): stored.sequence,
        symbol("x-opt-enqueued-time"): timestamp(_millis(stored.enqueued_at)),
    }
    if stored.lock is not None and stored.locked_until is not None:
        annotations[symbol("x-opt-locked-until")] = timestamp(_millis(stored.locked_until))
    message.annotations = annotations
    if stored.reason is not None:
        told = cast("dict[str, Any]", message.properties)
        told["DeadLetterReason"] = stored.reason
        told["DeadLetterErrorDescription"] = stored.description or ""
    return message.encode()


def _millis(at: datetime) -> int:
    return round(at.timestamp() * 1000)
