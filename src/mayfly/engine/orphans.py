"""Orphans: runners named like ours that no claim watches over, as after restoring a backup."""

from collections import Counter
from datetime import timedelta

import structlog

from mayfly.engine.leftovers import Whose, whose
from mayfly.engine.news import News
from mayfly.engine.phases import is_due
from mayfly.model.access import Scope
from mayfly.model.errors import GitHubRefused, Transient
from mayfly.model.jobs import InstallationId
from mayfly.model.runners import Sighting
from mayfly.ports import Clock, GitHub, Ledger
from mayfly.telemetry import Correction, Telemetry

EVERY_SECONDS = 3600.0
"""Between two looks at a scope with jobs."""
ACTIVE_FOR = timedelta(days=1)
"""GitHub itself removes a runner that was not used for a day."""
SILENCES = 2
"""Of one installation, before it is left alone for the turn: each may last half a minute."""

log = structlog.get_logger("mayfly")


class Orphans:
    """Every scope once an hour, a call for each page of its runners."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        github: GitHub,
        news: News,
        telemetry: Telemetry,
        clock: Clock,
        prefix: str,
    ) -> None:
        self._ledger = ledger
        self._github = github
        self._news = news
        self._telemetry = telemetry
        self._clock = clock
        self._prefix = prefix
        self._looked_until: float | None = None

    async def turn(self, ledger_seconds: float) -> None:
        """The scopes whose hour is over."""
        before, self._looked_until = self._looked_until, ledger_seconds
        if before is None:
            return
        since = self._clock.now() - ACTIVE_FOR
        silent: Counter[InstallationId] = Counter()
        for installation, scope in await self._ledger.scopes(since):
            if silent[installation] >= SILENCES:
                continue  # its next hour comes
            if is_due(scope, before, ledger_seconds, EVERY_SECONDS):
                try:
                    await self._look(installation, scope)
                except (Transient, GitHubRefused) as error:
                    silent[installation] += isinstance(error, Transient)
                    self._telemetry.github_refused(error)
                    log.warning("orphans.unseen", scope=scope, reason=str(error))

    async def _look(self, installation: InstallationId, scope: Scope) -> None:
        """GitHub first and the ledger afterwards: a name is in the ledger before it is there."""
        for runner in await self._github.runners_of(installation, scope):
            if await whose(self._ledger, runner, self._prefix) is not Whose.LEAKED:
                continue
            if await self._github.delete_runner(installation, scope, runner.id) is Sighting.BUSY:
                continue  # it takes no second job
            self._telemetry.corrected(Correction.ORPHAN_DELETED)
            self._news.publish("orphan.deleted", runner=runner.name, scope=scope)
