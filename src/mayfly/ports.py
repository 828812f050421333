"""Every seam of Mayfly on one page; the docstrings are the contract the contract suites check."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from mayfly.model.access import AccessRule, Scope
from mayfly.model.changes import Changes, Due, Mint, PoolUse, Recount
from mayfly.model.deliveries import Attempt, LogPosition
from mayfly.model.demand import DemandGroup
from mayfly.model.executors import Choice, Command, Executor, Standing
from mayfly.model.jobs import GroupId, InstallationId, JobId, JobKey, WorkflowJob, WorkflowJobEvent
from mayfly.model.launches import (
    Launch,
    Launched,
    LaunchId,
    LaunchRecord,
    Plan,
    Redemption,
    Ticket,
    TicketRefused,
)
from mayfly.model.pools import Pool
from mayfly.model.protocol import (
    AttendOrder,
    ClaimOrder,
    Entrusted,
    Finished,
    Granted,
    Order,
    Outcome,
)
from mayfly.model.releases import Offer, Release, Version
from mayfly.model.repositories import Repository, Runs
from mayfly.model.requests import Dead, Lease, Message, Waiting
from mayfly.model.runners import (
    Claim,
    ClaimId,
    GitHubRunner,
    Minted,
    Registration,
    RegistrationToken,
    RunKey,
    Sighting,
)


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC, in whole milliseconds: as fine as every store keeps it."""

    def new_id(self) -> str:
        """A fresh id that sorts by time, in lower case."""


class Bus(Protocol):
    """Where runner requests wait. At-least-once, no order promised, kept for 7 days.

    A message that is not one of ours, or was leased LARGEST_DELIVERIES times and never completed,
    is dead: it is kept apart with its reason, for an operator to look at or to requeue.
    Every verb raises Transient while the bus does not answer."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Durable when it returns. Permanent when larger than LARGEST_MESSAGE (nothing is
        published), or when nothing receives the subject. Transient: some may be published."""

    async def lease(self, subject: str, wait: timedelta) -> Lease | None:
        """One, or None after `wait`; nobody else gets it before LEASE_TIME or its consumer ends."""

    async def complete(self, lease_id: str) -> None:
        """The message is gone. Idempotent; without effect when the lease's time is over."""

    async def abandon(self, lease_id: str) -> None:
        """The message is back at once. Idempotent; without effect when its time is over."""

    async def depth(self, subject: str) -> int:
        """How many wait; what others lease may be counted, and what just came back may not."""


class OperableBus(Bus, Protocol):
    """What an operator may do beside."""

    async def peek(self, subject: str, limit: int) -> list[Waiting]:
        """Some of those that wait, none of them leased by it."""

    async def drain(self, subject: str) -> int:
        """Remove every message that waits; how many. The reconciler rings for what is open."""

    async def dead(self, subject: str, limit: int) -> list[Dead]: ...
    async def requeue(self, subject: str) -> int:
        """Every dead message waits again, its deliveries forgotten; how many."""


class AccessRules(Protocol):
    """Who may use which pool, without regard to case. Default: nobody. Transient: not now."""

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        """The rule that allows it, or None. Behind another process's changes by no more than the
        backend says: a second or a few. Transient when it would have to be more."""

    async def rules(self) -> list[AccessRule]:
        """All rules as they are now, sorted; who is asked from then on is no further behind."""

    async def grant(self, rule: AccessRule) -> None:
        """Idempotent. Permanent when mayfly.toml declares it already."""

    async def revoke(self, rule: AccessRule) -> bool:
        """Whether there was such a rule. Permanent when mayfly.toml declares it."""


class Ledger(Protocol):
    """The truth: jobs, groups, claims, registrations. Each verb is one durable transaction.

    Counters move in the transaction that moves the state they count. Zero rows changed by a guard
    means stale: StaleClaim, nothing written. Times of claims are ledger seconds (rule R8)."""

    async def record(self, jobs: Sequence[WorkflowJob]) -> Changes:
        """What GitHub said of these jobs; states only grow. Idempotent, in any order (R2, R5)."""

    async def redecide(self, jobs: Sequence[WorkflowJob]) -> Changes:
        """Other decisions about jobs, applied to those still queued. Idempotent."""

    async def claim(self, order: ClaimOrder, maximum: int, per_owner: int | None) -> Claim | None:
        """By fair share, or None: nothing to do for this machine (R3). Same key, same claim."""

    async def minting(self, claim: ClaimId, boot: str, prefix: str) -> Mint:
        """Record the next generation's name before GitHub is called (R4.1); may re-bind (R14).
        StaleClaim when the claim is not needed any more, ended, or of another boot."""

    async def registered(self, claim: ClaimId, generation: int, github_id: int) -> None:
        """GitHub has minted (R4.4), or a program has registered it, and its token is spent.
        StaleClaim when another generation or state came first."""

    async def entrusted(self, claim: ClaimId, generation: int) -> None:
        """A registration token goes out for the generation's name: nothing proves that gone before
        the token is spent or over (R6). StaleClaim: it must not go out."""

    async def delayed(self, claim: ClaimId, sentence: str) -> Changes:
        """GitHub has not minted yet, and is asked again: said of the claim. After 2 min it fails
        if another installation's jobs wait for its slot, and its group waits."""

    async def refused(self, claim: ClaimId, sentence: str) -> Changes:
        """GitHub refused to mint: the claim failed, and its group waits before the next try."""

    async def heartbeat(self, claim: ClaimId, boot: str) -> Order:
        """Heard of it; STOP when it has ended or runs a refused job. StaleClaim: another boot."""

    async def finish(
        self, claim: ClaimId, boot: str, outcome: Outcome, detail: str, *, token_spent: bool = False
    ) -> Changes:
        """The executor is done with it; registrations are still to be proven gone. Idempotent.
        `token_spent`: no program of it holds a registration token of the claim any more."""

    async def started(self, claim: ClaimId, boot: str, run: RunKey) -> Changes:
        """A job of this run began on the claim's runner (R9). StaleClaim as above. Idempotent."""

    async def attend(self, pool: str, order: AttendOrder) -> Executor:
        """Heard of an executor; what it shall do is in it."""

    async def command(self, told: Command, choice: Choice, reason: str) -> list[Standing]:
        """Tell executors; which. No claim is made afterwards for one that is to make none."""

    async def executors(self, pool: str | None = None) -> list[Standing]: ...
    async def told(self) -> list[Executor]: ...

    async def overdue(self, claim: ClaimId) -> Changes:
        """What its state's deadline asks for, if that is over (R5, R7, R9)."""

    async def checked(self, job: JobKey, answer: WorkflowJob | None) -> Changes:
        """What GitHub said when asked about a job; twice None closes it as gone (R10)."""

    async def postponed(self, job: JobKey) -> None:
        """GitHub could not be asked about a job: later again."""

    async def saw(self, registration: str, sighting: Sighting) -> Changes:
        """What GitHub answered about a name; ends the claim where that is proof (R6, R7)."""

    async def relieve(self, claim: ClaimId) -> Changes:
        """A surplus `claimed` claim is re-bound or withdrawn (R5, R14); others are left alone."""

    async def lose(self, claim: ClaimId) -> Changes:
        """A silent claim: `claimed` is lost, others get their registration looked at now (R7)."""

    async def tick(self, instance: str, period: timedelta) -> float | None:
        """Advance ledger time by min(real, 2 x period); None when another instance leads (R8)."""

    async def resign(self, instance: str) -> None:
        """Another instance may lead at once; without effect for one that does not lead."""

    async def due(self, limit: int) -> Due:
        """What the deadlines ask for."""

    async def recount(self, after: GroupId | None) -> Recount | None:
        """Count the rows of the next group by id and repair its counters; None past the last."""

    async def retry(self, group: GroupId) -> Changes:
        """The group's failures are forgotten: it may have runners again at once. Idempotent."""

    async def revived(self, installation: InstallationId) -> Changes:
        """GitHub may answer there again: failures are forgotten, names not asked about are due."""

    async def forget(self, limit: int) -> int:
        """Delete what was completed longer ago than it is kept; how many rows (R17)."""

    async def log_position(self) -> LogPosition | None:
        """How far the delivery log was read; None before the first time."""

    async def log_read(self, position: LogPosition) -> None:
        """Everything in the log up to here is in the ledger. Never moves back."""

    async def offered(self, version: Version) -> None:
        """GitHub offers this version of the runner; the first time is kept. Idempotent."""

    async def releases(self) -> list[Release]:
        """What GitHub has offered so far, by version."""

    async def repositories(self, since: datetime) -> list[Repository]:
        """Those with an admitted job heard of since then, by installation and name."""

    async def scopes(self, since: datetime) -> list[tuple[InstallationId, Scope]]:
        """Where jobs heard of since then have their runners, in order."""

    async def stalled(self, limit: int) -> list[DemandGroup]:
        """Groups that get no runner until an operator retries them or their hour is over."""

    async def job(self, key: JobKey) -> WorkflowJob | None: ...
    async def jobs(self, limit: int, pool: str | None = None) -> list[WorkflowJob]:
        """Newest first, as `claims` are."""

    async def queued(self, limit: int, after: JobKey | None = None) -> list[WorkflowJob]:
        """Queued jobs, admitted or refused, by key; the next page is `after` the last one."""

    async def pending(self, limit: int) -> list[WorkflowJob]:
        """Jobs that are not decided because the access rules could not be read, by key."""

    async def attempts(self, job_id: JobId) -> list[WorkflowJob]:
        """Every attempt of a job id, newest first."""

    async def ahead(self, job: WorkflowJob) -> int:
        """Jobs of its group that wait longer."""

    async def claims(self, limit: int, *, live: bool) -> list[Claim]: ...
    async def claimed(self, claim: ClaimId) -> tuple[Claim, DemandGroup]:
        """NotFound when there is none."""

    async def group(self, group: GroupId) -> DemandGroup | None: ...
    async def named(self, runner: str) -> Claim | None:
        """The claim a runner's name belongs to, proven gone or not."""

    async def watches(self, runner: str) -> bool:
        """Whether the name is not proven gone yet."""

    async def unproven(self) -> list[Registration]: ...
    async def pools(self) -> Mapping[str, PoolUse]: ...
    @property
    def launches(self) -> "Launches": ...


class Launches(Protocol):
    """The launches of elastic pools: rows first, the platform afterwards. Guarded and durable."""

    async def scale(self, pool: Pool, *, overflows: bool) -> Plan:
        """Rows for what the pool lacks, without those parked executors may still take unless it
        `overflows`; what is too much or too late is told to end, so that it makes no claim."""

    async def ticketed(self, launch: LaunchId, ticket: str, seconds: float) -> bool:
        """A ticket's hash, before the platform has the ticket; False: not wanted any more."""

    async def accepted(self, launch: LaunchId) -> None: ...
    async def refused(self, launch: LaunchId, sentence: str, retry_at: datetime | None) -> None: ...
    async def surveyed(self, pool: str, seen: Sequence[Launched]) -> list[LaunchId]:
        """What the platform has; which of it nobody wants, or ever wanted."""

    async def strand(self, pools: Collection[str]) -> list[LaunchRecord]:
        """Those of other pools are over, unless they hold a claim: nobody starts or stops them."""

    async def redeem(self, redemption: Redemption) -> LaunchRecord | TicketRefused:
        """A ticket becomes a token, once; what comes in vain is counted."""

    async def bearer(self, token: str) -> LaunchRecord | None:
        """Whose token it is, while that lasts."""

    async def newest(self, limit: int, pool: str | None = None) -> list[LaunchRecord]: ...


class GitHub(Protocol):
    """What we ask of GitHub. Raises GitHubRefused, RateLimited or GitHubUnreachable only."""

    async def mint(
        self, installation: InstallationId, scope: Scope, name: str, labels: Sequence[str]
    ) -> Minted:
        """A JIT config for one runner. GitHubUnreachable: it may exist all the same."""

    async def registration_token(
        self, installation: InstallationId, scope: Scope
    ) -> RegistrationToken:
        """Good for an hour and any number of runners: never near a machine that runs a job."""

    async def find_runner(
        self, installation: InstallationId, scope: Scope, name: str
    ) -> GitHubRunner | None: ...

    async def delete_runner(
        self, installation: InstallationId, scope: Scope, runner_id: int
    ) -> Sighting:
        """DELETED (204), GONE (404) or BUSY (422)."""

    async def run_jobs(
        self, installation: InstallationId, owner: str, repository: str, run: int, attempt: int
    ) -> list[WorkflowJobEvent]:
        """Every job of one attempt of a run, all pages."""

    async def get_job(
        self, installation: InstallationId, owner: str, repository: str, job_id: int
    ) -> WorkflowJobEvent | None: ...

    def runners(self) -> AsyncIterator[tuple[InstallationId, Scope, GitHubRunner]]:
        """Every self-hosted runner of every installation."""

    async def runners_of(self, installation: InstallationId, scope: Scope) -> list[GitHubRunner]:
        """Every self-hosted runner registered at one scope, all pages."""

    async def offers(self, installation: InstallationId, scope: Scope) -> list[Offer]:
        """The runner's program as GitHub offers it to a scope, for each kind of machine."""

    def deliveries(self) -> AsyncIterator[Attempt]:
        """The App's delivery log, newest first, a call for each page of 100 as it is needed."""

    async def delivery(self, attempt: int) -> WorkflowJobEvent | None:
        """What an attempt delivered; None: nothing Mayfly uses. GitHubRefused: not there."""

    async def redeliver(self, attempt: int) -> None:
        """Ask GitHub to deliver it again; it comes as a webhook, with the same GUID."""

    def repositories(self) -> AsyncIterator[Repository]:
        """Every repository of every installation that is not suspended."""

    async def repositories_of(self, installation: InstallationId) -> list[Repository]:
        """Every repository of one installation, all pages."""

    async def runs(self, repository: Repository, status: str, etag: str | None) -> Runs | None:
        """The newest 100 runs of a status; None: as they were at `etag`, which costs nothing."""


class Driver(Protocol):
    """How one runner runs on this machine. One claim at a time."""

    async def prepare(self, claim: Granted) -> None:
        """Make a fresh environment. Permanent with a sentence when it cannot be made."""

    async def run(self, name: str, jit_config: str) -> Finished:
        """Run exactly one runner to its end. Cancelling stops it and its whole process tree."""

    async def cleanup(self) -> None:
        """Nothing is left, neither of this claim nor of a crashed predecessor. Idempotent."""


@runtime_checkable
class TokenDriver(Driver, Protocol):
    """A driver whose runner a program on this machine registers, with a registration token."""

    async def configure(self, order: Entrusted) -> str:
        """Register the runner of that name; what `run` then gets in place of a JIT config.
        Permanent with a sentence when the program fails. Cancelling stops it."""

    @property
    def token_spent(self) -> bool:
        """Whether no process that was given a token is left."""


class Launcher(Protocol):
    """Starts executors of elastic pools on some platform, and ends those that have nothing to do.

    Level-triggered: the ledger knows which launches it wants, the platform which ones there are.
    Transient when the platform is away, slows us down or has no room left (its quota), Permanent
    when a person has to act; both with the sentence for that person."""

    async def start(self, launch: Launch, ticket: Ticket) -> None:
        """Accepted by the platform; its executor may need minutes to speak. Idempotent by the
        launch's id, also when an earlier answer got lost after the platform had accepted."""

    async def launched(self, pool: str) -> list[Launched]:
        """What the platform has of a pool, executors that ended lately included, by id."""

    async def stop(self, pool: str, launch: LaunchId) -> None:
        """End one. Idempotent; without effect for one the platform does not know."""


@runtime_checkable
class WatchedLauncher(Launcher, Protocol):
    """A launcher that rings when its platform has changed; only `launched` says what is true."""

    def changes(self, pool: str) -> AsyncIterator[None]:
        """Rings once when it listens, then when an executor has ended or is gone, until closed.
        A platform that is away is waited for; what happened then rings late. Permanent as above."""
