"""Runners: registrations at GitHub, and which of them gets which job."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import count
from random import Random

from mayfly.model.jobs import InstallationId
from mayfly.model.releases import Version
from mayfly.model.runners import GitHubRunner, Minted
from tests.simulation.faults import Faults
from tests.simulation.jobs import IN_PROGRESS, QUEUED, Job, Jobs
from tests.simulation.journal import Journal

VERSION = Version(2, 330, 0)
UNUSED_SECONDS = 24 * 3600.0
"""After so long GitHub removes a runner nobody used."""
MISSED_SECONDS = 600.0
"""After so long without its runner GitHub fails a job."""


class Runner:
    """One registration; its JIT config works once."""

    __slots__ = (
        "config", "connected", "deaf", "gone", "id", "installation", "job", "labels", "name",
        "online", "reaper", "scope", "taken", "used",
    )  # fmt: skip

    def __init__(
        self,
        runner_id: int,
        name: str,
        scope: str,
        labels: Iterable[str],
        installation: InstallationId,
    ) -> None:
        self.id = runner_id
        self.name = name
        self.scope = scope.lower()
        self.labels = frozenset(label.lower() for label in labels)
        self.installation = installation
        self.config = f"config-{runner_id}"
        self.used = False
        self.online = False
        self.deaf = False
        self.gone = False
        self.job: Job | None = None
        self.taken = asyncio.Event()
        """Set when it has a job, or is registered no more."""
        self.reaper: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        return self.online and self.job is None and not self.deaf

    def fits(self, job: Job) -> bool:
        """GitHub compares scope and labels, and nothing else."""
        return self.scope in job.repository.scopes and job.work.wanted <= self.labels


class Runners:
    """Every registration, and the matching of idle runners with queued jobs."""

    def __init__(self, jobs: Jobs, faults: Faults, journal: Journal, dice: Random) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs = jobs
        self._faults = faults
        self._journal = journal
        self._dice = dice
        self._ids = count(1)
        self.registered: dict[int, Runner] = {}
        self.by_name: dict[str, Runner] = {}
        self.by_config: dict[str, Runner] = {}
        self.minted: list[str] = []
        """Names, one for each config."""
        self.connected: list[str] = []
        """Names, one for each config that was used."""
        self.worked: dict[str, None] = {}
        """Names of runners that had a job."""
        self.paused_until = 0.0
        """GitHub assigns nothing before."""
        self.on_registered: Callable[[str], object] = lambda name: None
        self.on_connected: Callable[[frozenset[str]], object] = lambda labels: None
        jobs.on_queued = self._assign_soon

    def register(
        self, scope: str, name: str, labels: Iterable[str], installation: InstallationId
    ) -> Minted | None:
        """None when the name is taken."""
        if name in self.by_name:
            return None
        runner = Runner(next(self._ids), name, scope, labels, installation)
        self.registered[runner.id] = runner
        self.by_name[name] = runner
        self.by_config[runner.config] = runner
        self.minted.append(name)
        runner.reaper = self._loop.call_later(UNUSED_SECONDS, self._remove, runner)
        self._journal.say("runner.registered", name)
        self.on_registered(name)
        return Minted(runner.id, runner.config)

    def all(self) -> list[Runner]:
        return list(self.registered.values())

    def listed(self, name: str) -> GitHubRunner | None:
        runner = self.by_name.get(name)
        return _shown(runner) if runner else None

    def at(self, scope: str) -> list[GitHubRunner]:
        wanted = scope.lower()
        return [_shown(each) for each in self.registered.values() if each.scope == wanted]

    def delete(self, runner_id: int) -> bool | None:
        """Whether it was idle and is gone now; None when there is none."""
        runner = self.registered.get(runner_id)
        if runner is None:
            return None
        if runner.job is not None:
            return False
        self._journal.say("runner.deleted", runner.name)
        self._remove(runner)
        return True

    def connect(self, config: str) -> Runner | None:
        """The runner program starts; None when its config was used or is no more."""
        runner = self.by_config.get(config)
        if runner is None or runner.used or runner.gone:
            return None
        runner.used = runner.online = True
        runner.deaf = self._faults.strikes("runner never takes a job", runner.name)
        self.connected.append(runner.name)
        self._journal.say("runner.online", runner.name)
        self.on_connected(runner.labels)
        self._loop.call_later(self._dice.uniform(0.2, 2.0), self._find_job, runner)
        return runner

    def disconnect(self, runner: Runner) -> None:
        """Its program is gone; a job it had is missed after a while."""
        if not runner.online:
            return
        runner.online = False
        if runner.job is not None and not runner.job.over:
            self._journal.say("runner.vanished", runner.name)
            self._loop.call_later(MISSED_SECONDS, self._jobs.end, runner.job, "failure")

    def resume(self) -> None:
        """GitHub assigns again."""
        self.paused_until = 0.0
        for job in list(self._jobs.queued):
            self._find_runner(job)

    def _assign_soon(self, job: Job) -> None:
        self._loop.call_later(self._dice.uniform(0.2, 2.0), self._find_runner, job)

    def _find_runner(self, job: Job) -> None:
        fitting = [each for each in self.registered.values() if each.idle and each.fits(job)]
        if fitting:
            self._assign(job, self._dice.choice(fitting))

    def _find_job(self, runner: Runner) -> None:
        if runner.idle and not runner.gone:
            fitting = [job for job in self._jobs.queued if runner.fits(job)]
            if fitting:
                self._assign(self._dice.choice(fitting), runner)

    def _assign(self, job: Job, runner: Runner) -> None:
        if job.state is not QUEUED or self._loop.time() < self.paused_until:
            return
        if job.work.wanted != runner.labels:
            self._faults.struck["runner taken by other labels' job"] += 1
        runner.job = job
        runner.taken.set()
        self.worked[runner.name] = None
        job.on_end = lambda: self._remove(runner)
        self._jobs.begin(job, runner.name)

    def _remove(self, runner: Runner) -> None:
        if runner.gone or (runner.job is not None and runner.job.state is IN_PROGRESS):
            return
        runner.gone = True
        runner.taken.set()
        del self.registered[runner.id], self.by_name[runner.name], self.by_config[runner.config]
        if runner.reaper is not None:
            runner.reaper.cancel()


def _shown(runner: Runner) -> GitHubRunner:
    status = "online" if runner.online else "offline"
    version = VERSION if runner.used else None
    labels = tuple(sorted(runner.labels))
    return GitHubRunner(runner.id, runner.name, status, runner.job is not None, labels, version)
