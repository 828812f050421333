"""Claims: what an executor asks for, from the first question to the last word (R3, R4, R12)."""

import asyncio
from collections.abc import Awaitable, Callable
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
    RefusalKind,
    StaleClaim,
    Transient,
)
from mayfly.model.jobs import JobState, WorkflowJobEvent
from mayfly.model.pools import Pool
from mayfly.model.protocol import (
    ClaimOrder,
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
        try:
            minted = await self._github.mint(
                group.installation, group.scope, mint.name, group.labels
            )
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
        try:
            await self._ledger.registered(claim, mint.claim.generation, minted.github_id)
        except StaleClaim:
            await self._take_back(mint, minted.github_id)
            raise
        self._telemetry.runner_online(group.pool, self._clock.now() - mint.claim.made_at)
        self._news.publish("runner.registered", runner=mint.name, pool=group.pool)
        return Registered(
            name=mint.name, generation=mint.claim.generation, jit_config=minted.jit_config
        )

    async def heartbeat(self, claim: ClaimId, boot: str) -> HeartbeatAnswer:
        """Whether the executor shall go on."""
        order = await self._ledger.heartbeat(claim, boot)
        reason = "this runner is not needed any more" if order is Order.STOP else ""
        return HeartbeatAnswer(order=order, reason=reason)

    async def started(self, claim_id: ClaimId, order: StartedOrder) -> StartedAnswer:
        """May the job on this runner run (R12)?

        Transient while GitHub does not say which it is, or the access rules cannot be read.
        """
        run = RunKey(order.repository, order.run_id, order.run_attempt)
        self._aftermath.follow(await self._ledger.started(claim_id, order.boot, run))
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
        changes = await self._ledger.finish(claim_id, order.boot, order.outcome, order.detail)
        self._aftermath.follow(changes)

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

    async def _take_back(self, mint: Mint, github_id: int) -> None:
        minted = Registration(
            name=mint.name,
            claim=mint.claim.id,
            generation=mint.claim.generation,
            github_id=github_id,
        )
        sighting = await delete_at_github(self._github, minted, mint.group, self._telemetry)
        changes = await self._ledger.saw(mint.name, sighting)
        self._aftermath.follow(changes)

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
