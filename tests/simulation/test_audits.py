"""The proof itself: a world that breaks a promise is found out, and made smaller."""

import asyncio

import msgspec

from mayfly.model.jobs import JobState
from mayfly.model.runners import ClaimId, ClaimState, Registration
from tests.simulation.jobs import Job
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


LONG = msgspec.structs.replace(ONE_POOL, calm_minutes=70.0)
FOR_EVER = 1e9


def _write(world: World, job: Job, state: JobState) -> None:
    """The ledger believes this of the job, and never asks."""
    tables = world.database.tables
    row = tables._jobs[job.key]
    believed = msgspec.structs.replace(row.event, state=state)
    tables._jobs[job.key] = msgspec.structs.replace(row, event=believed, due_at=FOR_EVER)


def test_a_job_that_waits_beside_a_free_machine_is_found_after_half_an_hour():
    async def scene(world: World) -> None:
        world.runners.paused_until = FOR_EVER
        (job,) = Stage(world).push(30.0).jobs
        await asyncio.sleep(60.0)
        _write(world, job, JobState.COMPLETED)
        await asyncio.sleep(600.0)  # until its runner was not needed any more

    assert "waits, and a slot and a machine are free for it" in _after(scene, LONG)


def test_a_runner_without_a_claim_is_found_before_the_calm_is_over():
    async def scene(world: World) -> None:
        owner = world.accounts.owners[0]
        world.runners.register("repos/octo/hello", "mayfly-x-1", ["linux"], owner.installation)

    assert "for 55 min runner mayfly-x-1 is registered" in _after(scene, LONG)
    assert "min runner" not in _after(scene), "it may be repaired before"


def test_a_name_that_stays_on_the_worklist_is_found():
    async def scene(world: World) -> None:
        Stage(world).push(30.0)
        await asyncio.sleep(120.0)
        claim = next(iter(world.database.tables._claims))
        name = Registration(name="n", claim=claim, generation=1, next_look_at=FOR_EVER)
        world.database.tables._registrations["n"] = name

    assert "for 55 min name n is not proven gone" in _after(scene, LONG)


def test_a_row_that_stays_open_is_found():
    async def scene(world: World) -> None:
        (job,) = Stage(world).push(30.0).jobs
        await asyncio.sleep(120.0)
        _write(world, job, JobState.IN_PROGRESS)

    assert "min row 1002.1 is in_progress, over at GitHub" in _after(scene, LONG)


def test_a_live_claim_for_no_job_is_found():
    async def scene(world: World) -> None:
        Stage(world).push(30.0)
        await asyncio.sleep(120.0)
        tables = world.database.tables
        done = next(iter(tables._claims.values()))
        busy = msgspec.structs.replace(
            done, state=ClaimState.BUSY, heard_at=FOR_EVER, due_at=None, registrations=0
        )
        tables._claims[done.id] = busy

    assert "more live claims than jobs queued and running" in _after(scene, LONG)


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
