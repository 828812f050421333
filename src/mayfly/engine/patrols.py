"""The patrol: repositories that had no job for long are looked at in turn, a few calls an hour."""

from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from mayfly.model.jobs import InstallationId
from mayfly.model.repositories import Repository
from mayfly.ports import AccessRules, Clock, GitHub

EVERY = timedelta(seconds=520)
"""For each call, so that all of them together are not more than 7 an hour, however many."""
LIST_EVERY = timedelta(days=1)
PAGE = 100


class Patrol:
    """Which idle repository is next, and when; lists them a day apart, an installation a step."""

    def __init__(self, github: GitHub, access: AccessRules, clock: Clock) -> None:
        self._github = github
        self._access = access
        self._clock = clock
        self._next_at = clock.now() + EVERY  # a restart is no reason to ask
        self._idle: deque[Repository] = deque()
        self._listing: AsyncIterator[Repository] | None = None
        self._found: list[Repository] = []
        self._listed_at: datetime | None = None
        self._last: InstallationId | None = None

    async def next(self) -> Repository | None:
        """The repository to look at now; None: not yet, or a step of listing was made instead.

        Transient or GitHubRefused: the listing begins anew at the next step.
        """
        now = self._clock.now()
        if now < self._next_at:
            return None
        self._next_at = now + EVERY
        if self._listing is not None or self._listed_at is None or self._is_old(now):
            await self._list_some()
            return None
        if not self._idle:
            return None
        self._idle.rotate(-1)
        self._pay(self._idle[-1])
        return self._idle[-1]

    def _is_old(self, now: datetime) -> bool:
        return self._listed_at is not None and now - self._listed_at >= LIST_EVERY

    async def _list_some(self) -> None:
        """One installation's repositories, and the first one of the next."""
        if self._listing is None:
            self._listing, self._found = self._github.repositories(), []
        listing, self._listing = self._listing, None
        known = self._found[-1:]
        async for repository in listing:
            self._found.append(repository)
            self._pay(repository, pages=len(self._found) % PAGE == 0)
            if known and known[-1].installation != repository.installation:
                self._listing = listing
                return
            known = self._found[-1:]
        owners = {rule.owner.lower() for rule in await self._access.rules()}
        self._idle = deque(one for one in self._found if one.owner.lower() in owners)
        self._listed_at = self._clock.now()

    def _pay(self, repository: Repository, *, pages: int = 0) -> None:
        """An installation that was not asked just now takes a call for its token too."""
        self._next_at += (pages + (repository.installation != self._last)) * EVERY
        self._last = repository.installation
