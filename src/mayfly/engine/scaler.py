"""The scaler: executors start where there is work, and end where there is none.

A row is written before the platform is asked, so a crash at any moment leaves nothing that the
next turn does not find: wanted rows are asked for again under the same id, and what the platform
has and no row wants is stopped.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from mayfly.engine.news import News
from mayfly.engine.watches import Watch
from mayfly.model.deadlines import Deadlines
from mayfly.model.errors import MayflyError, Permanent, Transient
from mayfly.model.launches import LaunchId, LaunchRecord, Plan, Ticket, hashed
from mayfly.model.pools import Pool
from mayfly.ports import Launcher, Launches
from mayfly.telemetry import LaunchRefusal, Telemetry

AT_ONCE = 8
"""Starts and stops of one pool at the same time; a launcher's own pace comes before it."""
ANSWER_SECONDS = 60.0
"""For one answer of a platform."""
SILENCES = 3
"""Starts, or stops, refused in a turn, before the others of their kind wait for the next one."""
LOOK_SECONDS, RARELY_SECONDS, IDLE_SECONDS = 60.0, 600.0, 3600.0
"""Between two lists of what the platform has: while something starts or ends, while anything
lives, and otherwise."""
SETTLE_SECONDS, RUNG_SECONDS = 1.0, 5.0
"""After a platform rang, because an end comes as several changes; and between two lists, however
often it rings."""

log = structlog.get_logger("mayfly")
T = TypeVar("T")


class Scaler:
    """The lanes of all elastic pools; the trouble of one is not another's."""

    def __init__(self, lanes: Iterable["Lane"], launches: Launches, news: News) -> None:
        self.lanes = tuple(lanes)
        self._launches = launches
        self._news = news
        self._of = {lane.pool: lane for lane in self.lanes}

    async def turn(self, ledger_seconds: float) -> None:
        """Beside the lanes': what was launched for a pool that has none any more is given up."""
        del ledger_seconds  # the ledger knows how old they are
        for launch in await self._launches.strand(self._of.keys()):
            self._news.publish(
                "launch.written_off", pool=launch.pool, launch=launch.id, reason=launch.detail
            )

    def wake(self, pools: Iterable[str]) -> None:
        """Something opened in these pools, or a slot became free."""
        for pool in pools:
            if lane := self._of.get(pool):
                lane.wake()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Lanes can be woken between two turns while this is open."""
        async with AsyncExitStack() as stack:
            for lane in self.lanes:
                await stack.enter_async_context(lane.open())
            yield


def lanes(
    pools: Iterable[Pool],
    launchers: Mapping[str, Launcher],
    launches: Launches,
    news: News,
    telemetry: Telemetry,
    deadlines: Deadlines,
) -> list["Lane"]:
    """One for each pool that has a launcher."""
    period = timedelta(seconds=deadlines.turn_seconds)
    return [
        Lane(pool, launchers[pool.name], launches, news, telemetry, period)
        for pool in pools
        if pool.name in launchers
    ]


class Lane:
    """One elastic pool. Its turns are the reconciler's, so only the leader scales."""

    def __init__(
        self,
        pool: Pool,
        launcher: Launcher,
        launches: Launches,
        news: News,
        telemetry: Telemetry,
        period: timedelta,
    ) -> None:
        self.pool = pool.name
        self.name = f"Scaler of {pool.name}"
        self._settings = pool
        self._launcher = launcher
        self._launches = launches
        self._news = news
        self._telemetry = telemetry
        self._leads_for = 2 * period.total_seconds()
        self._turning = asyncio.Lock()
        self._woken, self._rung = asyncio.Event(), asyncio.Event()
        self._watch = Watch(self.pool, launcher, self._rung.set)
        self._led_at: float | None = None
        self._now = 0.0
        self._short_since: float | None = None
        self._listed_at: float | None = None
        self._asked_at = -RUNG_SECONDS
        """By the loop's time, as platforms ring between two turns, too."""
        self._watched = self._live = False

    def wake(self) -> None:
        """Look again soon, if this control plane leads."""
        self._woken.set()

    async def turn(self, ledger_seconds: float) -> None:
        """One turn of the reconciler."""
        self._led_at, self._now = asyncio.get_running_loop().time(), ledger_seconds
        async with self._turning:
            await self._scale()
            await self._survey()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """It may be woken and rung for while this is open."""
        tasks = [asyncio.create_task(each) for each in (self._heed_wakes(), self._heed_rings())]
        try:
            async with self._watch.open():
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _heed_wakes(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self._leads():
                await self._between_turns(self._scale)

    async def _heed_rings(self) -> None:
        while True:
            await self._rung.wait()
            since = asyncio.get_running_loop().time() - self._asked_at
            await asyncio.sleep(max(SETTLE_SECONDS, RUNG_SECONDS - since))
            if self._leads():
                await self._between_turns(self._survey_and_scale)
            else:
                self._rung.clear()

    def _leads(self) -> bool:
        led_at, now = self._led_at, asyncio.get_running_loop().time()
        return led_at is not None and now - led_at <= self._leads_for

    async def _between_turns(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with self._turning:
                await work()
        except MayflyError as error:
            log.warning("repair.failed", repair=self.name, reason=str(error))
        except Exception:  # top of the loop: the next turn tries again
            log.exception("repair.stumbled", repair=self.name)

    async def _survey_and_scale(self) -> None:
        """What has ended may be replaced at once."""
        if self._rung.is_set():  # or a turn has listed what there is since
            self._listed_at = None
            await self._survey()
        await self._scale()

    async def _scale(self) -> None:
        plan = await self._launches.scale(self._settings, overflows=self._overflows())
        self._remember(plan)
        stops = _Attempt()
        starts = _Attempt(stops.turn)  # a platform that cannot end what it has may still start
        await _together(
            *(self._stop(launch, stops) for launch in plan.stop),
            *(self._start(launch, starts) for launch in plan.start),
        )

    def _remember(self, plan: Plan) -> None:
        self._watched, self._live = plan.watched, bool(sum(plan.phases.values()))
        self._watch.keep((self._led_at or 0.0) + self._leads_for if self._live else 0.0)
        if not plan.short:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = self._now
        self._telemetry.launches.seen(self.pool, plan.phases)
        for launch in plan.written_off:
            self._telemetry.launches.written_off(self.pool)
            self._news.publish(
                "launch.written_off", pool=self.pool, launch=launch.id, reason=launch.detail
            )

    def _overflows(self) -> bool:
        """Whether parked executors have had their time."""
        patience = self._settings.overflow_after_seconds
        since = self._short_since
        return not patience or (since is not None and self._now - since >= patience)

    async def _start(self, record: LaunchRecord, attempt: "_Attempt") -> None:
        async with attempt.turn:
            if attempt.refused >= SILENCES:
                return
            ticket = new_ticket(record.id)
            seconds = self._settings.start_deadline_seconds
            if not await self._launches.ticketed(record.id, hashed(ticket.reveal()), seconds):
                return
            try:
                await self._answer(self._launcher.start(record.launch, ticket))
            except (Transient, Permanent, TimeoutError) as error:
                attempt.refused += 1
                await self._refused(record, error)
                return
            await self._launches.accepted(record.id)
        self._telemetry.launches.started(self.pool)
        self._news.publish("launch.started", pool=self.pool, launch=record.id)

    async def _refused(self, record: LaunchRecord, error: Exception) -> None:
        sentence = str(error) or f"the platform did not answer within {ANSWER_SECONDS:.0f} s"
        retry_at = error.retry_at if isinstance(error, Transient) else None
        await self._launches.refused(record.id, sentence, retry_at)
        self._telemetry.launches.refused(self.pool, _reason(error))
        self._news.publish("launch.refused", pool=self.pool, launch=record.id, reason=sentence)

    async def _survey(self) -> None:
        """What the platform has and nobody wants; what nobody heard has ended there."""
        if self._listed_at is not None and self._now - self._listed_at < self._pause():
            return
        self._asked_at = asyncio.get_running_loop().time()
        self._rung.clear()
        try:
            seen = await self._answer(self._launcher.launched(self.pool))
        except TimeoutError:
            log.warning("launcher.silent", pool=self.pool)
            return
        except (Transient, Permanent) as error:
            log.warning("launcher.silent", pool=self.pool, reason=str(error))
            return
        self._listed_at = self._now
        attempt = _Attempt()
        orphans = await self._launches.surveyed(self.pool, seen)
        for orphan in orphans:
            self._news.publish("launch.orphaned", pool=self.pool, launch=orphan)
        await _together(*(self._end(orphan, attempt) for orphan in orphans))

    def _pause(self) -> float:
        if self._watched:
            return LOOK_SECONDS
        return RARELY_SECONDS if self._live else IDLE_SECONDS

    async def _stop(self, record: LaunchRecord, attempt: "_Attempt") -> None:
        if await self._end(record.id, attempt):
            self._news.publish(
                "launch.stopped", pool=self.pool, launch=record.id, reason=record.detail
            )

    async def _end(self, launch: LaunchId, attempt: "_Attempt") -> bool:
        """Whether the platform was heard; it is asked again until it has it no more."""
        async with attempt.turn:
            if attempt.refused >= SILENCES:
                return False
            try:
                await self._answer(self._launcher.stop(self.pool, launch))
            except (Transient, Permanent, TimeoutError) as error:
                attempt.refused += 1
                log.warning("launcher.silent", pool=self.pool, reason=str(error))
                return False
        return True

    async def _answer(self, asked: Awaitable[T]) -> T:
        """Within its time. Permanent for what no launcher should raise, so that others go on."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asked
        except (MayflyError, TimeoutError):
            raise
        except Exception as error:
            log.exception("launcher.stumbled", pool=self.pool)
            name = type(error).__name__
            raise Permanent(
                f"the launcher raised {name}; the control plane's log says where"
            ) from error


class _Attempt:
    """What a platform is asked in one turn: few at once, and none in vain."""

    def __init__(self, turn: asyncio.Semaphore | None = None) -> None:
        self.turn = turn or asyncio.Semaphore(AT_ONCE)
        self.refused = 0


async def _together(*works: Coroutine[Any, Any, object]) -> None:
    """All to their end, then the first error: no turn begins while one before it still asks."""
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def new_ticket(launch: LaunchId) -> Ticket:
    """Known to nobody; the ledger keeps its hash."""
    return Ticket(f"mft_{launch}_{secrets.token_urlsafe(32)}")


def _reason(error: Exception) -> LaunchRefusal:
    if isinstance(error, TimeoutError):
        return LaunchRefusal.SILENT
    permanent = isinstance(error, Permanent)
    return LaunchRefusal.PERMANENT if permanent else LaunchRefusal.TRANSIENT
