"""Intake: a workflow job event becomes a decision and a row of the ledger, durable before 202."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import NamedTuple

import msgspec

from mayfly.engine.admission import Admission
from mayfly.engine.aftermath import Aftermath
from mayfly.engine.judgements import Judgement, Judgements
from mayfly.model.access import Decision, Refused
from mayfly.model.demand import demand_for
from mayfly.model.errors import MayflyError, Transient
from mayfly.model.jobs import InstallationId, WorkflowJob, WorkflowJobEvent
from mayfly.ports import Clock, Ledger
from mayfly.telemetry import WebhookResult

LARGEST_BATCH = 256
"""Events that share a transaction: as many as wait while one commits, and never unbounded."""
LATECOMERS = 3
"""Turns of the event loop in which what has arrived at the sockets may still join: microseconds
when nothing has, and twice as large batches under load."""
PAGE = 500
"""Queued jobs that are decided again in one transaction."""


class _Waiting(NamedTuple):
    job: WorkflowJob
    recorded: asyncio.Future[None]
    judgement: Judgement


class Intake:
    """Concurrent callers share a transaction; a bad event fails alone."""

    def __init__(
        self,
        ledger: Ledger,
        admission: Admission,
        aftermath: Aftermath,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._admission = admission
        self._aftermath = aftermath
        self._clock = clock
        self._judgements = Judgements()
        self._waiting: list[_Waiting] = []
        self._recording: asyncio.Task[None] | None = None

    async def submit(self, event: WorkflowJobEvent) -> Decision:
        """Decide and record; durable when it returns. Idempotent."""
        judgement = self._judgements.begin()
        try:
            job = await self.judge(event)
        except BaseException:
            self._judgements.end(judgement)
            raise
        waiting = _Waiting(job, asyncio.get_running_loop().create_future(), judgement)
        self._waiting.append(waiting)
        if self._recording is None:
            self._recording = asyncio.create_task(self._record_waiting())
        await waiting.recorded
        return job.decision

    async def take(self, event: WorkflowJobEvent) -> WebhookResult:
        """`submit`, for who answers a delivery."""
        await self.submit(event)
        return WebhookResult.RECORDED

    async def revived(self, installation: InstallationId) -> None:
        """The App was installed there, unsuspended, or given other repositories or permissions."""
        self._aftermath.follow(await self._ledger.revived(installation))

    @asynccontextmanager
    async def judging(self, event: WorkflowJobEvent) -> AsyncIterator[WorkflowJob]:
        """The event as `judge` gives it, for whoever writes it before this is left."""
        with self._judgements.one():
            yield await self.judge(event)

    async def judge(self, event: WorkflowJobEvent) -> WorkflowJob:
        """The event with admission's decision, in the demand group that puts it in."""
        decision = await self._admission.decide(event)
        return judged(
            WorkflowJob(event=event, decision=decision, group=None, received_at=self._clock.now())
        )

    async def review(self, *, pause: timedelta = timedelta(0)) -> None:
        """Decide all queued jobs again, after the access rules have changed.

        `pause` between two pages leaves the machine to deliveries, when nobody waits for the end.
        Transient when the rules cannot be read; the review is then to be repeated.
        """
        await self._judgements.written()
        page = await self._ledger.queued(PAGE)
        while page:
            if not await self.decide_again(page):
                raise Transient("queued jobs cannot be decided: the access rules cannot be read")
            await asyncio.sleep(pause.total_seconds())
            page = await self._ledger.queued(PAGE, page[-1].key)

    async def decide_again(self, page: Sequence[WorkflowJob]) -> bool:
        """Put the decisions of now on these jobs; False when one of them is pending a check."""
        with self._judgements.one():
            decisions = [await self._admission.decide(job.event) for job in page]
            jobs = [
                judged(msgspec.structs.replace(job, decision=decision))
                for job, decision in zip(page, decisions, strict=True)
            ]
            self._aftermath.follow(await self._ledger.redecide(jobs))
        return not any(isinstance(one, Refused) and one.pending for one in decisions)

    async def _record_waiting(self) -> None:
        try:
            while self._waiting:
                for _ in range(LATECOMERS):
                    await asyncio.sleep(0)
                batch = self._waiting[:LARGEST_BATCH]
                del self._waiting[:LARGEST_BATCH]
                try:
                    await self._record(batch)
                finally:
                    for waiting in batch:
                        self._judgements.end(waiting.judgement)
        finally:
            self._recording = None

    async def _record(self, batch: list[_Waiting]) -> None:
        try:
            changes = await self._ledger.record([waiting.job for waiting in batch])
        except MayflyError as error:
            _answer(batch, error)
        except Exception as error:  # top of a batch: the bad event is found and fails alone
            if len(batch) == 1:
                _answer(batch, error)
                return
            for waiting in batch:
                await self._record([waiting])
        else:
            _answer(batch, None)
            self._aftermath.follow(changes)


def judged(job: WorkflowJob) -> WorkflowJob:
    """The job in the demand group its decision puts it in."""
    demand = demand_for(job)
    return msgspec.structs.replace(job, group=demand.group if demand else None)


def _answer(batch: list[_Waiting], error: Exception | None) -> None:
    for waiting in batch:
        if waiting.recorded.done():
            continue
        if error is None:
            waiting.recorded.set_result(None)
        else:
            waiting.recorded.set_exception(error)
