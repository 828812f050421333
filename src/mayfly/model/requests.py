"""Runner requests: what goes over the bus, as documented JSON with a schema version."""

from typing import Literal

import msgspec

from mayfly.model.errors import Permanent

LARGEST_MESSAGE = 64 * 1024
"""Bytes; well under the smallest limit of a bus we know (Service Bus standard: 256 KiB)."""


class RunnerRequest(msgspec.Struct, frozen=True, kw_only=True, tag="runner_request"):
    """A doorbell: the pool has work. Whoever leases it asks the ledger what to do."""

    pool: str
    version: Literal[1] = 1

    @property
    def subject(self) -> str:
        """What a consumer subscribes to."""
        return self.pool


Message = RunnerRequest

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)


def encoded(message: Message) -> bytes:
    """The message on the wire."""
    return _encoder.encode(message)


def decoded(body: bytes) -> Message:
    """The message from the wire; Permanent for anything we do not understand."""
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise Permanent(f"a message on the bus is not one of ours: {error}") from error
