"""The delivery log: what GitHub could not deliver is fetched, from where it was last read."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from mayfly.model.deliveries import REVIVING, Attempt, LogPosition
from mayfly.model.errors import GitHubRefused, MayflyError, RateLimited, Transient
from mayfly.model.jobs import InstallationId, WorkflowJobEvent
from mayfly.ports import Clock, GitHub, Ledger
from mayfly.telemetry import Correction, Telemetry

FIRST_LOOK_BACK = timedelta(hours=1)
"""How far an empty ledger reads: jobs queued while the first start was prepared."""
OVERLAP = timedelta(seconds=60)
"""A delivery that times out is logged after younger ones, so the newest part is read again."""
CHUNK = 200
"""Attempts after which the position is stored; a crash costs no more than this."""
AT_ONCE = 8
MOST_TRIES = 5
"""Turns in which a payload is asked for before GitHub is asked to deliver it again, or in which an
event is recorded before it is given up."""

UNREAD = timedelta(minutes=5)
"""The log is read every few seconds, so deliveries taken so long after its last reading were taken
for another ledger: this one was restored from a backup."""
REMEMBERED = 10_000
"""Deliveries GitHub was asked to repeat; once is enough, or one that nobody can take would loop."""

log = structlog.get_logger("mayfly")

Record = Callable[[WorkflowJobEvent], Awaitable[object]]
Revived = Callable[[InstallationId], Awaitable[None]]

_JOB = "workflow_job"
_INSTALLATION = ("installation", "installation_repositories")


class _Delivery(NamedTuple):
    """The attempts of one GUID that a reading found, newest first."""

    attempts: Sequence[Attempt]

    @property
    def newest(self) -> Attempt:
        return self.attempts[0]

    @property
    def arrived(self) -> bool:
        """One success makes a delivery good."""
        return any(attempt.succeeded for attempt in self.attempts)


class DeliveryLog:
    """With `pull` it is the only intake; otherwise what makes up for deliveries that failed."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        github: GitHub,
        record: Record,
        revived: Sequence[Revived],
        telemetry: Telemetry,
        clock: Clock,
        pull: bool,
    ) -> None:
        self._ledger = ledger
        self._github = github
        self._record = record
        self._revived = revived
        self._telemetry = telemetry
        self._clock = clock
        self._pull = pull
        self._taken: dict[str, Attempt] = {}
        self._tries: dict[str, int] = {}
        self._asked_again: dict[str, None] = {}
        self._caught_up = False
        self._foreign_from: datetime | None = None
        self._room = asyncio.Semaphore(AT_ONCE)

    async def turn(self, ledger_seconds: float) -> None:
        """Everything since the last reading is in the ledger, or asked for again. Idempotent."""
        del ledger_seconds
        position = await self._ledger.log_position()
        try:
            attempts = await self._read(position)
        except (Transient, GitHubRefused) as error:
            self._telemetry.github_refused(error)
            log.warning("log.unread", reason=str(error))
            return
        if not self._caught_up and self._foreign_from is None and position is not None:
            self._foreign_from = position.at + UNREAD
        for start in range(0, len(attempts), CHUNK):
            chunk = attempts[start : start + CHUNK]
            held = await self._take(chunk)
            reached = [one for one in chunk if held is None or one.delivered_at < held.delivered_at]
            if reached:
                at = min(reached[-1].delivered_at, self._clock.now())
                await self._ledger.log_read(LogPosition(reached[-1].id, at))
            if held is not None:
                break
        else:
            self._caught_up, self._foreign_from = True, None
            self._telemetry.log_read()
        if position is None and not attempts:
            await self._ledger.log_read(LogPosition(0, self._clock.now()))
        self._forget(attempts)

    async def _read(self, position: LogPosition | None) -> list[Attempt]:
        """Oldest first."""
        # Where nothing was read yet, the time is ours, which may be ahead of GitHub's.
        begun = position is not None and position.id
        since = position.at if position else self._clock.now()
        since -= OVERLAP if begun else FIRST_LOOK_BACK
        found = []
        async for attempt in self._github.deliveries():
            if attempt.delivered_at < since:
                break
            found.append(attempt)
        return sorted(found, key=lambda attempt: (attempt.delivered_at, attempt.id))

    async def _take(self, chunk: Sequence[Attempt]) -> Attempt | None:
        """Ingest what has to be; the oldest attempt that could not be, and has to wait."""
        wanted = [delivery for delivery in _grouped(chunk) if self._wants(delivery)]
        taken = await asyncio.gather(*(self._fetched(delivery) for delivery in wanted))
        held = [delivery for delivery, done in zip(wanted, taken, strict=True) if not done]
        oldest = [delivery.attempts[-1] for delivery in held]
        return min(oldest, key=lambda attempt: attempt.delivered_at, default=None)

    def _wants(self, delivery: _Delivery) -> bool:
        attempt = delivery.newest
        if attempt.guid in self._taken or attempt.guid in self._asked_again:
            return False
        if attempt.event in _INSTALLATION:
            return attempt.action in REVIVING  # whoever was told of it may not lead
        return attempt.event == _JOB and (
            self._pull or not delivery.arrived or self._is_foreign(attempt)
        )

    def _is_foreign(self, attempt: Attempt) -> bool:
        """It arrived long after this ledger last read the log: a ledger that was lost took it."""
        return self._foreign_from is not None and attempt.delivered_at > self._foreign_from

    async def _fetched(self, delivery: _Delivery) -> bool:
        """Whether the delivery needs no more of us."""
        attempt = delivery.newest
        if attempt.event in _INSTALLATION:
            await self._revive(attempt)
            return True
        try:
            async with self._room:
                event = await self._github.delivery(attempt.id)
        except RateLimited:
            return False  # says nothing about this payload
        except Transient as error:
            self._telemetry.github_refused(error)
            if not self._was_last_try(attempt):
                return False
            await self._ask_again(attempt, error)
        except GitHubRefused as error:
            self._telemetry.github_refused(error)
            await self._ask_again(attempt, error)
        else:
            if event is not None and not await self._kept(attempt, event):
                return False
        self._taken[attempt.guid] = attempt
        return True

    async def _kept(self, attempt: Attempt, event: WorkflowJobEvent) -> bool:
        """Whether it is in the ledger, or never will be: then it takes no other with it."""
        try:
            await self._record(event)
        except MayflyError:
            raise
        except Exception:  # top of a delivery: the next turn tries again, but not for ever
            log.exception("delivery.stumbled", delivery=attempt.guid)
            return self._was_last_try(attempt)
        self._telemetry.corrected(Correction.DELIVERY_FETCHED)
        return True

    def _was_last_try(self, attempt: Attempt) -> bool:
        self._tries[attempt.guid] = self._tries.get(attempt.guid, 0) + 1
        return self._tries[attempt.guid] >= MOST_TRIES

    async def _revive(self, attempt: Attempt) -> None:
        """Which installation it was is in the log itself, and nothing else is wanted of it."""
        if attempt.installation is not None:
            for tell in self._revived:
                await tell(attempt.installation)
        self._taken[attempt.guid] = attempt

    async def _ask_again(self, attempt: Attempt, error: MayflyError) -> None:
        """The payload cannot be had; with `pull` nobody would hear it, and the sweep finds it."""
        log.warning("delivery.unreadable", delivery=attempt.guid, reason=str(error))
        self._asked_again[attempt.guid] = None
        while len(self._asked_again) > REMEMBERED:
            del self._asked_again[next(iter(self._asked_again))]
        if self._pull:
            return
        try:
            await self._github.redeliver(attempt.id)
        except (Transient, GitHubRefused) as refused:
            log.warning("delivery.lost", delivery=attempt.guid, reason=str(refused))
        else:
            self._telemetry.corrected(Correction.DELIVERY_REPEATED)

    def _forget(self, attempts: Sequence[Attempt]) -> None:
        """Remember what the next reading finds again."""
        guids = {attempt.guid: None for attempt in attempts}
        self._taken = {guid: one for guid, one in self._taken.items() if guid in guids}
        self._tries = {guid: tries for guid, tries in self._tries.items() if guid in guids}


def _grouped(attempts: Sequence[Attempt]) -> list[_Delivery]:
    """By GUID, in the order of their first attempts."""
    by_guid: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_guid.setdefault(attempt.guid, []).insert(0, attempt)
    return [_Delivery(group) for group in by_guid.values()]
