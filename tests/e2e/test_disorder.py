"""Stealing, doubling, disorder and cancelling: late is allowed, lost or doubled is not."""

import pytest

from mayfly.simulator import Faults, HookRule
from tests.e2e.endings import rows
from tests.e2e.programs import until
from tests.e2e.stage import Stage
from tests.e2e.templates import slow_template

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


async def held_job(stage: Stage, repository: str) -> tuple[int, str]:
    """A job GitHub holds back, and the idle runner that was made for it."""
    job = stage.dispatch(repository)
    stage.simulator.hold(job)
    await stage.executor()
    return job, await stage.idle_runner()


async def test_a_runner_made_for_one_job_takes_another_and_both_run(stage: Stage):
    repository, mints = stage.repository(), stage.github.mints()
    first, runner = await held_job(stage, repository)
    second = stage.dispatch(repository)
    await stage.ends(second)
    assert stage.runner_of(second) == runner
    stage.simulator.release(first)
    await stage.ends(first)
    assert stage.runner_of(first) not in {runner, None}
    assert stage.github.mints() - mints == 2


async def test_the_same_delivery_three_times_makes_one_runner(stage: Stage):
    repository, mints = stage.repository(), stage.github.mints()
    stage.simulator.faults = Faults(
        webhooks=(HookRule(fault="doubled", event="workflow_job", action="queued", count=1),)
    )
    job = stage.dispatch(repository)
    assert await stage.simulator.wait_deliveries()
    deliveries = stage.simulator.world.deliveries
    newest = max(each.id for each in deliveries.log.values() if each.action == "queued")
    deliveries.redeliver(newest)
    assert await stage.simulator.wait_deliveries()
    guid = deliveries.get(newest).guid
    sent = [each.status_code for each in deliveries.log.values() if each.guid == guid]
    assert sent == [202, 202, 202]
    for _ in range(3):
        await stage.executor()
    await stage.ends(job)
    deliveries.redeliver(newest)
    assert await stage.simulator.wait_deliveries()
    assert (await stage.known(job, "completed"))["conclusion"] == "success"
    await stage.end_executors()
    assert stage.github.mints() - mints == 1


async def test_an_in_progress_that_overtakes_its_queued_counts_once(stage: Stage):
    repository, mints = stage.repository(), stage.github.mints()
    held, runner = await held_job(stage, repository)
    stage.simulator.faults = Faults(
        webhooks=(HookRule(fault="reordered", action="queued", delay_ms=1500, count=1),)
    )
    overtaken = stage.dispatch(repository)
    await stage.ends(overtaken)
    known = await stage.known(overtaken, "completed")
    assert known["runner"] == runner
    assert stage.simulator.world.deliveries.pending, "its queued is still to come"
    assert await stage.simulator.wait_deliveries()
    assert (await stage.known(overtaken, "completed"))["decision"] == "admitted"
    stage.simulator.release(held)
    await stage.ends(held)
    assert stage.github.mints() - mints == 2


async def test_a_job_cancelled_before_anybody_claims_it_gets_no_runner(stage: Stage):
    repository, mints = stage.repository(), stage.github.mints()
    claims = await stage.claims(live=False)
    job = stage.dispatch(repository)
    await stage.known(job, "queued")
    await until(lambda: rows(stage, "SELECT id FROM message"), "a doorbell")
    stage.simulator.cancel_job(job)
    await stage.known(job, "completed")
    await stage.executor()
    await until(lambda: not rows(stage, "SELECT id FROM message"), "the executor answers the bell")
    assert await stage.claims(live=False) == claims
    assert stage.github.mints() == mints


async def test_a_job_cancelled_while_its_machine_is_prepared_is_given_up(stage: Stage):
    repository, mints = stage.repository(), stage.github.mints()
    with slow_template(stage.directory) as template:
        executor = await stage.executor(template=template.path)
        job = stage.dispatch(repository)
        await template.being_copied(executor)
        stage.simulator.cancel_job(job)
        claim = await stage.claim_in("withdrawn")
        await executor.logged("claim.finished")
        assert stage.github.mints() == mints
        template.release()
        following = stage.dispatch(repository)
        await stage.ends(following)
        assert claim["claim"] not in str(stage.runner_of(following))
        await stage.end_executors()


async def test_a_job_cancelled_after_registration_leaves_no_idle_runner(stage: Stage):
    repository = stage.repository()
    job, runner = await held_job(stage, repository)
    stage.simulator.cancel_job(job)
    assert await stage.simulator.wait_runner(runner, "gone", timeout=10)
    await stage.claim_in("retired")
    following = stage.dispatch(repository)
    await stage.ends(following)


async def test_a_runner_is_withdrawn_when_a_foreign_one_takes_its_job(stage: Stage):
    repository = stage.repository()
    job, runner = await held_job(stage, repository)
    stage.simulator.add_runner("octo-org", repository, "someone-elses", ("self-hosted", "linux"))
    stage.simulator.force(job, "someone-elses")
    stage.simulator.release(job)
    await stage.ends(job)
    assert stage.runner_of(job) == "someone-elses"
    assert await stage.simulator.wait_runner(runner, "gone", timeout=10)
    why = (await stage.mayfly("jobs", "explain", str(job))).out
    assert "someone-elses, which is not a runner of this Mayfly" in why
    following = stage.dispatch(repository)
    await stage.ends(following)


async def test_a_refused_job_that_got_a_runner_fails_before_its_first_step(stage: Stage):
    repository = stage.repository()
    admitted, runner = await held_job(stage, repository)
    refused = stage.dispatch(repository, "echo must not be seen", labels=["self-hosted"])
    assert await stage.simulator.wait_job(refused, "completed", timeout=25)
    assert stage.runner_of(refused) == runner
    said = "\n".join(stage.simulator.log(refused))
    assert "must not be seen" not in said
    if stage.simulator.job(refused)["conclusion"] != "cancelled":  # the heartbeat was quicker
        assert stage.simulator.job(refused)["conclusion"] == "failure"
        assert "Mayfly: this job may not run here: the second label must name a pool" in said
    stage.simulator.release(admitted)
    await stage.ends(admitted)
    assert (await stage.known(refused, "completed"))["decision"] == "no_pool_named"


async def test_a_job_refused_by_the_rules_runs_once_they_allow_it(stage: Stage):
    await stage.executor()
    job = stage.dispatch("secret-plans", owner="mona")
    assert (await stage.known(job, "queued"))["decision"] == "not_allowed"
    allowed = await stage.mayfly("access", "allow", "mona/secret-plans", "linux")
    assert allowed.code == 0, allowed.err
    await stage.ends(job)
    revoked = await stage.mayfly("access", "revoke", "mona/secret-plans", "linux")
    assert revoked.code == 0, revoked.err


async def test_a_queued_job_is_refused_once_its_rule_is_revoked(stage: Stage):
    mints = stage.github.mints()
    await stage.mayfly("access", "allow", "mona/secret-plans", "linux")
    job = stage.dispatch("secret-plans", owner="mona")
    stage.simulator.hold(job)
    assert (await stage.known(job, "queued"))["decision"] == "admitted"
    await stage.executor()
    runner = await stage.idle_runner()
    await stage.mayfly("access", "revoke", "mona/secret-plans", "linux")
    assert (await stage.known(job, "queued"))["decision"] == "not_allowed"
    assert await stage.simulator.wait_runner(runner, "gone", timeout=10)
    stage.simulator.release(job)
    await stage.end_executors()
    assert stage.simulator.job(job)["status"] == "queued"
    assert stage.github.mints() - mints == 1
