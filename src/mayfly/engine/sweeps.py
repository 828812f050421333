"""The sweep: jobs that were neither delivered nor logged are found in the lists of runs (R11)."""

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from mayfly.engine.patrols import Patrol
from mayfly.engine.phases import is_due
from mayfly.model.errors import GitHubRefused, Transient
from mayfly.model.jobs import InstallationId, WorkflowJobEvent
from mayfly.model.repositories import Repository, Run
from mayfly.ports import AccessRules, Clock, GitHub, Ledger
from mayfly.telemetry import Telemetry

ACTIVE_FOR = timedelta(days=1)
EVERY_SECONDS = 600.0
"""Between two sweeps of a repository that had a job within ACTIVE_FOR."""
CALLS_PER_TURN = 10
STATUSES = ("queued", "in_progress")
"""A run with a job at work is in progress, whatever its other jobs wait for."""
SETTLED = timedelta(minutes=5)
"""Deliveries about a run that changed later may still be on their way."""
SILENCES = 2
"""Of one installation, before it is left alone for the turn: each may last half a minute."""
RETURNED_AGAIN_SECONDS = 120.0
"""Until an installation that came back and does not answer is asked again."""
REMEMBERED = 10_000
"""Runs that have been looked into since they last changed."""

log = structlog.get_logger("mayfly")


class _Listing(NamedTuple):
    repository: Repository
    status: str
    returned: bool = False
    """Its installation came back: no delivery is on its way about what happened before."""


class _Unseen(NamedTuple):
    repository: Repository
    run: Run
    returned: bool = False


class Sweeps:
    """A few calls a turn; what does not fit waits for the next one."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        github: GitHub,
        access: AccessRules,
        record: Callable[[WorkflowJobEvent], Awaitable[object]],
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._github = github
        self._access = access
        self._record = record
        self._telemetry = telemetry
        self._clock = clock
        self._swept_until: float | None = None
        self._waiting: deque[_Listing | _Unseen] = deque()
        self._patrol = Patrol(github, access)
        self._came_back: dict[InstallationId, float] = {}
        """When it is to be looked at, in ledger seconds."""
        self._etags: dict[_Listing, str | None] = {}
        self._looked_into: dict[tuple[int, int], datetime] = {}

    async def revived(self, installation: InstallationId) -> None:
        """Nothing was delivered while it was away. Looked at in the next turn, because a restart
        forgets it, and again until GitHub has answered about all of it."""
        self._came_back[installation] = 0.0

    async def turn(self, ledger_seconds: float) -> None:
        """Its share of this turn."""
        before, self._swept_until = self._swept_until, ledger_seconds
        if before is not None:
            await self._add_active(before, ledger_seconds)
            await self._add_idle(before, ledger_seconds)
        await self._add_returned(ledger_seconds)
        silent: Counter[InstallationId] = Counter()
        for _ in range(CALLS_PER_TURN):
            while self._waiting and silent[self._waiting[0].repository.installation] >= SILENCES:
                self._postpone(self._waiting.popleft())
            if not self._waiting:
                return
            what = self._waiting.popleft()
            if not await self._sweep(what):
                silent[what.repository.installation] += 1

    async def _add_active(self, before: float, now: float) -> None:
        waiting = set(self._waiting)
        for repository in await self._ledger.repositories(self._clock.now() - ACTIVE_FOR):
            if is_due(repository.full_name, before, now, EVERY_SECONDS):
                listings = (_Listing(repository, status) for status in STATUSES)
                self._waiting.extend(one for one in listings if one not in waiting)

    async def _add_idle(self, before: float, now: float) -> None:
        try:
            if repository := await self._patrol.next(before, now):
                self._waiting.appendleft(_Listing(repository, STATUSES[0]))
        except (Transient, GitHubRefused) as error:
            self._telemetry.github_refused(error)
            log.warning("patrol.failed", reason=str(error))

    async def _add_returned(self, now: float) -> None:
        due = [one for one, at in self._came_back.items() if at <= now]
        for installation in due[:1]:
            del self._came_back[installation]
            try:
                repositories = await self._patrol.again(installation)
            except (Transient, GitHubRefused) as error:
                self._telemetry.github_refused(error)
                log.warning("patrol.failed", reason=str(error))
                if isinstance(error, Transient):  # one that left again is told of at its return
                    self._came_back[installation] = now + RETURNED_AGAIN_SECONDS
            else:
                listings = [_Listing(one, STATUSES[0], returned=True) for one in repositories]
                self._waiting.extendleft(reversed(listings))

    def _postpone(self, what: _Listing | _Unseen) -> None:
        """Its next moment comes; that of an idle repository is too far off if it came back."""
        if what.returned and self._swept_until is not None:
            again = self._swept_until + RETURNED_AGAIN_SECONDS
            self._came_back[what.repository.installation] = again

    async def _sweep(self, what: _Listing | _Unseen) -> bool:
        """Whether GitHub answered; a refusal is about this repository alone."""
        try:
            if isinstance(what, _Listing):
                await self._list(what)
            else:
                await self._look_into(what)
        except (Transient, GitHubRefused) as error:
            self._telemetry.github_refused(error)
            for status in STATUSES:
                self._etags.pop(_Listing(what.repository, status), None)
            log.warning("sweep.failed", repository=what.repository.full_name, reason=str(error))
            if isinstance(error, Transient):
                self._postpone(what)
                return False
        return True

    async def _list(self, listing: _Listing) -> None:
        answer = await self._github.runs(
            listing.repository, listing.status, self._etags.get(listing)
        )
        if answer is None:
            return
        unsettled = False
        for run in answer.runs:
            if not listing.returned and self._clock.now() - run.updated_at < SETTLED:
                unsettled = True
            elif self._looked_into.get((run.id, run.attempt)) != run.updated_at:
                self._waiting.append(_Unseen(listing.repository, run, listing.returned))
        # An answer that is to be read again must not be answered with "as it was".
        self._etags[listing] = None if unsettled or listing.returned else answer.etag

    async def _look_into(self, unseen: _Unseen) -> None:
        repository, run, _ = unseen
        for event in await self._github.run_jobs(
            repository.installation, repository.owner, repository.name, run.id, run.attempt
        ):
            await self._record(event)
        self._looked_into.pop((run.id, run.attempt), None)
        self._looked_into[run.id, run.attempt] = run.updated_at
        while len(self._looked_into) > REMEMBERED:
            del self._looked_into[next(iter(self._looked_into))]
