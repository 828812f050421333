"""Traces of elastic pools: from zero and back, whatever platforms and control planes do."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mayfly.model.launches import LaunchPhase
from mayfly.model.pools import Pool
from tests.simulation.jobs import Work
from tests.simulation.plans import Plan, PoolPlan
from tests.simulation.running import run
from tests.simulation.scenes import Stage, only_once
from tests.simulation.world import World

ARM = ("self-hosted", "arm64")


def elastic(
    scene: Callable[[Stage], Awaitable[None]],
    *,
    most: int = 4,
    faults: dict[str, float] | None = None,
    skews: tuple[float, ...] = (0.0,),
    deadline: float = 300.0,
    ringing: bool = False,
) -> Stage:
    """The stage after the scene, at whose end nothing runs; no promise may be broken in it."""
    pools = tuple(
        PoolPlan(
            pool=Pool(name=name, max=most, launcher="cloud", start_deadline_seconds=deadline),
            machines=0,
        )
        for name in ("linux", "arm64")
    )
    plan = Plan(
        seed=1,
        jobs=0,
        minutes=0.0,
        pools=pools,
        work={},
        faults=faults or {},
        skews=skews,
        ringing=ringing,
    )
    stages: list[Stage] = []

    async def shown(world: World) -> None:
        stages.append(Stage(world))
        await scene(stages[0])
        await stages[0].until(lambda: not world.cloud.living, minutes=30.0)

    verdict = run(plan, shown)
    assert not verdict.violations, "\n".join([*verdict.violations, *verdict.lines[-60:]])
    (stage,) = stages
    launches = stage.world.database.tables.launches.newest(100_000)
    assert {one.phase for one in launches} <= {LaunchPhase.OVER}
    return stage


@pytest.mark.parametrize("ringing", [False, True])
def test_a_thousand_jobs_from_zero_and_back(ringing: bool):
    async def scene(stage: Stage) -> None:
        jobs = [job for _ in range(4) for job in stage.push(*[90.0] * 250).jobs]
        await stage.over(*jobs, minutes=240.0)
        assert all(job.conclusion == "success" for job in jobs)

    faults = {"start failed": 0.02, "ring lost": 0.2}
    stage = elastic(scene, most=200, faults=faults, ringing=ringing)
    print(f"{stage.world.cloud.asked - stage.world.cloud.starts} calls beside the starts")
    assert (stage.world.faults.struck["ring lost"] > 0) is ringing
    assert stage.world.faults.struck["start failed"] >= 5
    assert stage.world.cloud.starts <= 1.05 * 1000


def test_when_half_is_cancelled_what_was_started_for_it_ends():
    async def scene(stage: Stage) -> None:
        runs = [stage.push(*[90.0] * 50) for _ in range(20)]
        await asyncio.sleep(90.0)
        for cancelled in runs[::2]:
            stage.world.jobs.cancel(cancelled)
        await stage.over(*(job for each in runs for job in each.jobs), minutes=240.0)

    stage = elastic(scene, most=100, faults={"start failed": 0.02})
    began = sum(job.started_at is not None for job in stage.world.jobs.every)
    assert stage.world.cloud.starts <= 1.05 * (began + 100)


def test_a_lost_answer_of_a_start_costs_nothing():
    async def scene(stage: Stage) -> None:
        stage.world.faults.aim("start unanswered", only_once(lambda launch: True))
        await stage.over(*stage.push(30.0, 30.0).jobs)

    world = elastic(scene).world
    assert (world.cloud.starts, world.faults.struck["start unanswered"]) == (2, 1)


def test_a_platform_that_hangs_for_a_minute_holds_up_no_other_pool():
    async def scene(stage: Stage) -> None:
        stage.world.cloud.away.add("linux")
        held_up = stage.push(30.0).jobs
        hello = stage.world.accounts.find("octo/hello")
        assert hello is not None
        other = stage.world.jobs.push(hello, [Work(ARM, 30.0, "arm64")] * 3).jobs
        await stage.over(*other, minutes=6.0)
        assert not held_up[0].over
        stage.world.cloud.away.clear()
        await stage.over(*held_up, minutes=10.0)

    assert elastic(scene).world.cloud.starts == 4


def test_a_leader_that_dies_between_the_row_and_the_start_leaks_nothing():
    async def scene(stage: Stage) -> None:
        stage.world.faults.aim("plane killed before a start", only_once(lambda launch: True))
        await stage.over(*stage.push(30.0).jobs)

    world = elastic(scene).world
    assert (world.cloud.starts, world.faults.struck["plane killed before a start"]) == (1, 1)


def test_a_leader_that_dies_between_the_start_and_its_answer_leaks_nothing():
    async def scene(stage: Stage) -> None:
        stage.world.faults.aim("plane killed after a start", only_once(lambda launch: True))
        await stage.over(*stage.push(30.0).jobs)

    world = elastic(scene).world
    assert (world.cloud.starts, world.faults.struck["plane killed after a start"]) == (1, 1)


def test_an_executor_that_never_speaks_is_stopped_at_its_deadline_and_replaced():
    async def scene(stage: Stage) -> None:
        stage.world.faults.aim("start stuck", only_once(lambda launch: True))
        await stage.over(*stage.push(30.0).jobs, minutes=10.0)

    assert elastic(scene, deadline=120.0).world.cloud.starts == 2


@pytest.mark.parametrize("ringing", [False, True])
def test_two_control_planes_start_no_more_than_one(ringing: bool):
    async def scene(stage: Stage) -> None:
        jobs = []
        for _ in range(20):
            jobs += stage.push(30.0, 30.0).jobs
            await asyncio.sleep(20.0)
        await stage.over(*jobs)

    stage = elastic(scene, skews=(-130.0, 130.0), ringing=ringing)
    assert stage.world.cloud.starts == 40
