"""Claims and registrations: a runner being made, at work, or not yet proven gone."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType

import msgspec

from mayfly.model.errors import StaleClaim
from mayfly.model.jobs import GroupId, JobKey
from mayfly.model.releases import Version

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


class RunKey(NamedTuple):
    """One attempt of a workflow run, as the job-start hook knows it."""

    repository: str
    """`owner/repository`."""
    id: int
    attempt: int


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
    run: RunKey | None = None
    """The run of that job, when the job-start hook has told it."""
    due_at: float | None = None
    """When the clock asks for something: the state's deadline, or to forget an ended claim."""
    idle_since: float | None = None
    """Registered and unused since then, None before somebody looked; or GitHub is asked in vain to
    mint since then."""
    extensions: int = 0
    """How often an idle runner was left alone because its group's oldest job still waited."""
    registrations: int = 0
    """Names of this claim that are not proven gone."""
    finished: bool = False
    """The executor itself said finish."""
    written_off: bool = False
    """Its slot was freed although GitHub could not be asked whether the runner is gone (R6)."""
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
        over = self.finished or self.written_off
        return int(self.live or (not over and self.registrations > 0))


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
    unreachable_since: float | None = None
    """Ledger seconds since when GitHub could not be asked about it."""
    unreached: int = 0
    """Tries since then."""
    token_until: float | None = None
    """Ledger seconds until which whoever has the registration token that was handed out for it may
    still register it, so that nothing proves it gone before (R6); None: nobody has one."""

    def may_appear(self, at: float) -> bool:
        """Whether a runner of this name can come to be although GitHub has none now."""
        return self.token_until is not None and self.token_until > at


class Sighting(StrEnum):
    """What GitHub answered about a name."""

    GONE = "gone"
    """DELETE said 404 for its id: proven."""
    DELETED = "deleted"
    """DELETE said 204: it was there, without a job, and is gone now: proven."""
    NOT_FOUND = "not_found"
    """No runner has this name: not yet a proof, a timed-out mint can take effect later."""
    BUSY = "busy"
    """DELETE said 422."""
    REFUSED = "refused"
    """GitHub did not let us ask."""
    UNREACHABLE = "unreachable"


class Minted(NamedTuple):
    """A registration at GitHub; the config is a secret and is used at most once."""

    github_id: int
    jit_config: str

    def __repr__(self) -> str:
        return f"Minted(github_id={self.github_id}, jit_config=…)"


class RegistrationToken(NamedTuple):
    """Registers any runners at one scope for an hour: a secret."""

    token: str
    url: str
    """The web address it belongs to, as runner programs want it: `https://HOST/OWNER/REPO`."""

    def __repr__(self) -> str:
        return f"RegistrationToken(url={self.url!r}, token=…)"


class GitHubRunner(NamedTuple):
    """A runner as GitHub lists it; `busy` lags by up to a minute."""

    id: int
    name: str
    status: str
    busy: bool
    labels: tuple[str, ...]
    version: Version | None = None
    """None before the runner has connected for the first time."""


def runner_name(prefix: str, claim: ClaimId, generation: int) -> str:
    """`PREFIX-CLAIM-GENERATION`; GitHub allows 64 characters."""
    return f"{prefix}-{claim}-{generation}"
