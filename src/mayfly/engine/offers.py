"""Offers: what GitHub offers for download, for machines, which hold no key to ask with."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from mayfly.model.access import Scope
from mayfly.model.errors import GitHubRefused, NotFound
from mayfly.model.jobs import InstallationId
from mayfly.model.releases import Offer, newest_of
from mayfly.ports import Clock, GitHub, Ledger

KEPT_FOR = timedelta(minutes=10)
"""Any number of machines may ask at once, and a token for the download lasts longer."""
_ACTIVE_FOR = timedelta(days=1)
_MOST_ASKED = 3
"""Scopes asked before a refusal is passed on: one repository may be gone, hardly three."""


class Offers:
    """One call to GitHub in ten minutes, however many machines ask."""

    def __init__(self, ledger: Ledger, github: GitHub, clock: Clock) -> None:
        self._ledger = ledger
        self._github = github
        self._clock = clock
        self._known: Sequence[Offer] = ()
        self._known_until: datetime | None = None
        self._asking = asyncio.Lock()

    async def newest(self) -> Sequence[Offer]:
        """The newest release for each kind of machine. NotFound when there is nowhere to ask."""
        async with self._asking:
            now = self._clock.now()
            if self._known_until is None or now >= self._known_until:
                self._known = await self._asked()
                self._known_until = now + KEPT_FOR
                if version := newest_of(self._known):
                    # The days until older versions are refused are counted from now on.
                    await self._ledger.offered(version)
            return self._known

    async def _asked(self) -> list[Offer]:
        refusal: GitHubRefused | None = None
        for installation, scope in await self._scopes():
            try:
                return await self._github.offers(installation, scope)
            except GitHubRefused as error:
                refusal = error
        if refusal is not None:
            raise refusal
        raise NotFound(
            "no repository has the App installed, so GitHub cannot be asked for its runner; "
            "install the App on one first"
        )

    async def _scopes(self) -> list[tuple[InstallationId, Scope]]:
        """Where jobs were lately; before the first job, any repository of the App."""
        active = await self._ledger.scopes(self._clock.now() - _ACTIVE_FOR)
        if active:
            return active[:_MOST_ASKED]
        found: list[tuple[InstallationId, Scope]] = []
        async for repository in self._github.repositories():
            scope = Scope(f"repos/{repository.owner}/{repository.name}")
            found.append((repository.installation, scope))
            if len(found) == _MOST_ASKED:
                break
        return found
