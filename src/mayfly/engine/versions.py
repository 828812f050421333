"""Versions: which release of GitHub's runner each machine runs, and how long it will do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import structlog

from mayfly.engine.news import News
from mayfly.model.errors import GitHubRefused, Transient
from mayfly.model.releases import Outlook, Release, Version, days_left, newest_of
from mayfly.model.runners import Claim, ClaimState, runner_name
from mayfly.ports import Clock, GitHub, Ledger
from mayfly.telemetry import Telemetry

ASKED_EVERY_SECONDS = 6 * 3600.0
"""What GitHub offers: a release is followed for weeks, so hours are soon enough."""
LOOKED_EVERY_SECONDS = 24 * 3600.0
"""Between two looks at a machine, and so between two alarms about it."""
AGAIN_SECONDS = 600.0
"""After a look or a question that was not answered."""
LOOKS_PER_TURN = 2
CLAIMS_PER_TURN = 200
CONNECTED_SECONDS = 60.0
"""GitHub does not know the version before the runner has connected."""
FORGOTTEN_SECONDS = 7 * 24 * 3600.0
"""A machine without a runner for so long may be gone for good."""
ACTIVE_FOR = timedelta(days=1)

log = structlog.get_logger("mayfly")


class _Seen(NamedTuple):
    pool: str
    version: Version


class Versions:
    """A call every six hours, and one a day for each machine at work; none where nothing runs."""

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
        self._releases: Sequence[Release] = ()
        self._asked = 0
        self._ask_at = 0.0
        self._seen: dict[str, _Seen] = {}
        self._look_at: dict[str, float] = {}

    async def turn(self, ledger_seconds: float) -> None:
        """Its share of this turn."""
        self._forget(ledger_seconds)
        with self._telling():
            if ledger_seconds >= self._ask_at:
                await self._ask(ledger_seconds)
        with self._telling():
            self._releases = await self._ledger.releases()
            if self._releases:
                await self._look_at_some(ledger_seconds)
        pools = dict.fromkeys(seen.pool for seen in self._seen.values())
        outlooks = {pool: self.outlook(pool) for pool in pools}
        self._telemetry.versions_seen({pool: one.days for pool, one in outlooks.items() if one})

    def outlook(self, pool: str) -> Outlook | None:
        """That of the pool's machine whose version is refused first; None: not known."""
        mine = [machine for machine, seen in self._seen.items() if seen.pool == pool]
        return min(map(self._outlook_of, mine), default=None)

    async def _ask(self, now: float) -> None:
        """One scope is as good as any; after a refusal it is the next one's turn."""
        scopes = await self._ledger.scopes(self._clock.now() - ACTIVE_FOR)
        if not scopes:
            return
        installation, scope = scopes[self._asked % len(scopes)]
        self._asked += 1
        self._ask_at = now + AGAIN_SECONDS
        newest = newest_of(await self._github.offers(installation, scope))
        self._ask_at = now + ASKED_EVERY_SECONDS
        if newest is not None:
            await self._ledger.offered(newest)

    async def _look_at_some(self, now: float) -> None:
        claims = await self._ledger.claims(CLAIMS_PER_TURN, live=True)
        connected = [claim for claim in claims if _has_connected(claim, now)]
        due = [claim for claim in connected if now >= self._look_at.get(claim.machine, now)]
        for claim in due[:LOOKS_PER_TURN]:
            with self._telling():
                await self._look(claim, now)

    async def _look(self, claim: Claim, now: float) -> None:
        self._look_at[claim.machine] = now + AGAIN_SECONDS
        _, group = await self._ledger.claimed(claim.id)
        name = runner_name(self._prefix, claim.id, claim.generation)
        runner = await self._github.find_runner(group.installation, group.scope, name)
        if runner is None or runner.version is None:
            return
        self._look_at[claim.machine] = now + LOOKED_EVERY_SECONDS
        self._seen[claim.machine] = _Seen(claim.pool, runner.version)
        found = self._outlook_of(claim.machine)
        if found.outdated:
            self._news.publish(
                "runner.outdated",
                pool=claim.pool,
                machine=found.machine,
                version=str(found.version),
                newest=str(found.newest),
                days=int(found.days),
            )

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """One installation's or scope's error must not cost the others their turn."""
        try:
            yield
        except (Transient, GitHubRefused) as error:
            self._telemetry.github_refused(error)
            log.warning("versions.unseen", reason=str(error))

    def _outlook_of(self, machine: str) -> Outlook:
        version = self._seen[machine].version
        days = days_left(version, self._releases, self._clock.now())
        newest = max(release.version for release in self._releases)
        return Outlook(days, machine, version, newest)

    def _forget(self, now: float) -> None:
        for machine, due in list(self._look_at.items()):
            if due + FORGOTTEN_SECONDS <= now:
                del self._look_at[machine]
                self._seen.pop(machine, None)


def _has_connected(claim: Claim, now: float) -> bool:
    """An idle runner is looked at, too: one of a refused version is never given a job."""
    idle_long = claim.state is ClaimState.REGISTERED and now - claim.state_at >= CONNECTED_SECONDS
    return idle_long or claim.state is ClaimState.BUSY
