"""Launches: executors of elastic pools that a platform is asked to start, one job each."""

import re
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple, NewType, Self

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


class LaunchPhase(StrEnum):
    """How far a launch has come, as the ledger knows it."""

    WANTED = "wanted"
    """The platform has not accepted it yet, as far as is known."""
    STARTING = "starting"
    """Accepted; its executor has not spoken yet."""
    READY = "ready"
    """Its ticket was redeemed, and it has made no claim yet."""
    WORKING = "working"
    ENDING = "ending"
    """It makes no claim any more; the platform may still have it."""
    OVER = "over"


SUPPLY = frozenset({LaunchPhase.WANTED, LaunchPhase.STARTING, LaunchPhase.READY})
"""Will claim, or may; whoever has claimed counts by its claim."""
LIVE = SUPPLY | {LaunchPhase.WORKING, LaunchPhase.ENDING}


class Issued(NamedTuple):
    """A ticket that was given to a platform."""

    hash: str
    until: float
    """Ledger seconds; to be redeemed before."""


class LaunchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A launch in the ledger. Times are ledger seconds; secrets are there as hashes only."""

    id: LaunchId
    pool: str
    wanted_at: datetime
    phase: LaunchPhase = LaunchPhase.WANTED
    phase_at: float
    worked: bool = False
    """It has made a claim."""
    failed: bool = False
    """Ended without a claim, and nobody had told it to."""
    tickets: tuple[Issued, ...] = ()
    """One for each time the platform was asked, because an answer may have got lost."""
    nonce: str = ""
    """Whose the redeemed ticket is."""
    redeemed_at: float = 0.0
    token: str | None = None
    token_until: float = 0.0
    tries: int = 0
    """Times in a row that the platform refused it."""
    retry_at: float = 0.0
    detail: str = ""
    """Why it waits, or how it ended."""
    misused: int = 0
    """Times somebody came with its ticket in vain."""

    @property
    def launch(self) -> Launch:
        """What the platform is asked for."""
        return Launch(id=self.id, pool=self.pool, wanted_at=self.wanted_at)

    @property
    def machine(self) -> str:
        """What its executor is called in the ledger."""
        return machine_of(self.id)

    def moved(self, phase: LaunchPhase, at: float, detail: str | None = None) -> Self:
        """In another phase from `at` on."""
        said = self.detail if detail is None else detail
        return msgspec.structs.replace(self, phase=phase, phase_at=at, detail=said)


def machine_of(launch: LaunchId) -> str:
    """The machine of a launched executor, which has no name of its own."""
    return f"{_MACHINE}{launch}"


def launch_of(machine: str) -> LaunchId | None:
    """The launch whose machine it is; None: a parked one."""
    found = _OF_LAUNCH.fullmatch(machine)
    return LaunchId(found[1]) if found else None


def hashed(secret: str) -> str:
    """SHA-256 in hexadecimal. No salt: what is hashed has 256 random bits."""
    return sha256(secret.encode()).hexdigest()


class Redemption(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to turn a ticket into a token, with hashes in the place of secrets."""

    launch: LaunchId
    pool: str
    """Which the executor is set up for."""
    ticket: str
    nonce: str
    """Chosen by the executor, so that it may ask again when the answer got lost."""
    token: str


class TicketRefused(NamedTuple):
    """Why a ticket gives nothing."""

    sentence: str
    pool: str | None
    """None: nothing is known of it."""


class Plan(NamedTuple):
    """What the platform is to be asked for one pool, now."""

    start: list[LaunchRecord]
    stop: list[LaunchRecord]
    written_off: list[LaunchRecord]
    """Did not claim in time."""
    short: int
    """Executors that are lacking, whether they are to be started or left to parked ones."""
    watched: bool
    """Whether something is about to start or to end on the platform."""
    phases: dict[LaunchPhase, int]
    """How many are in each phase that is not over."""
    paused_until: float | None = None
    """Too many starts failed in a row; in ledger seconds."""


_MACHINE = "launch/"
_OF_LAUNCH = re.compile(rf"{_MACHINE}([0-9a-z]{{26}})")
"""A host may be called `launch`; its slots have short numbers."""
