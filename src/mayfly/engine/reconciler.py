"""The reconciler: clocks only repair; whatever was lost on the way is found here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from mayfly.engine.aftermath import Aftermath
from mayfly.engine.doorbells import Doorbells
from mayfly.engine.looks import delete_at_github
from mayfly.engine.news import News
from mayfly.model.changes import Changes
from mayfly.model.deadlines import Deadlines
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import MayflyError
from mayfly.model.pools import Pool
from mayfly.model.runners import ClaimId, Registration
from mayfly.ports import Bus, Clock, GitHub, Ledger
from mayfly.telemetry import Correction, Telemetry

log = structlog.get_logger("mayfly")

AT_ONCE = 8
"""Calls to GitHub at the same time; minting comes first and needs room."""
PER_TURN = 200
"""Rows of each kind a turn takes on, so that no turn is unbounded."""


class Reconciler:
    """One turn every few seconds; of several control planes, only the leading one acts."""

    def __init__(
        self,
        *,
        pools: tuple[Pool, ...],
        ledger: Ledger,
        bus: Bus,
        github: GitHub,
        doorbells: Doorbells,
        news: News,
        telemetry: Telemetry,
        deadlines: Deadlines,
        clock: Clock,
    ) -> None:
        self._pools = pools
        self._ledger = ledger
        self._bus = bus
        self._github = github
        self._doorbells = doorbells
        self._aftermath = Aftermath(doorbells, news, telemetry, clock)
        self._telemetry = telemetry
        self._period = timedelta(seconds=deadlines.turn_seconds)
        self._instance = clock.new_id()
        self._room = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Turns happen while this is open, the first one at once."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def turn(self) -> bool:
        """One turn; False when another instance leads."""
        if await self._ledger.tick(self._instance, self._period) is None:
            return False
        due = await self._ledger.due(PER_TURN)
        await self._each(self._lose(claim.id) for claim in due.silent)
        await self._each(self._relieve(claim.id) for claim in due.surplus)
        await self._each(self._look(registration, group) for registration, _, group in due.looks)
        await self._ring_again()
        return True

    async def _run(self) -> None:
        while True:
            try:
                await self.turn()
            except Exception:  # top of the loop: the next turn tries again
                log.exception("reconciler.stumbled")
            await asyncio.sleep(self._period.total_seconds())

    async def _each(self, works: Iterable[Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(self._kept_apart(work))

    async def _kept_apart(self, work: Awaitable[None]) -> None:
        """The trouble of one claim stays there."""
        try:
            async with self._room:
                await work
        except MayflyError as error:
            log.warning("repair.failed", reason=str(error))

    async def _lose(self, claim: ClaimId) -> None:
        self._settle(Correction.CLAIM_LOST, await self._ledger.lose(claim))

    async def _relieve(self, claim: ClaimId) -> None:
        self._settle(Correction.CLAIM_RELIEVED, await self._ledger.relieve(claim))

    async def _look(self, registration: Registration, group: DemandGroup) -> None:
        sighting = await delete_at_github(self._github, registration, group)
        self._settle(Correction.RUNNER_DELETED, await self._ledger.saw(registration.name, sighting))

    def _settle(self, correction: Correction, changes: Changes) -> None:
        self._aftermath.follow(changes)
        if changes.claims:
            self._telemetry.corrected(correction, len(changes.claims))

    async def _ring_again(self) -> None:
        """Doorbells that were lost."""
        for pool, use in (await self._ledger.pools()).items():
            if missing := await self._doorbells.make_up(pool, use):
                self._telemetry.corrected(Correction.DOORBELL_RUNG, missing)
