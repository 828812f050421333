"""What a transaction of the ledger asks of its storage; a backend of the store is these rows."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, TypeVar

from mayfly.model.access import Scope
from mayfly.model.changes import PoolUse
from mayfly.model.deliveries import LogPosition
from mayfly.model.demand import Demand, DemandGroup
from mayfly.model.executors import Executor
from mayfly.model.jobs import GroupId, InstallationId, JobId, JobKey, WorkflowJob
from mayfly.model.launches import LaunchId, LaunchRecord
from mayfly.model.releases import Release
from mayfly.model.repositories import Repository
from mayfly.model.runners import Claim, ClaimId, Registration

T = TypeVar("T")


class ClockRow(NamedTuple):
    """Ledger time and who moves it."""

    ledger_seconds: float = 0.0
    last_tick: datetime | None = None
    leader: str | None = None
    leader_until: datetime | None = None
    log_position: LogPosition | None = None


class Counts(NamedTuple):
    """How much the counters of a group move."""

    group: GroupId
    queued: int
    supply: int
    sure: int


class MachineRow(NamedTuple):
    """Failures in a row of one machine, and until when it gets no claim (R15)."""

    fails: int = 0
    until: float = 0.0


class Executors(Protocol):
    """The rows of executors; in a step that writes, nobody else's to change once they were read."""

    def find(self, pool: str, machine: str) -> Executor | None: ...
    def every(self, pool: str | None) -> list[Executor]:
        """By pool and machine; None: those of all pools."""

    def put(self, executor: Executor) -> None: ...
    def drop(self, executor: Executor) -> None: ...
    def forget(self, heard_before: float) -> None:
        """Drop those in service that were not heard of since then."""


class Launches(Protocol):
    """The rows of launches; in a step that writes, they belong to their pool like executors."""

    def find(self, launch: LaunchId) -> LaunchRecord | None: ...
    def of_token(self, token: str) -> LaunchRecord | None: ...
    def live(self, pool: str) -> list[LaunchRecord]:
        """Those that are not over, by id."""

    def live_pools(self) -> set[str]:
        """Pools with such launches, as of now: none of them is locked."""

    def newest(self, limit: int, pool: str | None = None) -> list[LaunchRecord]:
        """Newest first, those that are over included."""

    def put(self, launch: LaunchRecord) -> None: ...
    def forget(self, over_before: float) -> None:
        """Drop those that were over before."""


class Tables(Protocol):
    """The rows, inside one transaction. Called without awaiting, so no network can be in it.

    In a step that writes, a claim, a group, a registration or a job's attempts are nobody else's
    to change from the time they were read.
    """

    def hold(
        self, *, pools: Collection[str] = (), jobs: Collection[JobId] = (), clock: bool = False
    ) -> None:
        """Nobody else changes these from here on: for decisions on what is not read as a row.

        That is all open groups of a pool, jobs that are not there yet, and the clock.
        """

    @property
    def executors(self) -> Executors: ...
    @property
    def launches(self) -> Launches: ...

    def clock(self) -> ClockRow: ...
    def put_clock(self, row: ClockRow) -> None: ...

    def attempts(self, ids: Collection[JobId]) -> dict[JobKey, WorkflowJob]:
        """Every attempt of these jobs."""

    def put_jobs(self, jobs: Sequence[WorkflowJob]) -> None: ...
    def newest_jobs(self, limit: int, pool: str | None) -> list[WorkflowJob]: ...
    def queued_jobs(self, limit: int, after: JobKey | None) -> list[WorkflowJob]: ...
    def pending_jobs(self, limit: int) -> list[WorkflowJob]: ...
    def ahead(self, job: WorkflowJob) -> int: ...
    def oldest_queued(self, group: GroupId, limit: int) -> list[WorkflowJob]:
        """Those that count, oldest first."""

    def due_jobs(self, at: float, limit: int, *, running: bool) -> list[WorkflowJob]:
        """Admitted ones in progress, or not begun; longest due first."""

    def forget_jobs(self, at: float, limit: int) -> int:
        """Delete completed and refused ones that are due; how many."""

    def repositories(self, since: datetime) -> list[Repository]:
        """Of admitted jobs received since then, in order."""

    def add_queued(self, changes: Sequence[tuple[Demand, int]], at: float) -> None:
        """Move `queued` of each group, creating it when it is new."""

    def add_counts(self, changes: Sequence[Counts], at: float) -> None:
        """Move the counters of groups that exist."""

    def take_supply(self, group: GroupId) -> bool:
        """`supply + 1` while `supply < queued`; whether it was."""

    def put_health(self, group: DemandGroup) -> None:
        """Write what is known of its failures, and leave its counters alone."""

    def forgive(self, group: GroupId) -> bool:
        """A success: no failures in a row any more; whether there were any."""

    def group(self, group: GroupId) -> DemandGroup | None: ...
    def group_after(self, group: GroupId | None) -> DemandGroup | None:
        """The next one by id, for whoever looks at all of them in turn."""

    def count_queued(self, group: GroupId) -> int:
        """Its jobs that count, by their rows."""

    def drop_unused_groups(self) -> None:
        """Delete those without queued jobs and without claims."""

    def scopes(self, since: datetime) -> list[tuple[InstallationId, Scope]]:
        """Of groups with jobs received since then, in order."""

    def troubled_groups(self, installation: InstallationId) -> list[DemandGroup]:
        """With failures in a row."""

    def stalled_groups(self, limit: int) -> list[DemandGroup]: ...
    def next_group(
        self, pool: str, variants: Sequence[str | None] | None, per_owner: int | None, at: float
    ) -> DemandGroup | None:
        """The open group whose turn it is: fewest live claims of the owner, then oldest job.

        Not one that waits for its next try, and of a stalled one only the first claim.

        `variants`: those that will do, None among them for groups without one; None: any.
        """

    def surplus_groups(self, since: float, limit: int) -> list[DemandGroup]: ...

    def take_slot(self, pool: str, maximum: int) -> bool:
        """`used + 1` while `used < maximum`; whether it was."""

    def add_use(self, pool: str, owner: str | None, change: int) -> None:
        """Move `used` of the pool (owner None) or of the owner in it."""

    def use(self, pool: str, at: float) -> PoolUse:
        """`open` leaves out what no claim would be made for now."""

    def pools(self, at: float) -> dict[str, PoolUse]: ...
    def used_by(self, pool: str) -> list[Claim]:
        """Claims that take one of its slots, by their rows."""

    def owners_of(self, pool: str) -> dict[str, int]:
        """The owners' counters."""

    def claim(self, claim: ClaimId) -> Claim | None: ...
    def claim_of_key(self, key: str) -> Claim | None: ...
    def put_claim(self, claim: Claim) -> None: ...
    def live_of_machine(self, machine: str) -> list[Claim]: ...
    def live_of_group(self, group: GroupId) -> list[Claim]:
        """Newest first."""

    def silent(self, heard_before: float, limit: int) -> list[Claim]:
        """Live claims nobody has looked at since they fell silent."""

    def due_claims(self, at: float, limit: int) -> list[Claim]:
        """Live ones whose state has lasted too long."""

    def forget_claims(self, at: float, limit: int) -> int:
        """Delete ended ones that are due and whose runners are proven gone; how many."""

    def newest_claims(self, limit: int, *, live: bool, pool: str | None = None) -> list[Claim]: ...

    def registration(self, name: str) -> Registration | None: ...
    def registrations_of(self, claim: ClaimId) -> list[Registration]: ...
    def put_registration(self, registration: Registration) -> None: ...
    def drop_registration(self, name: str) -> None: ...
    def due_registrations(self, at: float, limit: int) -> list[Registration]: ...
    def unreached(self, installation: InstallationId) -> list[Registration]:
        """Those whose installation did not answer when last asked, by name."""

    def registrations(self) -> list[Registration]: ...

    def machine(self, machine: str) -> MachineRow: ...
    def put_machine(self, machine: str, row: MachineRow) -> None: ...
    def forget_machines(self, at: float) -> None:
        """Drop those whose last pause was over before `at`."""

    def add_release(self, release: Release) -> None:
        """Without effect when its version is there already."""

    def releases(self) -> list[Release]:
        """By version."""


class Transactions(Protocol):
    """Runs a step in one transaction: all of it is durable, or none of it happened."""

    async def write(self, step: Callable[[Tables], T]) -> T: ...
    async def read(self, step: Callable[[Tables], T]) -> T: ...

    async def leads(self, period: timedelta) -> bool | None:
        """Whether this process leads, of all that share the rows (see `Database.leads`)."""

    async def resign(self) -> None:
        """Another process may lead at once."""
