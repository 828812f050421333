"""Launches: executors of elastic pools that a platform is asked to start, one job each."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType

import msgspec

LaunchId = NewType("LaunchId", str)
"""Sorts by time; lower-case letters and digits only, so that every platform takes it as a name."""


class Ticket:
    """What a started executor proves itself with, once; only `reveal` shows it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The ticket itself. A platform shows it to whoever may read what it started."""
        return self._text

    def __repr__(self) -> str:
        return "Ticket(…)"


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One executor that is wanted; its id stays the same however often the platform is asked."""

    id: LaunchId
    pool: str
    wanted_at: datetime


class LaunchState(StrEnum):
    """What the platform says of it."""

    STARTING = "starting"
    """Accepted, and nothing of it runs yet."""
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    """Ended by itself or by the platform, and not well."""


class Launched(NamedTuple):
    """One launch as the platform knows it."""

    id: LaunchId
    state: LaunchState
    detail: str
    """The platform's own words, for people; empty when it has none."""
