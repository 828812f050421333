"""Demand groups: how many jobs GitHub has queued, how many claims serve them, who is next."""

from functools import lru_cache
from hashlib import blake2b

import msgspec

from mayfly.model.access import Admitted, Scope
from mayfly.model.jobs import GroupId, InstallationId, WorkflowJob
from mayfly.model.labels import normal


class DemandGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that are interchangeable, and their runners with them.

    `queued`, `supply` and `sure` are counters moved with the states they count (ledger rule R2).
    Times are ledger seconds (R8).
    """

    id: GroupId
    installation: InstallationId
    scope: Scope
    pool: str
    owner: str
    variant: str | None
    labels: tuple[str, ...]
    queued: int = 0
    supply: int = 0
    sure: int = 0
    surplus_since: float | None = None
    fails: int = 0
    """Failures in a row, none of which was a machine's alone (R15)."""
    failed_on: tuple[str, ...] = ()
    """The machines of those failures, at most two."""
    retry_at: float | None = None
    """No runner is made before."""
    trouble: str = ""
    """The sentence of the last failure, for people."""
    stalled: bool = False
    """Failed so often that it is tried once an hour only, until an operator retries it."""

    @property
    def open(self) -> int:
        """Runners still to be made; computed, never stored (R1)."""
        return max(0, self.queued - self.supply)

    def claimable(self, at: float) -> int:
        """Claims that may be made for it now; a stalled group is tried with one (R15)."""
        if self.retry_at is not None and self.retry_at > at:
            return 0
        return min(self.open, max(0, 1 - self.supply)) if self.stalled else self.open

    @property
    def healthy(self) -> "DemandGroup":
        """The same group with its failures forgotten."""
        return msgspec.structs.replace(
            self, fails=0, failed_on=(), retry_at=None, trouble="", stalled=False
        )

    @property
    def surplus(self) -> int:
        """Claims beyond what is queued."""
        return max(0, self.supply - self.queued)


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies a demand group."""

    installation: InstallationId
    scope: Scope
    pool: str
    owner: str
    variant: str | None
    labels: tuple[str, ...]
    key: str
    """(installation, scope, pool, exact label set) in one line."""
    group: GroupId
    """Made of the key, so that two control planes agree without asking the ledger."""


@lru_cache(maxsize=4096)  # jobs come in bursts of one group, and hashing is half the cost
def demand_of(
    admitted: Admitted, owner: str, installation: InstallationId, labels: tuple[str, ...]
) -> Demand:
    """The demand an admitted job with these labels makes."""
    sorted_labels = normal(labels)
    key = f"{installation} {admitted.scope.lower()} {admitted.pool} {','.join(sorted_labels)}"
    digest = blake2b(key.encode(), digest_size=8).digest()
    return Demand(
        installation=installation,
        scope=admitted.scope,
        pool=admitted.pool,
        owner=owner.lower(),
        variant=admitted.variant,
        labels=sorted_labels,
        key=key,
        group=GroupId(int.from_bytes(digest, "big", signed=True)),
    )


def doorbells(*, open_: int, free: int, depth: int) -> int:
    """How many are missing at the bus (R1): by what is there, so that a lost one is made up for."""
    return max(0, min(open_, free) - depth)


def demand_for(job: WorkflowJob) -> Demand | None:
    """The demand of one job of the ledger; None when it was refused."""
    event, decision = job.event, job.decision
    if not isinstance(decision, Admitted) or event.installation is None:
        return None
    return demand_of(decision, event.owner, event.installation, event.labels)
