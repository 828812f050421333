"""A control plane that pulls, on virtual time: the real adapter, asking a simulator in-process."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

import async_solipsism  # type: ignore[import-untyped] # it has no types
import httpx

from mayfly.bus.memory import MemoryBus
from mayfly.cli.wiring import connected
from mayfly.engine.news import News
from mayfly.github.app import Settings as GitHubSettings
from mayfly.github.app import open_github
from mayfly.github.secrets import Secret
from mayfly.model.access import AccessRule
from mayfly.model.deadlines import Deadlines
from mayfly.model.pools import Convention, Pool
from mayfly.ports import Bus, Launcher
from mayfly.simulator import Account, Settings, Simulator, generate_app_key
from mayfly.simulator.server import application
from mayfly.simulator.world import World
from mayfly.store.ledger import TransactionalLedger
from mayfly.store.memory import MemoryAccessRules, MemoryTransactions
from mayfly.telemetry import Telemetry
from tests.simulation.clocks import SimulatedClock

PRIVATE, PUBLIC = generate_app_key()
POOL = "linux"
HOUR = 3600.0
_URL = "http://github.invalid"


class Counting(httpx.AsyncBaseTransport):
    """Passes requests on to an application, and counts them by the hour."""

    def __init__(self, app: Any) -> None:
        self._inner = httpx.ASGITransport(app)
        self.hours: Counter[int] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.hours[int(asyncio.get_running_loop().time() // HOUR)] += 1
        return await self._inner.handle_async_request(request)


class Pulling(NamedTuple):
    """What a test looks at."""

    simulator: Simulator
    calls: Counting
    bus: Bus


@asynccontextmanager
async def pulling(
    accounts: Iterable[Account], platform: Launcher | None = None
) -> AsyncIterator[Pulling]:
    """A control plane with `intake = "pull"` that serves everybody, its reconciler at work.

    With a platform executors are started on it, and none is parked.
    """
    clock = SimulatedClock(count())
    settings = Settings(app_public_key=PUBLIC, accounts=tuple(accounts))
    simulator = Simulator(_URL, settings, World(settings, _URL, clock.now))
    calls = Counting(application(simulator))
    app = GitHubSettings(app_id=str(settings.app_id), private_key=Secret(PRIVATE), api_url=_URL)
    ledger = TransactionalLedger(MemoryTransactions(), clock, Deadlines())
    access, bus = MemoryAccessRules(), MemoryBus(clock)
    for account in settings.accounts:
        await access.grant(AccessRule(owner=account.login, label=POOL))
    async with AsyncExitStack() as stack:
        stages = connected(
            pools=(Pool(name=POOL, max=100, launcher="cloud" if platform else None),),
            convention=Convention.SEQUENCE,
            ledger=ledger,
            access=access,
            bus=bus,
            github=await stack.enter_async_context(open_github(app, clock, calls)),
            clock=clock,
            deadlines=Deadlines(),
            prefix="mayfly",
            telemetry=Telemetry([POOL]),
            news=News(clock),
            pull=True,
            launchers={POOL: platform} if platform else {},
        )
        await stack.enter_async_context(stages.doorbells.open())
        await stack.enter_async_context(stages.scaler.open())
        await stack.enter_async_context(stages.reconciler.open())
        yield Pulling(simulator, calls, bus)


def on_virtual_time(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Waiting takes no time; what is asked of GitHub is asked all the same."""
    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(scene())
