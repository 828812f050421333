"""Pending checks: jobs that came while the access rules could not be read."""

import pytest

from mayfly.model.access import Admitted, Reason, Refused
from mayfly.model.errors import Transient
from mayfly.model.jobs import JobId, JobState
from mayfly.model.protocol import StartedOrder
from mayfly.model.runners import runner_name
from tests.fakes.engine import Engine, opened_engine
from tests.fakes.factories import PREFIX, event, running_job

BOOT = "boot-1"


async def decision_of(engine: Engine, job: int):
    return (await engine.ledger.attempts(JobId(job)))[0].decision


async def test_a_job_nobody_can_check_is_recorded_and_admitted_as_soon_as_somebody_can(
    engine: Engine,
):
    engine.access.away = True
    decision = await engine.intake.submit(event(1))
    assert isinstance(decision, Refused)
    assert decision.reason is Reason.PENDING_CHECK
    await engine.turns(2)
    assert await decision_of(engine, 1) == decision
    assert await engine.rings() == 0
    engine.access.away = False
    await engine.turns()
    assert isinstance(await decision_of(engine, 1), Admitted)
    assert await engine.rings() == 1


async def test_a_pending_job_without_a_rule_is_refused_in_the_end():
    async with opened_engine(rules=()) as engine:
        engine.access.away = True
        await engine.intake.submit(event(1))
        engine.access.away = False
        await engine.turns()
        decision = await decision_of(engine, 1)
        assert isinstance(decision, Refused)
        assert decision.reason is Reason.NOT_ALLOWED


async def test_waiting_for_the_rules_is_no_news_and_counted_once(engine: Engine):
    engine.access.away = True
    await engine.intake.submit(event(1))
    await engine.turns(3)
    assert await engine.heard() == ["job.refused"]
    assert 'mayfly_job_decided_total{decision="pending_check"} 1.0' in (
        engine.telemetry.scrape().decode()
    )


async def test_no_turn_decides_more_than_it_can(engine: Engine):
    engine.access.away = True
    for job in range(1, 5102):
        await engine.ledger.record([await engine.intake.judge(event(job))])
    engine.access.away = False
    await engine.turns()
    assert [job.key.id for job in await engine.ledger.pending(1000)] == list(range(5001, 5102))
    await engine.turns()
    assert await engine.ledger.pending(1000) == []


async def test_a_review_without_rules_is_to_be_repeated_and_takes_nothing_away(engine: Engine):
    await engine.intake.submit(event(1))
    engine.access.away = True
    with pytest.raises(Transient, match="the access rules cannot be read"):
        await engine.intake.review()
    assert isinstance(await decision_of(engine, 1), Admitted)
    assert (await engine.ledger.pools())["linux"].queued == 1


async def test_a_job_check_without_rules_takes_nothing_away(engine: Engine):
    await engine.queue(1)
    engine.access.away = True
    await engine.turns(40)
    assert isinstance(await decision_of(engine, 1), Admitted)
    assert (await engine.ledger.pools())["linux"].queued == 1


async def test_the_guard_waits_for_the_rules_and_lets_nobody_pass_without_them(engine: Engine):
    claim = await engine.registered()
    runner = runner_name(PREFIX, claim, 1)
    await engine.ledger.record([running_job(1, runner=runner)])
    engine.access.away = True
    order = StartedOrder(boot=BOOT, repository="octo/hello", run_id=1, run_attempt=1)
    with pytest.raises(Transient, match="the access rules cannot be read now"):
        await engine.claims.started(claim, order)
    assert "job.guarded" not in await engine.heard()
    engine.access.away = False
    assert (await engine.claims.started(claim, order)).allowed


async def test_a_pending_job_that_runs_elsewhere_meanwhile_is_decided_too(engine: Engine):
    engine.access.away = True
    await engine.intake.submit(event(1))
    await engine.intake.submit(event(1, state=JobState.IN_PROGRESS))
    engine.access.away = False
    await engine.turns()
    assert isinstance(await decision_of(engine, 1), Admitted)


async def test_an_explanation_says_that_the_check_is_pending(engine: Engine):
    engine.access.away = True
    await engine.intake.submit(event(1))
    answer = await engine.explanations.explain(1)
    assert answer.summary.startswith("pending a check: the access rules cannot be read now")
    assert answer.facts[0] == "reason: pending_check"
