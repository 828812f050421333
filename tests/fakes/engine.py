"""The stages over memory backends, a fake GitHub and a clock that stands still."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import NamedTuple

from mayfly.bus.memory import MemoryBus
from mayfly.cli.wiring import connected
from mayfly.engine.admission import Admission
from mayfly.engine.claims import Claims
from mayfly.engine.doorbells import Doorbells
from mayfly.engine.explanations import Explanations
from mayfly.engine.intake import Intake
from mayfly.engine.news import News
from mayfly.engine.reconciler import Reconciler
from mayfly.engine.reviews import Reviews
from mayfly.engine.scaler import Scaler
from mayfly.model.access import AccessRule
from mayfly.model.changes import Changes
from mayfly.model.deadlines import Deadlines
from mayfly.model.errors import Transient
from mayfly.model.jobs import JobKey, WorkflowJob
from mayfly.model.pools import Convention, Pool, VariantRule
from mayfly.model.runners import ClaimId
from mayfly.ports import Launcher
from mayfly.store.ledger import TransactionalLedger
from mayfly.store.memory import MemoryAccessRules, MemoryTransactions
from mayfly.telemetry import Telemetry
from tests.fakes.clocks import TURN, ManualClock
from tests.fakes.factories import PREFIX, claimed, queued_job
from tests.fakes.github import FakeGitHub

POOLS = (
    Pool(name="linux", max=3, variant=VariantRule.OPTIONAL),
    Pool(name="arm64", max=2),
)
ANYBODY = (AccessRule(owner="octo", label="linux"), AccessRule(owner="octo", label="arm64"))


class WatchedLedger(TransactionalLedger):
    """A ledger that keeps what it was asked to record, and fails as a test tells it."""

    def __init__(self, clock: ManualClock, deadlines: Deadlines) -> None:
        super().__init__(MemoryTransactions(), clock, deadlines)
        self.recorded: list[list[int]] = []
        self.failures: list[Exception] = []
        self.poison: int | None = None
        """A job id no transaction can hold."""
        self.reviewed = 0
        """Pages of queued jobs that were asked for."""
        self.writing = asyncio.Event()
        self.may_write = asyncio.Event()
        """What is recorded waits for it."""
        self.may_write.set()

    async def queued(self, limit: int, after: JobKey | None = None) -> list[WorkflowJob]:
        self.reviewed += 1
        return await super().queued(limit, after)

    async def record(self, jobs: Sequence[WorkflowJob]) -> Changes:
        self.recorded.append([job.key.id for job in jobs])
        self.writing.set()
        await self.may_write.wait()
        if self.failures:
            raise self.failures.pop(0)
        if any(job.key.id == self.poison for job in jobs):
            raise ValueError("this row cannot be stored")
        return await super().record(jobs)


class RemoteAccessRules(MemoryAccessRules):
    """Rules that cannot be read while they are `away`."""

    away = False

    def __init__(self) -> None:
        super().__init__()
        self.slow = 0
        """How many of the next answers wait."""
        self.may_answer = asyncio.Event()
        """What they wait for."""

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        if self.away:
            raise Transient("the account does not answer")
        found = await super().find(owner, repository, label)
        self.slow -= 1
        if self.slow >= 0:
            await self.may_answer.wait()
        return found


class Engine(NamedTuple):
    """Everything a test may want to look at."""

    ledger: WatchedLedger
    access: RemoteAccessRules
    bus: MemoryBus
    clock: ManualClock
    github: FakeGitHub
    news: News
    telemetry: Telemetry
    doorbells: Doorbells
    admission: Admission
    intake: Intake
    claims: Claims
    reconciler: Reconciler
    explanations: Explanations
    reviews: Reviews
    scaler: Scaler

    async def rings(self, pool: str = "linux") -> int:
        """Take every doorbell that waits or is on its way."""
        async with self.doorbells.open():
            taken = 0
            while lease := await self.bus.lease(pool, timedelta(seconds=0.02)):
                await self.bus.complete(lease.id)
                taken += 1
        return taken

    async def heard(self) -> list[str]:
        """The events of the news so far."""
        async with self.news.subscribe() as items:
            self.news.whisper("test.ended")
            found: list[str] = []
            async for item in items:
                if item.event == "test.ended":
                    break
                found.append(item.event)
        return found

    def corrected(self, correction: str) -> float:
        """How often the reconciler put such a thing right."""
        label = f'mayfly_reconciler_corrected_total{{correction="{correction}"}} '
        return float(self.telemetry.scrape().decode().partition(label)[2].partition("\n")[0])

    async def turns(self, count: int = 1) -> None:
        """So many turns of the reconciler, each in its time."""
        for _ in range(count):
            self.clock.advance(TURN.total_seconds())
            assert await self.reconciler.turn()

    async def queue(self, job: int = 1) -> None:
        """A job that is queued at GitHub, and known here."""
        await self.ledger.record([queued_job(job)])
        self.github.jobs[job, 1] = [queued_job(job).event]

    async def registered(self, job: int = 1, machine: str = "m1") -> ClaimId:
        """A claim for such a job, with an idle runner at GitHub."""
        await self.queue(job)
        made = await claimed(self.ledger, machine)
        await self.claims.register(made.id, made.boot)
        return made.id


@asynccontextmanager
async def opened_engine(
    rules: Sequence[AccessRule] = ANYBODY,
    pools: tuple[Pool, ...] = POOLS,
    *,
    pull: bool = True,
    bus: MemoryBus | None = None,
    launchers: Mapping[str, Launcher] | None = None,
) -> AsyncIterator[Engine]:
    """A control plane in memory; the doorbells ring only inside `rings`.

    With `pull` nobody waits for a delivery.
    """
    clock, deadlines = ManualClock(), Deadlines()
    ledger, access = WatchedLedger(clock, deadlines), RemoteAccessRules()
    bus = bus or MemoryBus(clock)
    for rule in rules:
        await access.grant(rule)
    github, news, telemetry = FakeGitHub(), News(clock), Telemetry(pool.name for pool in pools)
    stages = connected(
        pools=pools,
        convention=Convention.SEQUENCE,
        ledger=ledger,
        access=access,
        bus=bus,
        github=github,
        clock=clock,
        deadlines=deadlines,
        prefix=PREFIX,
        telemetry=telemetry,
        news=news,
        pull=pull,
        launchers=launchers,
    )
    yield Engine(
        ledger,
        access,
        bus,
        clock,
        github,
        news,
        telemetry,
        stages.doorbells,
        stages.admission,
        stages.intake,
        stages.claims,
        stages.reconciler,
        stages.explanations,
        stages.reviews,
        stages.scaler,
    )
