"""Traces in which executors, machines and control planes die, or do not hear each other."""

import asyncio

from tests.simulation.jobs import IN_PROGRESS
from tests.simulation.scenes import Stage, only_once, played, pool_of, wait_of


def test_a_machine_that_dies_at_work_and_stays_away_frees_its_slot():
    async def scene(stage: Stage) -> None:
        run = stage.push(1200.0)
        await stage.until(lambda: run.jobs[0].state is IN_PROGRESS)
        machine = stage.claims[0].machine
        next(each for each in stage.world.machines if each.name == machine).never_return()
        other = stage.push(*[60.0] * 3)
        await stage.over(*run.jobs, *other.jobs)
        assert run.jobs[0].conclusion == "failure"
        assert all(job.conclusion == "success" for job in other.jobs)

    played(scene, pool_of(most=2))


def test_a_machine_that_dies_while_it_prepares_blocks_its_pool_for_minutes_only():
    async def scene(stage: Stage) -> None:
        run = stage.push(60.0)
        await stage.until(lambda: bool(stage.claims))
        await asyncio.sleep(5.0)
        machine = stage.claims[0].machine
        next(each for each in stage.world.machines if each.name == machine).never_return()
        await stage.over(*run.jobs)
        assert wait_of(run.jobs[0]) < 5 * 60

    played(scene, pool_of(most=1, machines=2, prepare_seconds=30.0))


def test_a_control_plane_that_restarts_every_four_minutes_serves_every_job():
    async def scene(stage: Stage) -> None:
        jobs = []
        for number in range(60):
            jobs += stage.push(90.0).jobs
            await asyncio.sleep(60.0)
            if number % 4 == 3:
                stage.world.planes.kill()
        await stage.over(*jobs)
        assert all(job.conclusion == "success" for job in jobs)

    stage = played(scene, pool_of(most=4))
    assert stage.surplus_mints <= 12


def test_two_control_planes_with_clocks_four_minutes_apart_serve_every_job():
    async def scene(stage: Stage) -> None:
        jobs = []
        for _ in range(60):
            jobs += stage.push(60.0).jobs
            await asyncio.sleep(20.0)
        await stage.over(*jobs)

    stage = played(scene, pool_of(most=4), skews=(-130.0, 130.0))
    assert stage.surplus_mints <= 3


def test_a_lost_doorbell_is_rung_again_long_before_an_executor_asks_unrung():
    async def scene(stage: Stage) -> None:
        await asyncio.sleep(130.0)
        stage.world.faults.aim("doorbell lost", only_once(lambda: True))
        run = stage.push(60.0)
        await stage.over(*run.jobs)
        assert stage.world.faults.struck["doorbell lost"] == 1
        assert wait_of(run.jobs[0]) < 45.0

    played(scene, pool_of(most=1))


def test_a_lost_reply_to_a_claim_costs_no_second_claim():
    async def scene(stage: Stage) -> None:
        answered = lambda boot, verb: verb == "claim" and bool(stage.claims)  # noqa: E731 - an aim
        stage.world.faults.aim("reply lost", only_once(answered))
        run = stage.push(60.0)
        await stage.over(*run.jobs)

    stage = played(scene, pool_of(most=2))
    assert stage.world.faults.struck["reply lost"] == 1
    assert len(stage.claims) == 1


def test_a_lost_reply_to_a_registration_costs_a_registration_and_no_preparation():
    async def scene(stage: Stage) -> None:
        lost = only_once(lambda boot, verb: verb == "registration")
        stage.world.faults.aim("reply lost", lost)
        run = stage.push(60.0)
        await stage.until(lambda: run.jobs[0].state is IN_PROGRESS)
        assert len(stage.world.runners.registered) == 1
        await stage.over(*run.jobs)

    stage = played(scene, pool_of(most=1, prepare_seconds=600.0))
    assert (stage.mints, stage.surplus_mints) == (2, 1)
    assert [m.workbench.prepared for m in stage.world.machines if m.workbench] == [1]


def test_a_machine_that_swallows_every_claim_slows_three_good_ones_little():
    async def scene(stage: Stage) -> None:
        runs = [stage.push(60.0, 60.0, 60.0, 60.0) for _ in range(10)]
        await stage.over(*(job for run in runs for job in run.jobs))

    stage = played(scene, pool_of(most=4, black_holes=1))
    assert sum(claim.state == "failed" for claim in stage.claims) <= 8
    assert max(wait_of(job) for job in stage.world.jobs.every) < 25 * 60


def test_a_board_that_never_boots_is_out_of_service_after_three_claims():
    async def scene(stage: Stage) -> None:
        runs = [stage.push(60.0, 60.0, 60.0, 60.0) for _ in range(20)]
        await stage.over(*(job for run in runs for job in run.jobs))

    stage = played(scene, pool_of(most=4, dead=1))
    failed = [claim for claim in stage.claims if claim.state == "failed"]
    assert len(failed) == 3
    (out,) = stage.world.database.tables.executors.every("linux")
    assert (out.machine, out.broken) == (failed[0].machine, True)


def test_boards_prepared_while_the_control_plane_is_down_are_used_when_it_is_back():
    async def scene(stage: Stage) -> None:
        run = stage.push(60.0, 60.0)
        await stage.until(lambda: len(stage.claims) == 2)
        stage.world.planes.down_until = stage.world.clock.seconds() + 420.0
        stage.world.planes.kill()
        await stage.over(*run.jobs)
        assert max(wait_of(job) for job in run.jobs) < 500.0

    stage = played(scene, pool_of(most=2, prepare_seconds=200.0))
    assert len(stage.claims) == 2


def test_five_thousand_jobs_on_a_pool_of_four_ring_a_hundred_times_in_half_an_hour():
    async def scene(stage: Stage) -> None:
        runs = [stage.push(*[200.0] * 250) for _ in range(20)]
        await asyncio.sleep(1800.0)
        for run in runs:
            stage.world.jobs.cancel(run)
        await asyncio.sleep(900.0)

    stage = played(scene, pool_of(most=4))
    served = sum(job.conclusion == "success" for job in stage.world.jobs.every)
    assert served > 20
    assert stage.doorbells <= 150


def test_a_machine_that_dies_with_a_strangers_job_nobody_hears_of_again_frees_its_slot():
    async def scene(stage: Stage) -> None:
        lost = "delivery lost, never logged"
        stage.world.faults.aim(lost, lambda job, action: action == "completed")
        stranger = await stage.stolen(1200.0)
        machine = stage.claims[0].machine
        next(each for each in stage.world.machines if each.name == machine).never_return()
        await stage.over(stranger)

    played(scene, pool_of(most=2, guard=False))
