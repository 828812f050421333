"""What a transaction of the ledger asks of its storage; a backend of the store is these rows."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from mayfly.model.changes import PoolUse
from mayfly.model.demand import Demand, DemandGroup
from mayfly.model.jobs import GroupId, JobKey, WorkflowJob
from mayfly.model.runners import Claim, ClaimId, Registration

T = TypeVar("T")


class ClockRow(NamedTuple):
    """Ledger time and who moves it."""

    ledger_seconds: float = 0.0
    last_tick: datetime | None = None
    leader: str | None = None
    leader_until: datetime | None = None


class MachineRow(NamedTuple):
    """Failures in a row of one machine, and until when it gets no claim (R15)."""

    fails: int = 0
    until: float = 0.0


class Tables(Protocol):
    """The rows, inside one transaction. Called without awaiting, so no network can be in it."""

    def clock(self) -> ClockRow: ...
    def put_clock(self, row: ClockRow) -> None: ...

    def jobs(self, keys: Collection[JobKey]) -> dict[JobKey, WorkflowJob]: ...
    def put_jobs(self, jobs: Sequence[WorkflowJob]) -> None: ...
    def newest_jobs(self, limit: int, pool: str | None) -> list[WorkflowJob]: ...
    def queued_jobs(self, limit: int, after: JobKey | None) -> list[WorkflowJob]: ...
    def attempts(self, job_id: int) -> list[WorkflowJob]: ...
    def ahead(self, job: WorkflowJob) -> int: ...

    def add_queued(self, changes: Sequence[tuple[Demand, int]], at: float) -> None:
        """Move `queued` of each group, creating it when it is new."""

    def add_supply(self, changes: Sequence[tuple[GroupId, int, int]], at: float) -> None:
        """Move `supply` and `sure` of each group."""

    def take_supply(self, group: GroupId) -> bool:
        """`supply + 1` while `supply < queued`; whether it was."""

    def put_refusal(
        self, group: GroupId, fails: int, retry_at: float | None, refusal: str
    ) -> None: ...
    def group(self, group: GroupId) -> DemandGroup | None: ...
    def next_group(
        self, pool: str, variants: Sequence[str | None] | None, per_owner: int | None, at: float
    ) -> DemandGroup | None:
        """The open group whose turn it is: fewest live claims of the owner, then oldest job.

        `variants`: those that will do, None among them for groups without one; None: any.
        """

    def surplus_groups(self, since: float, limit: int) -> list[DemandGroup]: ...

    def take_slot(self, pool: str, maximum: int) -> bool:
        """`used + 1` while `used < maximum`; whether it was."""

    def add_use(self, pool: str, owner: str | None, change: int) -> None:
        """Move `used` of the pool (owner None) or of the owner in it."""

    def use(self, pool: str) -> PoolUse: ...
    def pools(self) -> dict[str, PoolUse]: ...

    def claim(self, claim: ClaimId) -> Claim | None: ...
    def claim_of_key(self, key: str) -> Claim | None: ...
    def put_claim(self, claim: Claim) -> None: ...
    def live_of_machine(self, machine: str) -> list[Claim]: ...
    def live_of_group(self, group: GroupId) -> list[Claim]:
        """Newest first."""

    def silent(self, heard_before: float, limit: int) -> list[Claim]:
        """Live claims nobody has looked at since they fell silent."""

    def newest_claims(self, limit: int, *, live: bool) -> list[Claim]: ...

    def registration(self, name: str) -> Registration | None: ...
    def registrations_of(self, claim: ClaimId) -> list[Registration]: ...
    def put_registration(self, registration: Registration) -> None: ...
    def drop_registration(self, name: str) -> None: ...
    def due_registrations(self, at: float, limit: int) -> list[Registration]: ...
    def registrations(self) -> list[Registration]: ...

    def machine(self, machine: str) -> MachineRow: ...
    def put_machine(self, machine: str, row: MachineRow) -> None: ...


class Transactions(Protocol):
    """Runs a step in one transaction: all of it is durable, or none of it happened."""

    async def write(self, step: Callable[[Tables], T]) -> T: ...
    async def read(self, step: Callable[[Tables], T]) -> T: ...


def by_key(jobs: Iterable[WorkflowJob]) -> dict[JobKey, WorkflowJob]:
    """The jobs by (id, attempt)."""
    return {job.key: job for job in jobs}
