"""Every backend there is, by its entry point, so that a new one meets the same suites."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from mayfly.model.changes import PoolUse
from mayfly.model.deadlines import Deadlines
from mayfly.model.runners import ClaimId
from mayfly.ports import AccessRules, Clock, Ledger, OpenAccessRules, OpenStore
from tests.fakes.clocks import ManualClock, pass_time
from tests.fakes.counters import Counters, recount_of
from tests.servers.cosmos import KEY, Cosmos

STORES = sorted(entry_points(group="mayfly.stores"), key=lambda backend: backend.name)
ACCESS_RULES = [
    *STORES,
    *sorted(entry_points(group="mayfly.access_rules"), key=lambda backend: backend.name),
]
"""Rules live in every store, or apart from it."""
_LOCAL = {"memory": "memory:", "sql": "sqlite:///{folder}/mayfly.db"}


def named(backend: EntryPoint) -> str:
    """The id of a parametrised test."""
    return backend.name


def url_for(backend: EntryPoint, folder: Path) -> str:
    """Where the backend keeps its rows in this test; skips when it needs a server we lack."""
    if backend.name in _LOCAL:
        return _LOCAL[backend.name].format(folder=folder)
    variable = f"MAYFLY_TEST_{backend.name.upper()}_URL"
    if url := os.environ.get(variable):
        return url
    reason = f"the {backend.name} backend needs a server; name it in {variable}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class OpenedStore(NamedTuple):
    """A store and the clock it tells the time by."""

    ledger: Ledger
    access: AccessRules
    clock: ManualClock
    path: Path

    def counters(self) -> tuple[Counters, Counters]:
        """The counters as stored, and as a recount of the rows gives them."""
        return recount_of(self.ledger, self.path)

    async def passes(self, seconds: float) -> float:
        """So much ledger time goes by."""
        return await pass_time(self.ledger, self.clock, seconds)

    async def use(self, pool: str = "linux") -> PoolUse:
        return (await self.ledger.pools()).get(pool, PoolUse(0, 0, 0))

    async def due_looks(self) -> list[str]:
        """Names that are to be looked at now."""
        return [registration.name for registration, _, _ in (await self.ledger.due(100)).looks]

    async def due_checks(self) -> list[int]:
        """Jobs GitHub is to be asked about now."""
        return [job.key.id for job in (await self.ledger.due(100)).checks]

    async def overdue(self) -> list[ClaimId]:
        """Claims that are too long in one state now."""
        return [claim.id for claim, _ in (await self.ledger.due(100)).overdue]


@asynccontextmanager
async def opened_store(
    backend: EntryPoint, folder: Path, deadlines: Deadlines | None = None
) -> AsyncIterator[OpenedStore]:
    """The store of one backend, empty."""
    clock = ManualClock()
    open_store = cast("OpenStore", backend.load().open_store)
    url = url_for(backend, folder)
    async with open_store(url, clock, deadlines or Deadlines()) as (ledger, access):
        yield OpenedStore(ledger, access, clock, folder / "mayfly.db")


@asynccontextmanager
async def opened_cosmos(
    account: Cosmos, clock: Clock, database: str = "GitHubWebHookDB", key: str = KEY
) -> AsyncIterator[AccessRules]:
    """The rules in a database of the account."""
    (backend,) = entry_points(group="mayfly.access_rules", name="cosmos")
    open_access_rules = cast("OpenAccessRules", backend.load().open_access_rules)
    async with open_access_rules(account.url, clock, database=database, key=key) as rules:
        yield rules
