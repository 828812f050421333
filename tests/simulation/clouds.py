"""A cloud: a platform that starts the real executor, late, twice asked, or not at all."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

from mayfly.executor.attendance import Attendance
from mayfly.executor.claims import StartedQuestion
from mayfly.executor.loop import Rounds
from mayfly.executor.patience import Timing, answered
from mayfly.executor.settings import Settings, Token
from mayfly.executor.shutdown import Shutdown, cancelled
from mayfly.model.errors import MayflyError, Transient
from mayfly.model.launches import Launch, Launched, LaunchId, LaunchState, Ticket
from tests.simulation.api import GitHubWorld
from tests.simulation.drivers import Workbench
from tests.simulation.journal import Journal
from tests.simulation.planes import Planes
from tests.simulation.processes import Process
from tests.simulation.roads import Road
from tests.simulation.verdicts import Verdicts

TIMING = Timing(lease_wait=120.0)
START_SECONDS = (20.0, 60.0)
ASK_SECONDS = (0.1, 0.5)


class Instance:
    """What the cloud has of one launch."""

    def __init__(self, launch: Launch, ticket: str) -> None:
        self.launch = launch
        self.ticket = ticket
        self.state = LaunchState.STARTING
        self.process = Process()

    @property
    def living(self) -> bool:
        """Whether it costs."""
        return self.state in {LaunchState.STARTING, LaunchState.RUNNING}


class Cloud:
    """Lives on, whatever happens to those who ask it."""

    def __init__(
        self, planes: Planes, github: GitHubWorld, verdicts: Verdicts, journal: Journal
    ) -> None:
        self._planes = planes
        self._github = github
        self._verdicts = verdicts
        self._journal = journal
        self._dice = Random(f"{github.faults.seed}:cloud")
        self._host = Process(planes.stumbled)
        self.instances: dict[LaunchId, Instance] = {}
        self.starts = 0
        """Executors that were really begun."""
        self.asked = 0
        self.away: set[str] = set()
        """Pools for which nothing answers."""
        self.bells: defaultdict[str, list[asyncio.Event]] = defaultdict(list)
        """Of whoever listens to a pool."""

    @property
    def living(self) -> list[Instance]:
        return [each for each in self.instances.values() if each.living]

    def begin(self, launch: Launch, ticket: Ticket) -> None:
        """Idempotent, as the port asks."""
        if launch.id in self.instances:
            return
        self.starts += 1
        self._journal.say("cloud.started", launch.id)
        instance = self.instances[launch.id] = Instance(launch, ticket.reveal())
        self._host.spawn(self._lived(instance))

    def end(self, instance: Instance) -> None:
        self._journal.say("cloud.stopped", instance.launch.id)
        instance.process.kill()

    async def _lived(self, instance: Instance) -> None:
        faults = self._github.faults
        main = instance.process.spawn(self._executor(instance))
        await asyncio.wait([main])
        well = not main.cancelled() and main.exception() is None
        instance.state = LaunchState.ENDED if well else LaunchState.FAILED
        error = None if main.cancelled() else main.exception()
        if error is not None and not isinstance(error, MayflyError):
            self._planes.stumbled(error)
        faults.struck["executor launched"] += 1
        for bell in self.bells[instance.launch.pool]:
            if not faults.strikes("ring lost", instance.launch.id):
                bell.set()

    async def _executor(self, instance: Instance) -> None:
        faults, id_, pool = self._github.faults, instance.launch.id, instance.launch.pool
        await asyncio.sleep(self._dice.uniform(*START_SECONDS))
        if faults.strikes("start failed", id_):
            raise Transient("there is no image")
        instance.state = LaunchState.RUNNING
        if faults.strikes("start stuck", id_):
            await asyncio.Event().wait()
        boot = f"boot-{id_}"
        road = Road(self._planes, instance.process, faults, self._dice, boot)
        redeemed = await answered(
            lambda: road.redeem(instance.ticket, pool, boot), "ticket", TIMING
        )
        shutdown = Shutdown()
        client: Any = road  # speaks as a Client does
        started = StartedQuestion(client, TIMING)
        workbench = Workbench(
            self._github,
            instance.process,
            started,
            self._verdicts,
            self._dice,
            prepare_seconds=2.0,
            broken=False,
            dead=False,
        )
        pool = instance.launch.pool
        attendance = Attendance(client, pool, redeemed.machine, boot, shutdown, TIMING)
        keeping = instance.process.spawn(attendance.keep())
        settings = Settings(
            server="https://mayfly.example.org",
            pool=pool,
            token=Token("a-token"),
            state_dir=Path("/nowhere"),
            once=True,
        )
        try:
            await Rounds(
                settings, redeemed.machine, client, workbench, started, shutdown, TIMING
            ).run()
        finally:
            workbench.power_off()
            await cancelled(keeping)
        await attendance.leave()


class CloudConnection:
    """ports.Launcher for one control plane; a kill falls before an effect or after it."""

    def __init__(self, cloud: Cloud, pool: str, process: Process, github: GitHubWorld) -> None:
        self._cloud = cloud
        self._pool = pool
        self._process = process
        self._faults = github.faults
        self._dice = github.faults.dice("cloud")

    async def start(self, launch: Launch, ticket: Ticket) -> None:
        await self._arrive()
        self._die_perhaps("plane killed before a start", launch.id)
        if self._faults.strikes("start refused", launch.id):
            raise Transient("there is no room left")
        self._cloud.begin(launch, ticket)
        self._die_perhaps("plane killed after a start", launch.id)
        if self._faults.strikes("start unanswered", launch.id):
            raise Transient("the answer got lost")

    async def launched(self, pool: str) -> list[Launched]:
        await self._arrive()
        every = sorted(self._cloud.instances.items())
        return [Launched(id_, one.state, "") for id_, one in every if one.launch.pool == pool]

    async def stop(self, pool: str, launch: LaunchId) -> None:
        await self._arrive()
        instance = self._cloud.instances.get(launch)
        if instance is not None and instance.launch.pool == pool and instance.living:
            self._cloud.end(instance)

    async def _arrive(self) -> None:
        self._process.check()
        self._cloud.asked += 1
        await asyncio.sleep(self._dice.uniform(*ASK_SECONDS))
        if self._pool in self._cloud.away:
            await asyncio.sleep(3600.0)
        self._process.check()

    def _die_perhaps(self, fault: str, launch: LaunchId) -> None:
        if self._faults.strikes(fault, launch):
            self._process.kill()
            self._process.check()


class RingingConnection(CloudConnection):
    """ports.WatchedLauncher: it rings for what has ended, and rings get lost."""

    async def changes(self, pool: str) -> AsyncIterator[None]:
        self._process.check()
        bell, bells = asyncio.Event(), self._cloud.bells[pool]
        bells.append(bell)
        try:
            yield
            while True:
                await bell.wait()
                bell.clear()
                self._process.check()
                yield
        finally:
            bells.remove(bell)
