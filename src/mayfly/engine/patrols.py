"""The patrol: repositories that had no job for long are looked at in turn, a few calls an hour."""

from collections.abc import AsyncIterator

from mayfly.model.jobs import InstallationId
from mayfly.model.repositories import Repository
from mayfly.ports import AccessRules, GitHub

EVERY_SECONDS = 520.0
"""For each call, so that all of them together are not more than 7 an hour, however many."""
LIST_EVERY_SECONDS = 86_400.0
PAGE = 100


class Patrol:
    """Which idle repository is next, and when; lists them a day apart, an installation a step.

    Whose turn it is follows from ledger time, so that a restart or a new list begins nothing anew.
    """

    def __init__(self, github: GitHub, access: AccessRules) -> None:
        self._github = github
        self._access = access
        self._idle: list[Repository] = []
        self._step = EVERY_SECONDS
        self._listing: AsyncIterator[Repository] | None = None
        self._found: list[Repository] = []
        self._listed_at: float | None = None
        self._rests_until = 0.0
        self._last: InstallationId | None = None

    async def again(self, installation: InstallationId) -> list[Repository]:
        """The idle repositories of one that came back, which no list may have shown.

        Transient or GitHubRefused when it does not answer; nothing has changed then.
        """
        fresh = await self._github.repositories_of(installation)
        self._found = [one for one in self._found if one.installation != installation] + fresh
        await self._choose()
        return [one for one in self._idle if one.installation == installation]

    async def next(self, before: float, now: float) -> Repository | None:
        """The repository whose moment lies in (before, now], in ledger seconds; None: nobody's.

        Transient or GitHubRefused: the listing begins anew at the next step.
        """
        if now // self._step == before // self._step or now < self._rests_until:
            return None
        if self._listed_at is None or now - self._listed_at >= LIST_EVERY_SECONDS:
            await self._list_some(now)
            return None
        return self._whose(int(now // self._step)) if self._idle else None

    def _whose(self, step: int) -> Repository:
        """Each round begins one earlier: no regular restarts skip the same ones for ever, and
        nobody waits longer than a round and a step."""
        count = len(self._idle)
        return self._idle[(step - step // count) % count]

    async def _list_some(self, now: float) -> None:
        """One installation's repositories, and the first one of the next."""
        if self._listing is None:
            self._listing, self._found = self._github.repositories(), []
        listing, self._listing = self._listing, None
        known = self._found[-1:]
        self._rests_until = now + EVERY_SECONDS
        async for repository in listing:
            self._found.append(repository)
            self._pay(repository, pages=len(self._found) % PAGE == 0)
            if known and known[-1].installation != repository.installation:
                self._listing = listing
                return
            known = self._found[-1:]
        await self._choose()
        self._listed_at = now

    async def _choose(self) -> None:
        """Of those a rule speaks of, in an order that stays."""
        owners = {rule.owner.lower() for rule in await self._access.rules()}
        self._idle = sorted({one for one in self._found if one.owner.lower() in owners})
        # One that is not asked every few minutes takes a call for its token too.
        several = len({one.installation: None for one in self._idle}) > 1
        self._step = EVERY_SECONDS * (1 + several)

    def _pay(self, repository: Repository, *, pages: int) -> None:
        calls = pages + (repository.installation != self._last)
        self._rests_until += calls * EVERY_SECONDS
        self._last = repository.installation
