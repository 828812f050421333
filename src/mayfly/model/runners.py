"""Claims and registrations: a runner being made, at work, or not yet proven gone."""

from datetime import datetime
from enum import StrEnum
from typing import NewType

import msgspec

from mayfly.model.errors import StaleClaim
from mayfly.model.jobs import GroupId, JobKey

ClaimId = NewType("ClaimId", str)


class ClaimState(StrEnum):
    """`claimed → minting → registered → busy → done`, or one of the other ends."""

    CLAIMED = "claimed"
    MINTING = "minting"
    REGISTERED = "registered"
    BUSY = "busy"
    DONE = "done"
    WITHDRAWN = "withdrawn"
    """Not needed any more before it was registered."""
    FAILED = "failed"
    """The executor could not prepare or start a runner."""
    LOST = "lost"
    """The executor went silent, and GitHub has no runner of it."""
    RETIRED = "retired"
    """Registered, never used, and deleted at GitHub."""


LIVE = frozenset({ClaimState.CLAIMED, ClaimState.MINTING, ClaimState.REGISTERED, ClaimState.BUSY})

_EDGES: dict[ClaimState, frozenset[ClaimState]] = {
    ClaimState.CLAIMED: frozenset(
        {ClaimState.MINTING, ClaimState.WITHDRAWN, ClaimState.FAILED, ClaimState.LOST}
    ),
    ClaimState.MINTING: frozenset(
        {
            ClaimState.MINTING,
            ClaimState.REGISTERED,
            ClaimState.BUSY,
            ClaimState.DONE,
            ClaimState.FAILED,
            ClaimState.LOST,
        }
    ),
    ClaimState.REGISTERED: frozenset(
        {
            ClaimState.MINTING,
            ClaimState.BUSY,
            ClaimState.DONE,
            ClaimState.FAILED,
            ClaimState.LOST,
            ClaimState.RETIRED,
        }
    ),
    ClaimState.BUSY: frozenset({ClaimState.BUSY, ClaimState.DONE}),
}


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One executor's promise to make one runner for a demand group. Times are ledger seconds."""

    id: ClaimId
    group: GroupId
    pool: str
    owner: str
    machine: str
    boot: str
    key: str
    state: ClaimState = ClaimState.CLAIMED
    state_at: float
    heard_at: float
    made_at: datetime
    generation: int = 0
    job: JobKey | None = None
    unattributed: bool = False
    """Busy, but GitHub has not said with which job."""
    registrations: int = 0
    """Names of this claim that are not proven gone."""
    finished: bool = False
    """The executor itself said finish."""
    detail: str = ""
    """Why it ended, for people."""
    per_owner: int | None = None
    """The bound for one owner under which it was made; a re-bind keeps it."""

    @property
    def live(self) -> bool:
        """Whether the claim may still come to have a working runner."""
        return self.state in LIVE

    @property
    def sure(self) -> int:
        """1 when GitHub may hand a queued job to it now."""
        busy_unknown = self.state is ClaimState.BUSY and self.unattributed
        return int(self.state in {ClaimState.MINTING, ClaimState.REGISTERED} or busy_unknown)

    @property
    def supply(self) -> int:
        """1 when it will serve, or may be serving, a job still counted as queued."""
        return int(self.state is ClaimState.CLAIMED or self.sure)

    @property
    def used(self) -> int:
        """1 while it takes a slot: live, or ended without a word and not proven gone."""
        return int(self.live or (not self.finished and self.registrations > 0))


def advanced(claim: Claim, to: ClaimState, at: float, *, detail: str = "") -> Claim:
    """The claim in state `to`; StaleClaim when the state table has no such edge."""
    if to not in _EDGES.get(claim.state, frozenset()):
        raise StaleClaim(f"claim {claim.id} is {claim.state}, so it cannot become {to}")
    return msgspec.structs.replace(
        claim, state=to, state_at=at, unattributed=False, detail=detail or claim.detail
    )


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A runner's name: recorded before GitHub is asked, kept until proven gone (R4, R6)."""

    name: str
    claim: ClaimId
    generation: int
    github_id: int | None = None
    negatives: int = 0
    next_look_at: float | None = None
    """Ledger seconds; None while the claim's own state watches over it."""


class Sighting(StrEnum):
    """What GitHub answered about a name."""

    GONE = "gone"
    """DELETE said 204 or 404 for its id: proven."""
    NOT_FOUND = "not_found"
    """No runner has this name: not yet a proof, a timed-out mint can take effect later."""
    BUSY = "busy"
    """DELETE said 422."""
    UNREACHABLE = "unreachable"


def runner_name(prefix: str, claim: ClaimId, generation: int) -> str:
    """`PREFIX-CLAIM-GENERATION`; GitHub allows 64 characters."""
    return f"{prefix}-{claim}-{generation}"
