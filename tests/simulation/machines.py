"""Machines: hosts that start the real executor again whenever it has ended, or never again."""

import asyncio
from pathlib import Path
from random import Random

from mayfly.executor.claims import StartedQuestion
from mayfly.executor.loop import Rounds
from mayfly.executor.patience import Timing
from mayfly.executor.settings import Settings, Token
from mayfly.executor.shutdown import Shutdown
from mayfly.model.errors import MayflyError
from tests.simulation.api import GitHubWorld
from tests.simulation.drivers import Workbench
from tests.simulation.journal import Journal
from tests.simulation.planes import Planes
from tests.simulation.processes import Process
from tests.simulation.roads import Road
from tests.simulation.verdicts import Verdicts

TIMING = Timing(lease_wait=120.0)
"""Fewer, longer waits for a doorbell than over HTTP: the same to the engine, and quicker here."""
CUT_OFF_SECONDS = (60.0, 600.0)
LOOK_EVERY_SECONDS = 300.0


class Machine:
    """One place of a pool."""

    def __init__(
        self,
        name: str,
        pool: str,
        *,
        planes: Planes,
        github: GitHubWorld,
        verdicts: Verdicts,
        journal: Journal,
        prepare_seconds: float,
        broken: bool = False,
        dead: bool = False,
        lasting: bool = False,
        variants: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.broken = broken
        self._dead = dead
        self.gone = False
        """It does not come back any more."""
        self.pool = pool
        self._planes = planes
        self._github = github
        self._verdicts = verdicts
        self._journal = journal
        self._prepare_seconds = prepare_seconds
        self._lasting = lasting
        self._variants = variants
        self._dice = Random(f"{github.faults.seed}:{name}")
        self._boots = 0
        self._road: Road | None = None
        self._host = Process(planes.stumbled)
        self.process = self._host
        self.workbench: Workbench | None = None

    async def live(self) -> None:
        """Boot, work, die, and boot again."""
        await asyncio.sleep(self._dice.uniform(0.0, 20.0))
        faults = self._github.faults
        self._host.spawn(self._lose_the_network())
        while not self.gone:
            self.process = Process()
            main = self.process.spawn(self._executor(self.process))
            await asyncio.wait([main])
            if self.workbench is not None:
                self.workbench.power_off()
            self._journal.say("executor.died", self.name)
            if not main.cancelled() and (error := main.exception()) is not None:
                self._planes.stumbled(error)
            if not self._lasting and faults.strikes("machine never returned", self.name):
                self.gone = True
            await asyncio.sleep(self._dice.uniform(5.0, 60.0))

    def serves(self, labels: tuple[str, ...]) -> bool:
        """Whether it has the variant that these labels name."""
        return not self._variants or len(labels) < 3 or labels[2] in self._variants

    def never_return(self) -> None:
        """The power goes and stays away."""
        self.gone = True
        self.process.kill()

    async def _executor(self, process: Process) -> None:
        self._boots += 1
        boot = f"boot-{self.name}-{self._boots}"
        faults = self._github.faults
        road = Road(self._planes, process, faults, self._dice, boot)
        started = StartedQuestion(road, TIMING)
        self._road = road
        self.workbench = Workbench(
            self._github,
            process,
            started,
            self._verdicts,
            self._dice,
            prepare_seconds=self._prepare_seconds,
            broken=self.broken,
            dead=self._dead,
        )
        await self.workbench.cleanup()
        rounds = Rounds(
            self._settings(),
            self.name,
            road,
            self.workbench,
            started,
            Shutdown(),
            TIMING,
        )
        try:
            await rounds.run()
        except MayflyError as refused:
            self._journal.say("executor.refused", self.name, refused)

    def _settings(self) -> Settings:
        return Settings(
            server="https://mayfly.example.org",
            pool=self.pool,
            token=Token("a-token"),
            state_dir=Path("/nowhere"),
            variants=self._variants,
        )

    async def _lose_the_network(self) -> None:
        faults = self._github.faults
        while not faults.over:
            await asyncio.sleep(self._dice.uniform(0.5, 1.5) * LOOK_EVERY_SECONDS)
            if self._road is not None and faults.strikes("machine cut off", self.name):
                now = asyncio.get_running_loop().time()
                self._road.cut_off_until = now + self._dice.uniform(*CUT_OFF_SECONDS)
