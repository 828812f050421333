"""Traces in which GitHub loses, withholds, repeats or mixes up what it says and does."""

import asyncio

import pytest

from mayfly.model.access import AccessRule
from mayfly.model.pools import PoolScope, VariantRule
from tests.simulation.accounts import Access
from tests.simulation.scenes import HELLO, LINUX, Stage, only_once, played, pool_of, wait_of

VARIANTS = ("small", "large")
NEVER_LOGGED = "delivery lost, never logged"


def test_a_repeated_job_is_served_although_the_end_of_its_first_attempt_was_lost():
    async def scene(stage: Stage) -> None:
        stage.world.faults.aim(NEVER_LOGGED, lambda job, action: action == "completed")
        run = stage.push(30.0)
        await stage.over(*run.jobs)
        stage.world.jobs.repeat(run)
        await stage.over(*run.jobs)

    stage = played(scene, pool_of(most=2), same_ids=True)
    assert [job.conclusion for job in stage.world.jobs.every] == ["success", "success"]
    assert stage.surplus_mints == 0


@pytest.mark.parametrize("guard", [True, False])
def test_a_job_of_two_hours_whose_start_was_lost_costs_no_second_runner(guard: bool):
    async def scene(stage: Stage) -> None:
        stage.world.faults.aim(NEVER_LOGGED, lambda job, action: action == "in_progress")
        run = stage.push(7200.0)
        await stage.over(*run.jobs, minutes=150)

    stage = played(scene, pool_of(most=4, guard=guard))
    assert stage.mints <= 2


def test_nothing_piles_up_while_github_assigns_nothing_for_forty_minutes():
    async def scene(stage: Stage) -> None:
        runners = stage.world.runners
        runners.paused_until = 2400.0
        run = stage.push(*[60.0] * 8)
        await asyncio.sleep(2400.0)
        runners.resume()
        await stage.over(*run.jobs)

    stage = played(scene, pool_of(most=4))
    assert stage.surplus_mints <= 8


def test_forced_pushes_during_slow_preparations_leave_the_last_one_served():
    async def scene(stage: Stage) -> None:
        run = stage.push(60.0)
        for _ in range(12):
            await asyncio.sleep(60.0)
            stage.world.jobs.cancel(run)
            run = stage.push(60.0)
        await stage.over(*run.jobs)
        assert run.jobs[0].conclusion == "success"

    stage = played(scene, pool_of(most=2, prepare_seconds=150.0))
    assert stage.surplus_mints <= 2


def test_a_claim_whose_job_was_cancelled_makes_room_for_one_of_another_variant():
    async def scene(stage: Stage) -> None:
        run = stage.push(60.0, labels=(*LINUX, "small"))
        await stage.until(lambda: bool(stage.claims))
        stage.world.jobs.cancel(run)
        run = stage.push(60.0, labels=(*LINUX, "large"))
        await stage.over(*run.jobs)
        assert wait_of(run.jobs[0]) < 500.0

    pool = pool_of(most=1, prepare_seconds=300.0, variant=VariantRule.REQUIRED, variants=VARIANTS)
    stage = played(scene, pool)
    assert stage.surplus_mints == 0


def test_refused_jobs_with_bare_labels_get_past_no_guard_and_starve_nobody():
    async def scene(stage: Stage) -> None:
        for _ in range(20):
            stage.push(60.0, 60.0, labels=("self-hosted",))
        admitted = [job for _ in range(6) for job in stage.push(60.0).jobs]
        await stage.over(*admitted)
        assert all(job.conclusion == "success" for job in admitted)

    stage = played(scene, pool_of(most=4))
    assert stage.world.verdicts.past_the_guard == []


def test_a_repository_without_a_rule_gets_no_runner_of_an_organization_pool():
    async def scene(stage: Stage) -> None:
        refused = stage.push(*[30.0] * 10, repository="octo/world")
        admitted = stage.push(*[30.0] * 4)
        await stage.over(*admitted.jobs)
        assert not any(job.started_at for job in refused.jobs)
        stage.world.jobs.cancel(refused)

    played(scene, pool_of(most=4, scope=PoolScope.ORGANIZATION, wide=False))


def test_runners_of_the_organization_serve_every_repository_of_an_allowed_owner():
    async def scene(stage: Stage) -> None:
        runs = [stage.push(30.0, 30.0, repository=f"octo/{name}") for name in ("hello", "world")]
        await stage.over(*(job for run in runs for job in run.jobs))
        assert all(name.startswith("mayfly") for name in stage.world.runners.worked)

    played(scene, pool_of(most=2, scope=PoolScope.ORGANIZATION))


def test_a_mint_that_takes_effect_forty_seconds_after_its_time_out_leaves_nothing_behind():
    async def scene(stage: Stage) -> None:
        stage.world.faults.aim("mint took effect 40 s late", only_once(lambda name: True))
        run = stage.push(60.0)
        await stage.over(*run.jobs)

    stage = played(scene, pool_of(most=2))
    assert stage.mints == 2


def test_a_late_mint_is_found_even_when_ledger_time_catches_up_after_a_crash():
    async def scene(stage: Stage) -> None:
        stage.world.faults.aim("mint took effect 40 s late", only_once(lambda name: True))
        await asyncio.sleep(90.0)
        run = stage.push(60.0)
        await stage.until(lambda: bool(stage.world.faults.struck))
        stage.world.planes.kill()
        await stage.over(*run.jobs)

    played(scene, pool_of(most=2))


def test_a_job_behind_a_gate_gets_its_runner_after_the_approval_and_not_before():
    async def scene(stage: Stage) -> None:
        run = stage.push(30.0, gated=True)
        await asyncio.sleep(600.0)
        assert stage.mints == 0
        stage.world.jobs.approve(run)
        await stage.over(*run.jobs)
        assert wait_of(run.jobs[0]) < 60.0

    played(scene, pool_of(most=2))


def test_a_gate_that_is_heard_of_after_its_approval_holds_nothing_back():
    async def scene(stage: Stage) -> None:
        stage.world.faults.aim("delivery delayed", lambda said: said.endswith("waiting"))
        run = stage.push(30.0, gated=True)
        stage.world.jobs.approve(run)
        await stage.over(*run.jobs)
        assert wait_of(run.jobs[0]) < 60.0

    played(scene, pool_of(most=2))


def test_what_happened_during_three_hours_of_outage_is_read_from_the_log():
    async def scene(stage: Stage) -> None:
        stage.push(30.0)
        await asyncio.sleep(300.0)
        stage.world.planes.down_until = 300.0 + 3 * 3600.0
        stage.world.planes.kill()
        await asyncio.sleep(60.0)
        early = stage.push(*[30.0] * 6)
        await asyncio.sleep(2.9 * 3600.0)
        late = stage.push(*[30.0] * 6)
        await stage.over(*early.jobs, *late.jobs, minutes=30.0)
        back = stage.world.planes.down_until
        assert all(job.began - back < 240.0 for job in (*early.jobs, *late.jobs))

    played(scene, pool_of(most=4))


def test_jobs_neither_delivered_nor_logged_are_found_by_the_sweep():
    async def scene(stage: Stage) -> None:
        first = stage.push(30.0)
        await stage.over(*first.jobs)
        stage.world.faults.aim(NEVER_LOGGED, lambda job, action: True)
        run = stage.push(30.0, 30.0)
        await stage.over(*run.jobs, minutes=25.0)

    played(scene, pool_of(most=2))


def test_the_delivery_log_alone_is_enough_of_an_intake():
    async def scene(stage: Stage) -> None:
        await asyncio.sleep(60.0)
        run = stage.push(*[30.0] * 4)
        await stage.over(*run.jobs)
        assert max(wait_of(job) for job in run.jobs) < 120.0

    played(scene, pool_of(most=4), pull=True)


def test_an_owner_who_removes_the_app_blocks_nobody_else():
    async def scene(stage: Stage) -> None:
        world = stage.world
        await world.operators.change_rule(AccessRule(label="linux", owner="umbra"), grant=True)
        gone = stage.push(*[120.0] * 8, repository="umbra/shade")
        await stage.until(lambda: any(job.started_at for job in gone.jobs))
        gone.repository.owner.keep_out(Access.REMOVED)
        run = stage.push(*[60.0] * 6)
        await stage.over(*run.jobs, minutes=60.0)

    played(scene, pool_of(most=2))


def test_an_idle_runner_of_a_removed_app_does_not_hold_its_machine_for_ever():
    async def scene(stage: Stage) -> None:
        world = stage.world
        await world.operators.change_rule(AccessRule(label="linux", owner="umbra"), grant=True)
        world.runners.paused_until = 600.0
        gone = stage.push(60.0, repository="umbra/shade")
        await stage.until(lambda: bool(world.runners.connected))
        gone.repository.owner.keep_out(Access.REMOVED)
        world.jobs.cancel(gone)
        run = stage.push(60.0)
        await asyncio.sleep(600.0)
        world.runners.resume()
        await stage.over(*run.jobs, minutes=90.0)

    played(scene, pool_of(most=2, machines=1))


def test_a_late_mint_during_a_suspension_leaves_no_name_unwatched():
    async def scene(stage: Stage) -> None:
        world = stage.world
        world.faults.aim("mint took effect 40 s late", only_once(lambda name: True))
        world.runners.paused_until = 3600.0
        run = stage.push(60.0)
        await stage.until(lambda: bool(world.runners.connected))
        run.repository.owner.keep_out(Access.SUSPENDED)
        world.machines[0].never_return()
        await asyncio.sleep(3000.0)
        run.repository.owner.let_back()
        world.jobs.cancel(run)

    played(scene, pool_of(most=1, machines=1))


def test_a_job_queued_while_the_app_was_suspended_is_found_although_no_list_showed_its_owner():
    async def scene(stage: Stage) -> None:
        hello = stage.world.accounts.find(HELLO)
        assert hello is not None
        hello.owner.keep_out(Access.SUSPENDED)
        await asyncio.sleep(1500.0)  # the list of a day is made meanwhile
        run = stage.push(60.0)
        await asyncio.sleep(60.0)
        hello.owner.let_back()
        stage.world.deliveries.tell_back(hello.owner)
        await stage.over(*run.jobs, minutes=45)

    played(scene, pool_of(most=1))


def test_a_runner_left_at_an_owner_who_was_away_is_gone_minutes_after_the_return():
    async def scene(stage: Stage) -> None:
        world = stage.world
        world.runners.paused_until = 7200.0
        run = stage.push(60.0)
        await stage.until(lambda: bool(world.runners.all()))
        run.repository.owner.keep_out(Access.SUSPENDED)
        world.machines[0].never_return()
        await asyncio.sleep(6000.0)  # the pauses between two looks have grown to an hour
        world.jobs.cancel(run)
        run.repository.owner.let_back()
        world.deliveries.tell_back(run.repository.owner)
        await stage.until(lambda: not world.runners.all(), minutes=5)

    played(scene, pool_of(most=1, machines=1))


def test_a_job_that_waited_for_a_removed_app_is_served_when_it_is_installed_anew():
    async def scene(stage: Stage) -> None:
        run = stage.push(60.0)
        owner = run.repository.owner
        owner.keep_out(Access.REMOVED)
        await asyncio.sleep(1500.0)
        owner.install_anew()
        stage.world.deliveries.tell_back(owner, "created")
        await stage.over(*run.jobs, minutes=60)

    played(scene, pool_of(most=1))


@pytest.mark.parametrize("machines", [1, 4])
def test_an_owner_whose_api_fails_for_an_hour_takes_minutes_from_no_others_turn(machines: int):
    async def scene(stage: Stage) -> None:
        world = stage.world
        await world.operators.change_rule(AccessRule(label="linux", owner="umbra"), grant=True)
        theirs = stage.push(*[60.0] * 8, repository="umbra/shade")
        silent = theirs.repository.owner.installation
        world.faults.aim("call failed before its effect", lambda verb, whose: whose == silent)
        ours = []
        for _ in range(30):
            await asyncio.sleep(120.0)
            ours += stage.push(60.0).jobs
        world.faults.aim("call failed before its effect", lambda verb, whose: False)
        await stage.over(*ours, *theirs.jobs, minutes=30)
        assert max(wait_of(job) for job in ours) < 600.0

    played(scene, pool_of(most=machines))


def test_boards_that_are_prepared_outlast_an_hour_in_which_github_fails_everybody():
    async def scene(stage: Stage) -> None:
        world = stage.world
        await world.operators.change_rule(AccessRule(label="linux", owner="umbra"), grant=True)
        runs = [stage.push(60.0, 60.0) for _ in range(2)]
        world.faults.aim("call failed before its effect", lambda verb, whose: verb == "mint")
        await asyncio.sleep(700.0)
        world.faults.aim("call failed before its effect", lambda verb, whose: False)
        await stage.over(*(job for run in runs for job in run.jobs))
        assert [each.workbench.prepared for each in world.machines if each.workbench] == [2, 2]

    played(scene, pool_of(most=2, prepare_seconds=200.0))


def test_a_strangers_job_on_a_runner_hides_the_next_job_for_minutes_only():
    async def scene(stage: Stage) -> None:
        stage.world.faults.aim(NEVER_LOGGED, lambda job, action: action == "in_progress")
        stranger = await stage.stolen(7200.0)
        await asyncio.sleep(60.0)
        run = stage.push(60.0)
        await stage.over(*run.jobs)
        assert wait_of(run.jobs[0]) < 240.0
        await stage.over(stranger, minutes=150)

    played(scene, pool_of(most=2, guard=False, prepare_seconds=10.0))


def test_a_runner_of_a_ledger_that_was_lost_is_deleted_within_the_hour():
    async def scene(stage: Stage) -> None:
        await stage.over(*stage.push(30.0).jobs)
        claim = stage.claims[0]
        lost = f"mayfly-{'f' * 26}-1"
        group = stage.world.database.tables._groups[claim.group]
        stage.world.runners.on_registered = lambda name: None
        stage.world.runners.register(group.scope.lower(), lost, ("gpu",), group.installation)
        await stage.until(lambda: lost not in stage.world.runners.by_name, minutes=62)

    played(scene, pool_of(most=1))
