"""Control planes: the real stages over the model's ports, killed and started again."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from mayfly.cli.wiring import Stages, connected
from mayfly.engine.news import News
from mayfly.engine.tickets import Tickets
from mayfly.model.deadlines import Deadlines
from mayfly.model.errors import MayflyError, Transient
from mayfly.model.jobs import WorkflowJobEvent
from mayfly.model.pools import Convention, Pool
from mayfly.model.protocol import Registered
from mayfly.model.runners import ClaimId
from mayfly.ports import Bus, Launcher
from mayfly.store.ledger import TransactionalLedger
from mayfly.telemetry import Telemetry
from tests.simulation.api import Api, GitHubWorld
from tests.simulation.buses import BadBus
from tests.simulation.journal import Journal
from tests.simulation.processes import Process
from tests.simulation.stores import AccessConnection, Connection, Database

T = TypeVar("T")

PREFIX = "mayfly"
ANSWER_SECONDS = 10.0
"""GitHub waits so long for an answer to a delivery."""
KILLED_EVERY_SECONDS = 900.0
SHORT_OUTAGE, LONG_OUTAGE = (2.0, 60.0), (600.0, 2400.0)


class Surroundings:
    """What all control planes of a world share."""

    def __init__(
        self,
        *,
        pools: tuple[Pool, ...],
        database: Database,
        bus: Bus,
        github: GitHubWorld,
        journal: Journal,
        telemetry: Telemetry,
        pull: bool,
    ) -> None:
        self.pools = pools
        self.database = database
        self.bus = bus
        self.github = github
        self.journal = journal
        self.telemetry = telemetry
        self.pull = pull
        self.deadlines = Deadlines()
        self.rung: Counter[str] = Counter()
        self.handed_out: Counter[str] = Counter()
        """Registrations answered to executors, by runner name."""
        self.connect: Callable[[str, Process], Launcher] | None = None
        """A way to the cloud for a pool and a control plane's process."""
        self.troubles: list[str] = []
        """What must not happen, as it happened."""


class Plane:
    """One run of a control plane."""

    def __init__(self, number: int, skew: float, around: Surroundings) -> None:
        self.process = Process()
        self.clock = around.github.clock.skewed(skew)
        self._number = number
        self._around = around
        faults = around.github.faults
        self.bus = BadBus(around.bus, self.process, faults, around.rung)
        self.access = AccessConnection(around.database, self.process)
        self.ledger = TransactionalLedger(
            Connection(around.database, self.process, faults), self.clock, around.deadlines
        )
        news = News(self.clock)
        self.tickets = Tickets(self.ledger.launches, news, around.telemetry)
        self.stages: Stages = connected(
            pools=around.pools,
            convention=Convention.SEQUENCE,
            ledger=self.ledger,
            access=self.access,
            bus=self.bus,
            github=Api(around.github, self.process),
            clock=self.clock,
            deadlines=around.deadlines,
            prefix=PREFIX,
            telemetry=around.telemetry,
            news=news,
            pull=around.pull,
            launchers={
                pool.name: around.connect(pool.name, self.process)
                for pool in around.pools
                if pool.launcher is not None and around.connect is not None
            },
        )

    async def run(self) -> None:
        """Until killed."""
        stages = self.stages
        async with (
            stages.doorbells.open(),
            stages.scaler.open(),
            stages.reconciler.open(),
            stages.reviews.open(),
        ):
            self._around.journal.say("plane.started", self._number)
            await asyncio.Event().wait()

    def serve(self, work: Callable[["Plane"], Awaitable[T]]) -> asyncio.Task[T]:
        """A request, which lives and dies with the control plane and not with its caller."""

        async def served() -> T:
            return await work(self)

        task = self.process.spawn(served())
        task.add_done_callback(self._heard)
        return task

    async def register(self, claim: str, boot: str) -> Registered:
        answer = await self.stages.claims.register(ClaimId(claim), boot)
        self._around.handed_out[answer.name] += 1
        return answer

    async def receive(self, event: WorkflowJobEvent) -> int:
        """The webhook's answer to GitHub."""
        asked = self.serve(lambda plane: plane.stages.intake.submit(event))
        await asyncio.wait([asked], timeout=ANSWER_SECONDS)
        if not asked.done() or asked.cancelled():
            return 0
        return 202 if asked.exception() is None else 503

    def stumbled(self, error: BaseException) -> None:
        """An error that is none of Mayfly's own came out of a stage."""
        self._around.troubles.append(f"a stage raised {type(error).__name__}: {error}")

    def _heard(self, task: asyncio.Task[Any]) -> None:
        """Whoever asked may be gone; what is wrong is wrong all the same."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, MayflyError):
            self.stumbled(error)


class Planes:
    """The hosts the control planes run on; whoever calls reaches any that is up."""

    def __init__(self, skews: tuple[float, ...], around: Surroundings) -> None:
        self._skews = skews
        self._around = around
        self._faults = around.github.faults
        self._dice = Random(f"{self._faults.seed}:planes")
        self._hosts = Process(self.stumbled)
        self.up: dict[int, Plane] = {}
        self.down_until = 0.0
        """No control plane starts before."""

    def reached(self) -> Plane | None:
        """Where a load balancer would send a request now."""
        alive = [plane for plane in self.up.values() if not plane.process.dead]
        return self._dice.choice(alive) if alive else None

    async def receive(self, event: WorkflowJobEvent) -> int:
        plane = None if self._around.pull else self.reached()
        return await plane.receive(event) if plane else 0

    def stumbled(self, error: BaseException) -> None:
        """Something ended in a way that nobody meant."""
        self._around.troubles.append(f"{type(error).__name__} was raised: {error}")

    def kill(self) -> None:
        """All of them, now."""
        for plane in self.up.values():
            plane.process.kill()

    def start(self) -> None:
        for number, skew in enumerate(self._skews):
            self._hosts.spawn(self._host(number, skew))
            if self._faults.planned("plane killed at random"):
                self._hosts.spawn(self._kill_now_and_then(number))

    async def _host(self, number: int, skew: float) -> None:
        while True:
            plane = Plane(number, skew, self._around)
            self.up[number] = plane
            main = plane.process.spawn(plane.run())
            await asyncio.wait([main])
            del self.up[number]
            self._around.journal.say("plane.died", number)
            if not main.cancelled() and main.exception():
                plane.stumbled(main.exception() or Transient("ended"))
            long = self._faults.strikes("plane down for long", number)
            await asyncio.sleep(self._dice.uniform(*(LONG_OUTAGE if long else SHORT_OUTAGE)))
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, self.down_until - now))

    async def _kill_now_and_then(self, number: int) -> None:
        while not self._faults.over:
            await asyncio.sleep(self._dice.expovariate(1 / KILLED_EVERY_SECONDS))
            if number in self.up and self._faults.strikes("plane killed at random", number):
                self.up[number].process.kill()
