"""Users: who pushes, approves, cancels and repeats workflow runs."""

import asyncio
from random import Random

from mayfly.model.pools import VariantRule
from tests.simulation.accounts import Repository
from tests.simulation.api import GitHubWorld
from tests.simulation.jobs import Run, Work
from tests.simulation.plans import Plan, PoolPlan
from tests.simulation.processes import Process
from tests.simulation.verdicts import pool_named

OVERHEAD_SECONDS = 12.0
"""What a runner costs beside its job."""
LOAD = 0.3
"""So much of what the pools can do is asked of them."""


class Users:
    """All they do is decided by the seed."""

    def __init__(self, plan: Plan, github: GitHubWorld, people: Process) -> None:
        self._plan = plan
        self._github = github
        self._people = people
        self._dice = Random(f"{plan.seed}:users")
        self._pools = tuple(each.pool for each in plan.pools)
        self._left = plan.jobs

    async def push_all(self) -> None:
        """One run after the other, until all jobs of the plan are pushed."""
        for at in self._times():
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, at - now))
            if self._left <= 0:
                return
            self._push()

    def _times(self) -> list[float]:
        """Spread over the time of work, and some together in bursts."""
        end = 60.0 * self._plan.minutes
        bursts = [self._dice.uniform(0.0, end) for _ in range(self._plan.bursts)]
        times = []
        for _ in range(self._plan.jobs):
            if bursts and self._dice.random() < 0.4:
                times.append(self._dice.choice(bursts) + self._dice.uniform(0.0, 5.0))
            else:
                times.append(self._dice.uniform(0.0, end))
        return sorted(times)

    def _push(self) -> None:
        each = self._dice.choices(self._plan.pools, [p.pool.max for p in self._plan.pools])[0]
        count = min(self._left, self._dice.choice((1, 1, 1, 2, 3, 4)))
        self._left -= count
        repository = self._repository(each)
        gated = self._happens("run behind a gate")
        works = [self._work(each) for _ in range(count)]
        run = self._github.jobs.push(repository, works, gated=gated)
        if gated:
            self._people.spawn(self._approve(run))
        if self._happens("run cancelled"):
            self._people.spawn(self._cancel(run))
        if self._happens("run repeated"):
            self._people.spawn(self._repeat(run))

    def _repository(self, each: PoolPlan) -> Repository:
        accounts = self._github.accounts
        strangers = accounts.strangers_to(each.pool.name)
        if strangers and self._happens("job of a stranger"):
            return self._dice.choice(strangers)
        return self._dice.choice(accounts.users_of(each.pool.name) or accounts.repositories)

    def _work(self, each: PoolPlan) -> Work:
        labels: tuple[str, ...] = ("self-hosted", each.pool.name)
        if self._happens("job with bare labels"):
            labels = ("self-hosted",)
        elif self._happens("job for an unknown pool"):
            labels = ("self-hosted", "mainframe")
        elif each.pool.variant is VariantRule.REQUIRED or (
            each.pool.variant is VariantRule.OPTIONAL and self._dice.random() < 0.5
        ):
            labels = (*labels, self._dice.choice(each.pool.variants))
        return Work(labels, self._seconds(), pool_named(labels, self._pools))

    def _seconds(self) -> float:
        """So long that the machines have enough to do; a few jobs take much longer."""
        machines = sum(min(each.machines, each.pool.max) for each in self._plan.pools)
        share = LOAD * self._plan.minutes * 60.0 * machines / max(1, self._plan.jobs)
        mean = min(240.0, max(5.0, share - OVERHEAD_SECONDS))
        return min(6 * mean, self._dice.expovariate(1 / mean)) + 2.0

    def _happens(self, what: str) -> bool:
        return self._dice.random() < self._plan.work.get(what, 0.0)

    async def _approve(self, run: Run) -> None:
        await asyncio.sleep(self._dice.choice((0.0, 0.5, 20.0, 300.0)))
        self._github.jobs.approve(run)

    async def _cancel(self, run: Run) -> None:
        await asyncio.sleep(self._dice.expovariate(1 / 40.0))
        self._end(run)

    async def _repeat(self, run: Run) -> None:
        """Now and again until it is over and can be repeated, or nobody wants it any more."""
        if self._dice.random() < 0.5:
            await asyncio.sleep(self._dice.uniform(1.0, 240.0))
            self._end(run)
        for _ in range(30):
            await asyncio.sleep(self._dice.uniform(1.0, 90.0))
            if self._github.jobs.repeat(run):
                self._github.faults.struck["run repeated"] += 1
                return

    def _end(self, run: Run) -> None:
        for job in run.jobs:
            if not job.over:
                self._github.faults.struck[f"job cancelled while {job.state.word}"] += 1
        self._github.jobs.cancel(run)
