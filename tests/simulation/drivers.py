"""The driver of a simulated machine: prepares, runs one runner program, asks the guard."""

import asyncio
from contextlib import suppress
from random import Random

from mayfly.executor.claims import StartedQuestion
from mayfly.model.errors import MayflyError, Permanent
from mayfly.model.protocol import Finished, Granted, Outcome
from tests.simulation.api import GitHubWorld
from tests.simulation.jobs import Job
from tests.simulation.processes import Process
from tests.simulation.runners import Runner
from tests.simulation.verdicts import Verdicts

GUARD_SECONDS = 120.0
SLOW_SECONDS = (240.0, 780.0)
"""Below the executor's own patience of 15 min."""
BOOTS_EVERY = 3
"""A broken board boots now and then, so that only blame keeps jobs from it; a dead one never."""
CANCEL_SECONDS = 2.0
"""A runner needs so long to stop a job and to exit."""


class Workbench:
    """ports.Driver: one claim at a time; whatever it runs ends with its process."""

    def __init__(
        self,
        github: GitHubWorld,
        process: Process,
        started: StartedQuestion,
        verdicts: Verdicts,
        dice: Random,
        *,
        prepare_seconds: float,
        broken: bool,
        dead: bool,
    ) -> None:
        self._github = github
        self._process = process
        self._started = started
        self._verdicts = verdicts
        self._dice = dice
        self._prepare_seconds = prepare_seconds
        self._broken = broken
        self._dead = dead
        self._guarded = False
        self.runner: Runner | None = None
        """The runner program that runs now."""
        self.prepared = 0

    async def prepare(self, claim: Granted) -> None:
        self._crash_perhaps("before")
        self.prepared += 1
        seconds = self._prepare_seconds * self._dice.uniform(0.5, 1.5)
        if self._github.faults.strikes("prepare slow"):
            seconds = self._dice.uniform(*SLOW_SECONDS)
        await self._work(seconds)
        if self._dead or (self._broken and self.prepared % BOOTS_EVERY):
            raise Permanent("the board does not boot")
        self._guarded = claim.guard
        self._crash_perhaps("after")

    async def run(self, name: str, jit_config: str) -> Finished:
        self._crash_perhaps("before")
        await self._work(self._dice.uniform(1.0, 4.0))
        if self._broken:
            return Finished(Outcome.FAILED, 1, "run.sh is missing")
        runner = self._github.runners.connect(jit_config)
        if runner is None:
            return Finished(Outcome.FAILED, 1, "run.sh ended before a job began")
        self.runner = runner
        try:
            await runner.taken.wait()
            if runner.job is None:  # deleted at GitHub
                await asyncio.sleep(self._dice.uniform(1.0, 30.0))
                return Finished(Outcome.FAILED, 1, "run.sh ended before a job began")
            return await self._run_job(runner, runner.job)
        finally:
            self.power_off()

    async def cleanup(self) -> None:
        self._process.check()
        await asyncio.sleep(0.5)

    def power_off(self) -> None:
        """Whatever runs is gone, as after a kill or a power cut."""
        if self.runner is not None:
            self._github.runners.disconnect(self.runner)
            self.runner = None

    async def _run_job(self, runner: Runner, job: Job) -> Finished:
        over = asyncio.Event()
        removed = job.on_end

        def ended() -> None:
            removed()
            over.set()

        job.on_end = ended
        if self._guarded and not await self._allowed(job):
            self._process.check()
            self._github.jobs.end(job, "failure")
            return Finished(Outcome.DONE, 1, "a job was refused")
        if not job.over:
            self._verdicts.first_step(job, runner.name, guarded=self._guarded)
            with suppress(TimeoutError):
                async with asyncio.timeout(job.work.seconds):
                    await self._until(over)
        self._process.check()
        self._github.jobs.end(job, "success")
        await asyncio.sleep(CANCEL_SECONDS)
        return Finished(Outcome.DONE, 0, f"ran a job of {job.repository.full_name}")

    async def _until(self, over: asyncio.Event) -> None:
        if self._github.faults.strikes("executor killed between steps"):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._dice.uniform(0.0, 60.0)):
                    await over.wait()
                    return
            self._process.kill()
        await over.wait()

    async def _allowed(self, job: Job) -> bool:
        """No answer means no."""
        self._verdicts.asked(job)
        try:
            async with asyncio.timeout(GUARD_SECONDS):
                answer = await self._started(
                    repository=job.repository.full_name,
                    run_id=job.run.id,
                    run_attempt=job.attempt,
                )
        except (MayflyError, TimeoutError) as error:
            self._verdicts.denied(job, str(error) or "no answer in time")
            return False
        if not answer.allowed:
            self._verdicts.denied(job, answer.reason)
        return answer.allowed

    async def _work(self, seconds: float) -> None:
        """Takes a while, in which the executor may be killed."""
        if self._github.faults.strikes("executor killed between steps"):
            await asyncio.sleep(self._dice.uniform(0.0, seconds))
            self._process.kill()
        await asyncio.sleep(seconds)
        self._process.check()

    def _crash_perhaps(self, when: str) -> None:
        if self._github.faults.strikes(f"executor crashed {when} a step"):
            self._process.kill()
        self._process.check()
