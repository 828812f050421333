"""What an executor and the control plane say to each other over HTTPS (`/v1`)."""

from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec

LARGEST_RING = 1000
"""Runner requests of one order."""


class LeaseOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/pools/{pool}/lease`: wait for a runner request."""

    wait_seconds: float = 25.0


class Leased(msgspec.Struct, frozen=True, kw_only=True):
    """A runner request is waiting: ask for a claim and name the lease."""

    lease: str


class SettleOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/leases/complete` and `/abandon`: a lease ends without a claim."""

    lease: str


class RingOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/pools/{pool}/ring`: publish so many runner requests for the pool."""

    times: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_RING)] = 1


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages there are, or were."""

    count: int


class Duty(StrEnum):
    """What an executor shall do."""

    SERVE = "serve"
    REST = "rest"
    """Take no claim; a job that runs is finished."""
    END = "end"
    """The same, and then exit with 42."""


class AttendOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/pools/{pool}/attend`: say that the executor is there, and wait for another duty."""

    machine: str
    boot: str
    duty: Duty = Duty.SERVE
    """What it does now: the answer comes at once when it should do something else."""
    ending: bool = False
    """Its own host told it to end."""
    gone: bool = False
    """Its last word."""
    wait_seconds: float = 25.0


class Attended(msgspec.Struct, frozen=True, kw_only=True):
    """What the executor shall do."""

    duty: Duty
    reason: str = ""
    waited_seconds: float = 0.0
    """The longest that this answer can have waited: who gets it much earlier asks less often."""


class ExecutorsOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/executors/drain`, `/shutdown` and `/return`: which of them, and why."""

    machine: str | None = None
    """As the ledger knows it, or a host with all of its slots."""
    pool: str | None = None
    """Alone: some idle executor of it, or with `return` one that is out of service."""
    everything: bool = False
    """Every executor, or every one of `pool`."""
    reason: str | None = None


class RedeemOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/tickets/redeem`: become a launched executor. The ticket is in the header."""

    pool: str
    """The one it is set up for; a ticket of another is refused, and stays good."""
    nonce: str
    """The executor's own secret; the same when the answer got lost."""

    def __repr__(self) -> str:
        return f"RedeemOrder(pool={self.pool!r}, nonce=…)"


class Redeemed(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticket gives, once. `token` is a secret, bound to the pool and the machine."""

    token: str
    machine: str
    pool: str

    def __repr__(self) -> str:
        return f"Redeemed(machine={self.machine!r}, pool={self.pool!r}, token=…)"


class ClaimOrder(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """`POST /v1/claims`: ask what to do. The same `key` gets the same claim."""

    pool: str
    machine: str
    boot: str
    key: str
    variants: tuple[str, ...] = ()
    """Variants this machine serves; empty: any."""
    lease: str | None = None
    """Settled by the control plane once the claim is answered."""
    own_bus: bool = False
    """The executor leases from a bus itself, where the pool's name has to be the very same."""


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """The claim, and all an executor needs to prepare for it; no secret."""

    claim: str
    pool: str
    variant: str | None
    labels: tuple[str, ...]
    scope: str
    guard: bool
    heartbeat_seconds: float


class BootOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/claims/{id}/registration`, `/registration-token`, `/heartbeat`: which run of the
    executor speaks."""

    boot: str


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A runner minted now. `jit_config` is a secret, used once and never stored."""

    name: str
    generation: int
    jit_config: str

    def __repr__(self) -> str:
        return f"Registered(name={self.name!r}, generation={self.generation}, jit_config=…)"


class Entrusted(msgspec.Struct, frozen=True, kw_only=True):
    """Leave to register the runner `name` oneself. `token` is a secret, good for an hour."""

    name: str
    generation: int
    labels: tuple[str, ...]
    url: str
    """The web address to register at: `https://HOST/OWNER/REPO`."""
    token: str

    def __repr__(self) -> str:
        return f"Entrusted(name={self.name!r}, generation={self.generation}, token=…)"


class ConfiguredOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/claims/{id}/configured`: that runner is registered, and the token is spent."""

    boot: str
    generation: int


class Order(StrEnum):
    """What a heartbeat is answered with."""

    CONTINUE = "continue"
    STOP = "stop"
    """The runner is not needed: stop it, clean up, finish."""


class HeartbeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a heartbeat."""

    order: Order
    reason: str = ""


class StartedOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/claims/{id}/started`: the job-start guard asks before the first step."""

    boot: str
    repository: str
    run_id: int
    run_attempt: int


class StartedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the job that began on this runner was admitted."""

    allowed: bool
    reason: str = ""


class Outcome(StrEnum):
    """How an executor's work on a claim ended."""

    DONE = "done"
    """The runner process ran and ended; GitHub's record says how the job went."""
    STOPPED = "stopped"
    """Told to stop, by the control plane or by an operator."""
    FAILED = "failed"
    """The environment or the runner could not be started."""


class Finished(NamedTuple):
    """How a driver's runner ended."""

    outcome: Outcome
    exit_code: int | None
    detail: str


class FinishOrder(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """`POST /v1/claims/{id}/finish`. Idempotent."""

    boot: str
    outcome: Outcome
    detail: str = ""
    token_spent: bool = False
    """No process that was given a registration token of this claim is left."""
