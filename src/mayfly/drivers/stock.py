"""Stock: the next job's own copy of an installed release, made before a job waits for it.

At most one copy of a slot exists at a time: this one, or that of the job. Until a job needs it, its
directory belongs to the executor's user and is closed to all others.
"""

import asyncio
from pathlib import Path

from mayfly.drivers import workplaces
from mayfly.drivers.accounts import Account
from mayfly.releases import cache


class Stock:
    """Fresh directories of one slot, with a release of the cache in them."""

    def __init__(self, home: Path, account: Account, releases: Path, release: str) -> None:
        self._home = home
        self._account = account
        self._releases = releases
        self._release = release
        self._own: Path | None = None
        """What is being made, or ready."""
        self._ready = False
        self._version = ""
        self._making: asyncio.Task[None] | None = None

    def refill(self) -> None:
        """Begin to make a copy, unless there is one."""
        if self._making is None and not self._ready:
            self._making = asyncio.create_task(self._made())

    async def place(self) -> Path:
        """A fresh directory that belongs to the job's user, of the release that is wanted now."""
        await self._refilled()
        if self._version != str(cache.chosen(self._releases, self._release)):
            await self._discarded()  # a newer one was installed since
            await self._refilled()
        ready = self._taken()
        assert ready is not None, "a copy that could not be made raised"  # noqa: S101 - see below
        return workplaces.handed_over(ready, self._account)

    def strays(self) -> list[Path]:
        """Copies of a crashed predecessor, and such as could not be finished."""
        return [place for place in workplaces.copies(self._home) if place != self._own]

    async def close(self) -> None:
        """There is no copy left."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)
            self._making = None
        self._taken()
        for place in workplaces.copies(self._home):
            await workplaces.remove(place)

    async def _refilled(self) -> None:
        self.refill()
        making, self._making = self._making, None
        if making is not None:
            await making

    async def _made(self) -> None:
        self._own = workplaces.new_copy(self._home)
        try:
            with cache.held(self._releases, self._release) as directory:
                await workplaces.fill(self._own, directory, self._account)
                self._version = directory.name
        except BaseException:
            self._own = None
            raise
        self._ready = True

    async def _discarded(self) -> None:
        old = self._taken()
        if old is not None:
            await workplaces.remove(old)

    def _taken(self) -> Path | None:
        own, self._own, self._ready = self._own, None, False
        return own
