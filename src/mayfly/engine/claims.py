"""Claims: what an executor asks for, from the first question to the last word (R3, R4, R12)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
import structlog

from mayfly.engine.admission import Admission
from mayfly.engine.aftermath import Aftermath
from mayfly.engine.looks import delete_at_github
from mayfly.engine.news import News
from mayfly.model.access import Admitted, Refused
from mayfly.model.changes import Mint
from mayfly.model.deadlines import Deadlines
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import (
    GitHubRefused,
    MayflyError,
    NotFound,
    Permanent,
    RefusalKind,
    StaleClaim,
    Transient,
)
from mayfly.model.jobs import JobState, WorkflowJobEvent
from mayfly.model.pools import Pool
from mayfly.model.protocol import (
    ClaimOrder,
    ConfiguredOrder,
    Entrusted,
    FinishOrder,
    Granted,
    HeartbeatAnswer,
    Order,
    Registered,
    StartedAnswer,
    StartedOrder,
)
from mayfly.model.runners import (
    Claim,
    ClaimId,
    ClaimState,
    GitHubRunner,
    Registration,
    RunKey,
    Sighting,
    runner_name,
)
from mayfly.ports import Bus, Clock, GitHub, Ledger
from mayfly.telemetry import Telemetry

LOOKS = 10
LOOK_EVERY = timedelta(milliseconds=200)
"""How long the guard waits for the delivery that says which job has begun: 2 s."""
SHOWN_LOOKS = 4
SHOWN_EVERY = timedelta(seconds=1)
"""How long a runner that a program has registered may take to appear in GitHub's list: 3 s."""

log = structlog.get_logger("mayfly")

Record = Callable[[WorkflowJobEvent], Awaitable[object]]
"""How an event that the guard learned of gets into the ledger: the intake's door."""


class Claims:
    """The executor API's verbs."""

    def __init__(
        self,
        *,
        pools: tuple[Pool, ...],
        ledger: Ledger,
        bus: Bus,
        github: GitHub,
        admission: Admission,
        record: Record,
        aftermath: Aftermath,
        news: News,
        telemetry: Telemetry,
        deadlines: Deadlines,
        clock: Clock,
        prefix: str,
        pull: bool = False,
    ) -> None:
        self._pools = {pool.name.lower(): pool for pool in pools}
        self._ledger = ledger
        self._bus = bus
        self._github = github
        self._admission = admission
        self._record = record
        self._aftermath = aftermath
        self._news = news
        self._telemetry = telemetry
        self._deadlines = deadlines
        self._clock = clock
        self._prefix = prefix
        self._looks = 0 if pull else LOOKS  # with pull no delivery comes before the next turn

    async def claim(self, order: ClaimOrder) -> Granted | None:
        """What the executor shall do, or None. The lease is settled once that is durable."""
        pool = self._pools.get(order.pool.lower())
        if pool is None:
            known = ", ".join(known.name for known in self._pools.values())
            raise NotFound(f"pool {order.pool!r} is not in mayfly.toml; known pools: {known}")
        if order.own_bus and order.pool != pool.name:
            raise NotFound(
                f"pool {order.pool!r} is {pool.name!r} in mayfly.toml, and nobody rings for "
                "another spelling; an executor with a bus of its own is started with "
                f"--pool {pool.name}"
            )
        order = msgspec.structs.replace(order, pool=pool.name)
        claim = await self._ledger.claim(order, pool.max, pool.max_per_owner)
        if order.lease is not None:
            await self._settle(order.lease)
        if claim is None:
            return None
        _, group = await self._ledger.claimed(claim.id)
        self._news.publish("claim.made", claim=claim.id, pool=pool.name, machine=claim.machine)
        return Granted(
            claim=claim.id,
            pool=pool.name,
            variant=group.variant,
            labels=group.labels,
            scope=group.scope,
            guard=pool.guard,
            heartbeat_seconds=self._deadlines.heartbeat_seconds,
        )

    async def _settle(self, lease: str) -> None:
        """What was claimed is in the ledger; a doorbell that rings again finds nothing to do."""
        try:
            await self._bus.complete(lease)
        except Transient as error:
            log.warning("lease.unsettled", reason=str(error))

    async def register(self, claim: ClaimId, boot: str) -> Registered:
        """A runner minted now, at most once per generation.

        StaleClaim: stop. Transient: ask again; the next generation replaces this one.
        GitHubRefused: a person has to act.
        """
        mint = await self._ledger.minting(claim, boot, self._prefix)
        await self._delete_older(mint)
        group = mint.group
        async with self._asking(mint):
            minted = await self._github.mint(
                group.installation, group.scope, mint.name, group.labels
            )
        await self._registered(mint.claim, group, mint.name, minted.github_id)
        return Registered(
            name=mint.name, generation=mint.claim.generation, jit_config=minted.jit_config
        )

    async def entrust(self, claim: ClaimId, boot: str) -> Entrusted:
        """A registration token for a program beside the executor, which registers the runner.

        The name is recorded as for a mint, and nothing proves it gone before the token is spent or
        over. Errors as of `register`.
        """
        mint = await self._ledger.minting(claim, boot, self._prefix)
        await self._delete_older(mint)
        group = mint.group
        async with self._asking(mint):
            _check_listable(group.labels)
            token = await self._github.registration_token(group.installation, group.scope)
        await self._ledger.entrusted(claim, mint.claim.generation)
        self._news.publish("registration.entrusted", runner=mint.name, pool=group.pool)
        return Entrusted(
            name=mint.name,
            generation=mint.claim.generation,
            labels=group.labels,
            url=token.url,
            token=token.token,
        )

    async def configured(self, claim_id: ClaimId, order: ConfiguredOrder) -> None:
        """The runner of an entrusted name is registered, and its token is spent. Idempotent.

        Transient: GitHub does not answer. Permanent: it does not show it, or with other labels.
        """
        claim, group = await self._ledger.claimed(claim_id)
        if (claim.boot, claim.generation) != (order.boot, order.generation):
            raise StaleClaim(f"claim {claim_id} has moved on since generation {order.generation}")
        if claim.state in {ClaimState.REGISTERED, ClaimState.BUSY}:
            return
        name = runner_name(self._prefix, claim_id, order.generation)
        found = await self._shown(group, name)
        _check_labels(found, group.labels)
        await self._registered(claim, group, name, found.id)

    async def heartbeat(self, claim: ClaimId, boot: str) -> HeartbeatAnswer:
        """Whether the executor shall go on."""
        order = await self._ledger.heartbeat(claim, boot)
        reason = "this runner is not needed any more" if order is Order.STOP else ""
        return HeartbeatAnswer(order=order, reason=reason)

    async def started(self, claim_id: ClaimId, order: StartedOrder) -> StartedAnswer:
        """May the job on this runner run (R12)? Without a guard it is but noted that it began (R9).

        Transient while GitHub does not say which it is, or the access rules cannot be read.
        """
        run = RunKey(order.repository, order.run_id, order.run_attempt)
        self._aftermath.follow(await self._ledger.started(claim_id, order.boot, run))
        known, _ = await self._ledger.claimed(claim_id)
        if not self._guards(known.pool):
            return StartedAnswer(allowed=True)
        claim, group = await self._attributed(claim_id)
        event = await self._job_on(claim, group, order)
        decision = await self._admission.decide(event)
        if isinstance(decision, Refused) and decision.pending:
            raise Transient(decision.sentence)
        allowed = isinstance(decision, Admitted) and decision.pool == claim.pool
        reason = "" if isinstance(decision, Admitted) else decision.sentence
        if not allowed:
            reason = reason or f"the job belongs to another pool than {claim.pool}"
            self._news.publish(
                "job.guarded", job=event.key.id, repository=event.full_name, reason=reason
            )
        return StartedAnswer(allowed=allowed, reason=reason)

    async def finish(self, claim_id: ClaimId, order: FinishOrder) -> None:
        """The executor's last word. Idempotent."""
        changes = await self._ledger.finish(
            claim_id, order.boot, order.outcome, order.detail, token_spent=order.token_spent
        )
        self._aftermath.follow(changes)

    @asynccontextmanager
    async def _asking(self, mint: Mint) -> AsyncIterator[None]:
        """What follows when GitHub says no to a registration, or nothing."""
        claim = mint.claim.id
        try:
            yield
        except Transient as failed:
            self._telemetry.github_refused(failed)
            await self._delay(claim, failed)
            raise
        except GitHubRefused as refused:
            self._telemetry.github_refused(refused)
            self._news.publish(
                "registration.refused", claim=claim, kind=refused.kind, reason=str(refused)
            )
            if refused.kind is RefusalKind.NAME_EXISTS:
                await self._delay(claim, refused)
                raise Transient(f"the name {mint.name} is taken; the next one will do") from refused
            self._aftermath.follow(await self._ledger.refused(claim, str(refused)))
            raise

    async def _shown(self, group: DemandGroup, name: str) -> GitHubRunner:
        """The runner that somebody says is registered; a list may lag behind."""
        for look in range(SHOWN_LOOKS):
            await asyncio.sleep(SHOWN_EVERY.total_seconds() if look else 0)
            try:
                found = await self._github.find_runner(group.installation, group.scope, name)
            except (Transient, GitHubRefused) as error:
                self._telemetry.github_refused(error)
                raise
            if found is not None:
                return found
        raise Permanent(
            f"GitHub does not show a runner {name}, although the configure program ended with 0; "
            "it has to register under the {name} and at the {url} it is given"
        )

    async def _registered(
        self, claim: Claim, group: DemandGroup, name: str, github_id: int
    ) -> None:
        """GitHub has the runner; StaleClaim when nobody waits for it, and it is deleted again."""
        try:
            await self._ledger.registered(claim.id, claim.generation, github_id)
        except StaleClaim:
            await self._take_back(claim, group, name, github_id)
            raise
        self._telemetry.runner_online(group.pool, self._clock.now() - claim.made_at)
        self._news.publish("runner.registered", runner=name, pool=group.pool)

    async def _delay(self, claim: ClaimId, why: MayflyError) -> None:
        """StaleClaim when others need the machine more."""
        self._news.whisper("registration.delayed", claim=claim, reason=str(why))
        changes = await self._ledger.delayed(claim, str(why))
        self._aftermath.follow(changes)
        if changes.ended:
            raise StaleClaim(f"claim {claim} makes room for others: {why}") from why

    async def _delete_older(self, mint: Mint) -> None:
        """A reply was lost: what it registered must not take a job beside the new one (R4.2)."""
        for older in mint.older:
            sighting = await delete_at_github(self._github, older, mint.group, self._telemetry)
            changes = await self._ledger.saw(older.name, sighting)
            self._aftermath.follow(changes)
            if sighting is Sighting.BUSY:
                raise StaleClaim(f"runner {older.name} of this claim is at work already")

    async def _take_back(self, claim: Claim, group: DemandGroup, name: str, github_id: int) -> None:
        minted = Registration(
            name=name, claim=claim.id, generation=claim.generation, github_id=github_id
        )
        sighting = await delete_at_github(self._github, minted, group, self._telemetry)
        changes = await self._ledger.saw(name, sighting)
        self._aftermath.follow(changes)

    def _guards(self, pool: str) -> bool:
        """Whether jobs of the pool wait for leave; one that is no longer declared has a guard."""
        declared = self._pools.get(pool.lower())
        return declared is None or declared.guard

    async def _attributed(self, claim_id: ClaimId) -> tuple[Claim, DemandGroup]:
        """The claim, with its job if a delivery names it soon: that spares a call to GitHub."""
        for _ in range(self._looks):
            claim, group = await self._ledger.claimed(claim_id)
            if claim.job is not None:
                return claim, group
            await asyncio.sleep(LOOK_EVERY.total_seconds())
        return await self._ledger.claimed(claim_id)

    async def _job_on(
        self, claim: Claim, group: DemandGroup, order: StartedOrder
    ) -> WorkflowJobEvent:
        """The job on this runner by the ledger, else by GitHub's own record."""
        if claim.job is not None and (known := await self._ledger.job(claim.job)):
            return known.event
        owner, _, repository = order.repository.partition("/")
        name = runner_name(self._prefix, claim.id, claim.generation)
        for event in await self._github.run_jobs(
            group.installation, owner, repository, order.run_id, order.run_attempt
        ):
            if event.runner_name == name and event.state >= JobState.IN_PROGRESS:
                await self._record(event)
                return event
        raise Transient(f"GitHub does not say yet which job runner {name} has")


def _check_listable(labels: Sequence[str]) -> None:
    """Runner programs take labels in one word with commas, where a stranger's may hold one, too."""
    if odd := [label for label in labels if "," in label]:
        raise GitHubRefused(
            RefusalKind.INVALID_REQUEST,
            f"the label {odd[0]!r} has a comma, which a runner that a program registers cannot "
            "have; nothing was asked",
        )


def _check_labels(runner: GitHubRunner, labels: Sequence[str]) -> None:
    """One with others would be given other jobs, or none."""
    found, wanted = ({one.lower() for one in every} for every in (runner.labels, labels))
    if found != wanted:
        raise Permanent(
            f"runner {runner.name} was registered with the labels {', '.join(sorted(found))}, "
            f"expected {', '.join(sorted(wanted))}; pass {{labels}} to the configure program, and "
            "tell it to add none of its own (--no-default-labels)"
        )
