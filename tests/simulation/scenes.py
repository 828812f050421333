"""Scenes: small worlds in which one thing goes wrong, on purpose and at a given moment."""

import asyncio
from collections.abc import Awaitable, Callable

from mayfly.model.pools import Pool
from mayfly.model.runners import Claim
from tests.simulation.jobs import Job, Run, Work
from tests.simulation.plans import Plan, PoolPlan
from tests.simulation.running import run
from tests.simulation.world import World

LINUX = ("self-hosted", "linux")
HELLO = "octo/hello"


class Stage:
    """A world, and short words for what scenes do with it."""

    def __init__(self, world: World) -> None:
        self.world = world

    def push(
        self,
        *seconds: float,
        labels: tuple[str, ...] = LINUX,
        repository: str = HELLO,
        gated: bool = False,
    ) -> Run:
        """A run with a job for each of `seconds`."""
        found = self.world.accounts.find(repository)
        assert found is not None
        pool = "linux" if labels[:2] == LINUX else None
        works = [Work(labels, each, pool) for each in seconds]
        return self.world.jobs.push(found, works, gated=gated)

    async def until(self, reached: Callable[[], bool], *, minutes: float = 60.0) -> None:
        """Looks every second of virtual time."""
        for _ in range(int(60 * minutes)):
            if reached():
                return
            await asyncio.sleep(1.0)
        raise AssertionError(f"not reached within {minutes:.0f} min")

    async def over(self, *jobs: Job, minutes: float = 60.0) -> None:
        await self.until(lambda: all(job.over for job in jobs), minutes=minutes)

    async def stolen(self, seconds: float) -> Job:
        """A stranger's job at work on a runner that was made for one that was cancelled."""
        self.world.runners.paused_until = self.world.clock.seconds() + 3600.0
        cancelled = self.push(60.0)
        await self.until(lambda: bool(self.world.runners.all()))
        await asyncio.sleep(5.0)
        self.world.jobs.cancel(cancelled)
        stranger = self.push(seconds, labels=("self-hosted",)).jobs[0]
        self.world.runners.paused_until = 0.0
        self.world.runners.resume()
        await self.until(lambda: stranger.started_at is not None)
        return stranger

    @property
    def claims(self) -> list[Claim]:
        return list(self.world.database.tables._claims.values())

    @property
    def mints(self) -> int:
        return len(self.world.runners.minted)

    @property
    def surplus_mints(self) -> int:
        worked = self.world.runners.worked
        return sum(name not in worked for name in self.world.runners.minted)

    @property
    def doorbells(self) -> int:
        return sum(self.world.around.rung.values())


def wait_of(job: Job) -> float:
    """From queued to in progress."""
    assert job.started_at is not None
    return job.began - job.queued_at


def only_once(wanted: Callable[..., bool]) -> Callable[..., bool]:
    """For an aim: the first time `wanted` says so, and never again."""
    hit = False

    def when(*subjects: object) -> bool:
        nonlocal hit
        if hit or not wanted(*subjects):
            return False
        hit = True
        return True

    return when


def pool_of(*, most: int, machines: int | None = None, **options: object) -> PoolPlan:
    """The pool `linux` with as many machines as it may have runners."""
    details = {
        name: options.pop(name)
        for name in ("scope", "guard", "variant", "variants")
        if name in options
    }
    pool = Pool(name="linux", max=most, **details)  # type: ignore[arg-type] # checked by msgspec
    return PoolPlan(pool=pool, machines=machines or most, **options)  # type: ignore[arg-type]


def played(scene: Callable[[Stage], Awaitable[None]], pool: PoolPlan, **changes: object) -> Stage:
    """The stage after the scene and the calm that follows; no promise may be broken in it."""
    plan = Plan(seed=1, jobs=0, minutes=0.0, pools=(pool,), work={}, faults={}, **changes)  # type: ignore[arg-type]
    stages: list[Stage] = []

    async def shown(world: World) -> None:
        stages.append(Stage(world))
        await scene(stages[0])

    verdict = run(plan, shown)
    assert not verdict.violations, "\n".join([*verdict.violations, *verdict.lines[-60:]])
    return stages[0]
