"""Several stores at once, given the same verbs at the same times."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from mayfly.model.errors import MayflyError
from mayfly.ports import Ledger
from tests.fakes.backends import STORES, OpenedStore, opened_store
from tests.fakes.clocks import NOON

IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # waiting for a disk proves nothing
EVERY = 1000
"""More rows of a kind than any test makes."""


class Stores:
    """What one answers all have to answer, and what one holds all have to hold."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._loop = asyncio.new_event_loop()
        self._folder = Path(tempfile.mkdtemp(prefix="mayfly-property-", dir=IN_MEMORY))
        self._stack = AsyncExitStack()
        self.opened: list[OpenedStore] = []

    def open(self) -> None:
        """Each of them empty."""
        self._loop.run_until_complete(self._open())

    def close(self) -> None:
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()
        shutil.rmtree(self._folder)

    def advance(self, seconds: float) -> None:
        """So much real time goes by for all of them."""
        for store in self.opened:
            store.clock.advance(seconds)

    def answer(self, act: Callable[[Ledger], Awaitable[Any]]) -> Any:
        """What all of them answer alike; an error of ours is an answer."""
        answers = [self._loop.run_until_complete(_answer(act, store)) for store in self.opened]
        assert all(answer == answers[0] for answer in answers), answers
        return answers[0]

    def ask(self, act: Callable[[Ledger], Awaitable[Any]]) -> Any:
        """What one of them answers, to a question that changes nothing."""
        return self._loop.run_until_complete(act(self.opened[0].ledger))

    def hold_the_same(self) -> bool:
        states = [self._loop.run_until_complete(_everything(one.ledger)) for one in self.opened]
        return all(state == states[0] for state in states)

    async def _open(self) -> None:
        for backend in STORES:
            if backend.name not in self._names:
                continue
            folder = self._folder / backend.name
            folder.mkdir()
            self.opened.append(await self._stack.enter_async_context(opened_store(backend, folder)))


async def _answer(act: Callable[[Ledger], Awaitable[Any]], store: OpenedStore) -> Any:
    try:
        return await act(store.ledger)
    except MayflyError as error:
        return type(error), str(error)


async def _everything(ledger: Ledger) -> list[object]:
    claims = await ledger.claims(EVERY, live=False)
    groups = {claim.group: None for claim in claims}
    return [
        await ledger.jobs(EVERY),
        await ledger.queued(EVERY),
        [await ledger.ahead(job) for job in await ledger.queued(EVERY)],
        await ledger.repositories(NOON),
        await ledger.scopes(NOON),
        await ledger.stalled(EVERY),
        claims,
        await ledger.claims(EVERY, live=True),
        [await ledger.group(group) for group in groups],
        await ledger.unproven(),
        await ledger.due(50),
        dict(await ledger.pools()),
    ]
