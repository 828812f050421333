"""The proof itself: a world that breaks a promise is found out, and made smaller."""

import asyncio

import msgspec

from mayfly.model.runners import ClaimId, ClaimState
from tests.simulation.plans import Plan, drawn
from tests.simulation.running import Scene, Verdict, run
from tests.simulation.scenes import Stage, pool_of
from tests.simulation.shrinking import MOST_LINES, shrunken, telling
from tests.simulation.world import World

ONE_POOL = Plan(
    seed=1, jobs=0, minutes=0.0, pools=(pool_of(most=2),), work={}, faults={}, calm_minutes=20.0
)


def _after(scene: Scene, plan: Plan = ONE_POOL) -> str:
    return "\n".join(run(plan, scene).violations)


def test_a_counter_that_moves_without_its_rows_is_found():
    async def scene(world: World) -> None:
        tables = world.database.tables
        Stage(world).push(30.0)
        await asyncio.sleep(5.0)
        group = next(iter(tables._groups.values()))
        tables._groups[group.id] = msgspec.structs.replace(group, queued=group.queued + 1)
        Stage(world).push(30.0)
        await asyncio.sleep(60.0)

    assert "stored" in _after(scene)


def test_a_claim_that_moves_back_is_found():
    async def scene(world: World) -> None:
        Stage(world).push(30.0)
        await asyncio.sleep(120.0)
        tables = world.database.tables
        claim = next(iter(tables._claims.values()))
        tables.put_claim(msgspec.structs.replace(claim, state=ClaimState.BUSY))
        tables.keep()

    assert "moved from done to busy" in _after(scene)


def test_a_claim_for_nobody_is_found():
    async def scene(world: World) -> None:
        Stage(world).push(30.0)
        await asyncio.sleep(120.0)
        tables = world.database.tables
        claim = next(iter(tables._claims.values()))
        tables.put_claim(msgspec.structs.replace(claim, id=ClaimId("other"), key="other"))
        tables.keep()

    assert "without an admitted job" in _after(scene)


def test_a_runner_nobody_knows_of_is_found():
    async def scene(world: World) -> None:
        owner = world.accounts.owners[0]
        world.runners.register("repos/octo/hello", "mayfly-x-1", ["linux"], owner.installation)

    found = _after(scene)
    assert "nobody watches over it" in found
    assert "registered without a live claim" in found


def test_a_job_nobody_serves_is_found():
    async def scene(world: World) -> None:
        for machine in world.machines:
            machine.never_return()
        Stage(world).push(30.0)

    assert "admitted and not served" in _after(scene)


def test_a_refused_job_that_passes_a_guard_is_found():
    async def scene(world: World) -> None:
        run = Stage(world).push(30.0, labels=("self-hosted",))
        world.verdicts.first_step(run.jobs[0], "a runner", guarded=True)

    assert "past the guard" in _after(scene)


def test_a_broken_world_is_made_smaller_and_tells_what_happened():
    busy = msgspec.structs.replace(drawn(1), minutes=4.0)
    hopeless = msgspec.structs.replace(busy, calm_minutes=-10_000.0)  # judged at once
    failed = run(hopeless)
    assert failed.violations
    small: Verdict = shrunken(failed, most_runs=10)
    assert small.violations
    assert small.plan.jobs < hopeless.jobs
    assert 0 < len(telling(small)) <= MOST_LINES + 1
