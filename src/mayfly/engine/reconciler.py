"""The reconciler: clocks only repair; whatever was lost on the way is found here."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from functools import partial
from itertools import chain, islice, zip_longest
from typing import Protocol

import structlog

from mayfly.engine.aftermath import Aftermath
from mayfly.engine.doorbells import Doorbells
from mayfly.engine.looks import delete_at_github
from mayfly.engine.works import Works
from mayfly.model.changes import Changes, Due
from mayfly.model.deadlines import Deadlines
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import GitHubRefused, MayflyError, Transient
from mayfly.model.jobs import GroupId, InstallationId, WorkflowJob, WorkflowJobEvent
from mayfly.model.runners import Claim, ClaimId, ClaimState, Registration, Sighting
from mayfly.ports import Clock, GitHub, Ledger
from mayfly.telemetry import Correction, Telemetry

PER_TURN = 200
"""Rows of each kind a turn takes on, so that no turn is unbounded."""
CHECKS_PER_TURN = 15
"""Jobs GitHub is asked about in a turn: 2,700 an hour at the very most, of its 5,000."""
FORGOTTEN_PER_TURN = 500
ASK_AGAIN_SECONDS = 5.0
"""How often one that does not lead, or that failed to, asks whether it may: a leader that died is
soon followed, and where only a promise tells, there is one small write more for it."""

log = structlog.get_logger("mayfly")

Judging = Callable[[WorkflowJobEvent], AbstractAsyncContextManager[WorkflowJob]]
"""Puts admission's decision and the demand group on what GitHub answered about a job, which is
written before the context is left."""


class Duty(Protocol):
    """Something that is done in every turn, beside the others."""

    async def turn(self, ledger_seconds: float) -> None:
        """Its share of this turn; the next one does not begin before this one ends."""


class Reconciler:
    """One turn every few seconds; of several control planes, only the leading one acts."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        github: GitHub,
        judging: Judging,
        doorbells: Doorbells,
        aftermath: Aftermath,
        telemetry: Telemetry,
        deadlines: Deadlines,
        clock: Clock,
        duties: Sequence[Duty] = (),
        lanes: Mapping[str, Duty] | None = None,
    ) -> None:
        self._ledger = ledger
        self._github = github
        self._judging = judging
        self._doorbells = doorbells
        self._aftermath = aftermath
        self._telemetry = telemetry
        self._period = timedelta(seconds=deadlines.turn_seconds)
        self._instance = clock.new_id()
        self._duties = {type(duty).__name__: duty for duty in duties} | dict(lanes or {})
        self._works = Works()
        self._recounted: GroupId | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Turns happen while this is open, the first one at once."""
        async with self._works.open():
            task = asyncio.create_task(self._run())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await self._resign()

    async def turn(self) -> bool:
        """One turn to its end; False when another instance leads."""
        led = await self._begin_turn()
        await self._works.settled()
        return led

    async def _run(self) -> None:
        while True:
            led = False
            try:
                led = await self._begin_turn()
            except MayflyError as error:
                log.warning("reconciler.failed", reason=str(error))
            except Exception:  # top of the loop: the next turn tries again
                log.exception("reconciler.stumbled")
            period = self._period.total_seconds()
            await asyncio.sleep(period if led else min(period, ASK_AGAIN_SECONDS))

    async def _begin_turn(self) -> bool:
        """Works are begun for all that is due, and what lost doorbells stood for is rung again."""
        now = await self._ledger.tick(self._instance, self._period)
        if now is None:
            return False
        self._works.new_turn()
        due = await self._ledger.due(PER_TURN)
        self._begin_works(due)
        for name, duty in self._duties.items():
            self._works.begin(name, name, partial(duty.turn, now))
        await self._recount()
        await self._ledger.forget(FORGOTTEN_PER_TURN)
        await self._ring_again()
        return True

    async def _resign(self) -> None:
        try:
            await self._ledger.resign(self._instance)
        except MayflyError as error:
            log.warning("reconciler.failed", reason=str(error))

    def _begin_works(self, due: Due) -> None:
        begin = self._works.begin
        for claim in due.silent:
            begin(("lose", claim.id), "ledger", partial(self._lose, claim.id))
        for claim in due.surplus:
            begin(("relieve", claim.id), "ledger", partial(self._relieve, claim.id))
        for claim, group in due.overdue:
            key = ("overdue", claim.id)
            if claim.state is ClaimState.BUSY:
                begin(key, group.installation, partial(self._resolve, claim, group))
            else:
                begin(key, "ledger", partial(self._overdue, claim.id))
        for registration, _, group in due.looks:
            look = partial(self._look, registration, group)
            begin(("look", registration.name), group.installation, look)
        for job in self._chosen(due.checks):
            begin(("check", job.key), job.event.installation, partial(self._check, job))

    def _chosen(self, checks: Sequence[WorkflowJob]) -> Iterator[WorkflowJob]:
        """By turns of the installations; where GitHub is silent, all are only put off."""
        lanes: dict[InstallationId | None, list[WorkflowJob]] = {}
        for job in checks:
            lanes.setdefault(job.event.installation, []).append(job)
        down = [jobs for lane, jobs in lanes.items() if self._works.was_down(lane)]
        others = [jobs for lane, jobs in lanes.items() if not self._works.was_down(lane)]
        rounds = chain.from_iterable(zip_longest(*others))
        yield from chain(*down, islice(filter(None, rounds), CHECKS_PER_TURN))

    async def _lose(self, claim: ClaimId) -> None:
        self._settle(Correction.CLAIM_LOST, await self._ledger.lose(claim))

    async def _relieve(self, claim: ClaimId) -> None:
        self._settle(Correction.CLAIM_RELIEVED, await self._ledger.relieve(claim))

    async def _overdue(self, claim: ClaimId) -> None:
        changes = await self._ledger.overdue(claim)
        self._settle(Correction.CLAIM_OVERDUE, changes)
        for one in changes.claims:
            if one.state is ClaimState.REGISTERED and one.due_at is None:
                self._telemetry.corrected(Correction.RUNNER_UNSERVED)

    async def _look(self, registration: Registration, group: DemandGroup) -> None:
        """Is the runner of this name gone (R6)?"""
        sighting, works = Sighting.UNREACHABLE, self._works
        if not works.is_down(group.installation):
            sighting = await delete_at_github(self._github, registration, group, self._telemetry)
            works.heard(group.installation, answer=sighting is not Sighting.UNREACHABLE)
        self._settle(Correction.RUNNER_DELETED, await self._ledger.saw(registration.name, sighting))

    async def _check(self, job: WorkflowJob) -> None:
        """Is the job what the ledger says (R10)?"""
        event = job.event
        if event.installation is None or self._works.is_down(event.installation):
            await self._ledger.postponed(job.key)
            return
        try:
            answer = await self._github.get_job(
                event.installation, event.owner, event.repository, event.key.id
            )
        except (Transient, GitHubRefused) as error:
            self._telemetry.github_refused(error)
            self._works.heard(event.installation, answer=isinstance(error, GitHubRefused))
            await self._ledger.postponed(job.key)
            return
        self._works.heard(event.installation, answer=True)
        async with nullcontext() if answer is None else self._judging(answer) as judged:
            changes = await self._ledger.checked(job.key, judged)
        self._aftermath.follow(changes)
        self._telemetry.corrected(Correction.JOB_CHECKED, len(changes.jobs))

    async def _resolve(self, claim: Claim, group: DemandGroup) -> None:
        """Which job does the busy runner have (R9)?"""
        if claim.run is not None and not self._works.is_down(group.installation):
            owner, _, repository = claim.run.repository.partition("/")
            try:
                events = await self._github.run_jobs(
                    group.installation, owner, repository, claim.run.id, claim.run.attempt
                )
            except (Transient, GitHubRefused) as error:
                self._telemetry.github_refused(error)
                self._works.heard(group.installation, answer=isinstance(error, GitHubRefused))
                events = []
            for event in events:
                if event.runner_name and f"-{claim.id}-" in event.runner_name:
                    async with self._judging(event) as judged:
                        self._aftermath.follow(await self._ledger.record([judged]))
        await self._overdue(claim.id)

    def _settle(self, correction: Correction, changes: Changes) -> None:
        self._aftermath.follow(changes)
        if changes.claims:
            self._telemetry.corrected(correction, len(changes.claims))

    async def _recount(self) -> None:
        """The counters of one group, against their rows (R2)."""
        recount = await self._ledger.recount(self._recounted)
        self._recounted = recount.group if recount else None
        if recount and recount.wrong:
            log.error("counter.repaired", wrong="; ".join(recount.wrong))
            self._telemetry.corrected(Correction.COUNTER_REPAIRED, len(recount.wrong))

    async def _ring_again(self) -> None:
        """Doorbells that were lost."""
        for pool, use in (await self._ledger.pools()).items():
            try:
                missing = await self._doorbells.make_up(pool, use)
            except MayflyError as error:
                log.warning("doorbell.lost", pool=pool, reason=str(error))
                continue
            if missing:
                self._telemetry.corrected(Correction.DOORBELL_RUNG, missing)
