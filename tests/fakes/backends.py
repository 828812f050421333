"""Every backend there is, by its entry point, so that a new one meets the same suites."""

import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple, cast

from mayfly.backends import OpenAccessRules, OpenStore
from mayfly.model.changes import PoolUse
from mayfly.model.deadlines import Deadlines
from mayfly.model.runners import ClaimId
from mayfly.ports import AccessRules, Clock, Ledger
from tests.fakes.clocks import ManualClock, pass_time
from tests.fakes.counters import Counters, recount_of
from tests.servers import postgres
from tests.servers.cosmos import KEY, Cosmos

OpenPlace = Callable[[Path], AbstractAsyncContextManager[str]]
"""An empty place for one test, as the address of a store in it."""


class Backend(NamedTuple):
    """A kind of place an entry point keeps its rows in."""

    name: str
    point: str
    place: OpenPlace


@asynccontextmanager
async def _nowhere(_: Path) -> AsyncIterator[str]:
    yield "memory:"


@asynccontextmanager
async def _file(folder: Path) -> AsyncIterator[str]:
    """A copy of a file that was migrated once: what tests of migrations pay is not paid by all."""
    if not _MIGRATED:
        made = Path(tempfile.mkdtemp(prefix="mayfly-migrated-"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        open_store = cast("OpenStore", _POINTS["sql"].load().open_store)
        async with open_store(f"sqlite:///{made}/mayfly.db", ManualClock(), Deadlines()):
            pass
        _MIGRATED.append(made / "mayfly.db")
    file = folder / "mayfly.db"
    if not file.exists():
        shutil.copy(_MIGRATED[0], file)
    yield f"sqlite:///{file}"


@asynccontextmanager
async def lent_postgres(_: Path) -> AsyncIterator[str]:
    """A database with the newest schema that other tests have before and afterwards."""
    async with postgres.shared().lent() as url:
        yield url


@asynccontextmanager
async def on_postgres(_: Path) -> AsyncIterator[str]:
    """A database of its own with the newest schema, on this test process's own server."""
    server = postgres.shared()
    url = await server.fresh()
    try:
        yield url
    finally:
        await server.drop(url)


STORES = [
    Backend("memory", "memory", _nowhere),
    Backend("sqlite", "sql", _file),
    Backend("postgres", "sql", lent_postgres),
]
"""tests/contract/test_backends.py sees to it that no entry point is missing."""
_MIGRATED: list[Path] = []
_POINTS = entry_points(group="mayfly.stores")


def named(backend: Backend) -> str:
    """The id of a parametrised test."""
    return backend.name


class OpenedStore(NamedTuple):
    """A store and the clock it tells the time by."""

    ledger: Ledger
    access: AccessRules
    clock: ManualClock
    url: str

    def counters(self) -> tuple[Counters, Counters]:
        """The counters as stored, and as a recount of the rows gives them."""
        return recount_of(self.ledger, self.url)

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
    backend: Backend, folder: Path, deadlines: Deadlines | None = None
) -> AsyncIterator[OpenedStore]:
    """The store of one backend, empty."""
    clock = ManualClock()
    open_store = cast("OpenStore", _POINTS[backend.point].load().open_store)
    async with (
        backend.place(folder) as url,
        open_store(url, clock, deadlines or Deadlines()) as (ledger, access),
    ):
        yield OpenedStore(ledger, access, clock, url)


@asynccontextmanager
async def opened_cosmos(
    account: Cosmos, clock: Clock, database: str = "GitHubWebHookDB", key: str = KEY
) -> AsyncIterator[AccessRules]:
    """The rules in a database of the account."""
    (backend,) = entry_points(group="mayfly.access_rules", name="cosmos")
    open_access_rules = cast("OpenAccessRules", backend.load().open_access_rules)
    async with open_access_rules(account.url, clock, database=database, key=key) as rules:
        yield rules
