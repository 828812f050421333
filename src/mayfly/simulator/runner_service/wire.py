"""Reading what runners send: keys in any case, enumerations as words or numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.asking import Asked
from mayfly.simulator.refusals import unprocessable

T = TypeVar("T")


async def told(request: Asked, shape: type[T]) -> T:
    """The request's JSON in this shape, whose fields are named in lower case."""
    raw = await request.body() or b"{}"
    try:
        return msgspec.convert(_lowered(msgspec.json.decode(raw)), shape, strict=False)
    except msgspec.MsgspecError as error:
        raise unprocessable(f"the request cannot be read: {error}") from None


def _lowered(value: object) -> object:
    match value:
        case dict():
            return {str(key).lower(): _lowered(inner) for key, inner in value.items()}
        case list():
            return [_lowered(inner) for inner in value]
        case _:
            return value


def instant(text: str | None) -> datetime | None:
    """A time of a runner; one without a zone is UTC."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        # .NET's word for no time at all is out of Python's range.
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def wrapped(values: list[Json]) -> Json:
    """A list as the pipelines service writes it."""
    return {"count": len(values), "value": values}


def precise(at: datetime) -> str:
    """A time as .NET writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
