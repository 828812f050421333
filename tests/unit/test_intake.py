"""Intake: deliveries become rows, many at a time, and each for itself."""

import asyncio
from itertools import chain

import pytest

from mayfly.model.access import AccessRule, Admitted, Refused
from mayfly.model.errors import Transient
from mayfly.model.jobs import JobId, JobState
from mayfly.model.runners import ClaimState
from tests.fakes.engine import ANYBODY, Engine, opened_engine
from tests.fakes.factories import claimed, event, now_of, queued_job


async def test_an_event_is_durable_when_submit_returns(engine: Engine):
    decision = await engine.intake.submit(event(1))
    assert isinstance(decision, Admitted)
    job = await engine.ledger.job(event(1).key)
    assert job is not None
    assert job.group == queued_job(1).group
    assert await engine.rings() == 1


async def test_concurrent_events_share_a_transaction(engine: Engine):
    await asyncio.gather(*(engine.intake.submit(event(number)) for number in range(1, 21)))
    assert len(engine.ledger.recorded) < 20
    assert list(chain.from_iterable(engine.ledger.recorded)) == list(range(1, 21))


async def test_no_transaction_is_unbounded(engine: Engine):
    await asyncio.gather(*(engine.intake.submit(event(number)) for number in range(1, 601)))
    assert max(len(batch) for batch in engine.ledger.recorded) == 256


async def test_one_bad_event_fails_alone(engine: Engine):
    engine.ledger.poison = 3
    answers = await asyncio.gather(
        *(engine.intake.submit(event(number)) for number in range(1, 6)), return_exceptions=True
    )
    assert [isinstance(answer, ValueError) for answer in answers] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert (await engine.ledger.pools())["linux"].queued == 4


async def test_a_store_that_cannot_write_fails_the_batch_once(engine: Engine):
    engine.ledger.failures.append(Transient("the disk is full"))
    answers = await asyncio.gather(
        *(engine.intake.submit(event(number)) for number in range(1, 4)), return_exceptions=True
    )
    assert all(isinstance(answer, Transient) for answer in answers)
    assert len(engine.ledger.recorded) == 1
    await engine.intake.submit(event(1))
    assert (await engine.ledger.pools())["linux"].queued == 1


async def test_a_caller_that_gave_up_takes_nobody_with_it(engine: Engine):
    gone = asyncio.create_task(engine.intake.submit(event(1)))
    stays = asyncio.create_task(engine.intake.submit(event(2)))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert await engine.ledger.job(event(2).key) is not None


async def test_a_refused_job_is_recorded_and_rings_nobody():
    async with opened_engine(rules=()) as engine:
        assert isinstance(await engine.intake.submit(event(1)), Refused)
        assert await engine.ledger.job(event(1).key) is not None
        assert await engine.rings() == 0
        assert await engine.heard() == ["job.refused"]


async def test_a_duplicate_is_no_news(engine: Engine):
    for _ in range(2):
        await engine.intake.submit(event(1))
    assert await engine.heard() == ["job.admitted"]


async def test_more_jobs_than_slots_ring_as_often_as_there_are_slots(engine: Engine):
    await asyncio.gather(*(engine.intake.submit(event(number)) for number in range(1, 11)))
    assert await engine.rings() == 3


async def test_a_grant_admits_a_queued_job_and_rings():
    async with opened_engine(rules=()) as engine:
        await engine.intake.submit(event(1))
        await engine.intake.submit(event(2, state=JobState.IN_PROGRESS))
        await engine.access.grant(ANYBODY[0])
        await engine.intake.review()
        assert await engine.rings() == 1
        queued = await engine.ledger.attempts(JobId(1))
        running = await engine.ledger.attempts(JobId(2))
        assert isinstance(queued[0].decision, Admitted)
        assert isinstance(running[0].decision, Refused)


async def test_a_revocation_takes_the_job_away_and_its_claim_becomes_surplus(engine: Engine):
    await engine.intake.submit(event(1))
    made = await claimed(engine.ledger)
    await engine.access.revoke(ANYBODY[0])
    await engine.intake.review()
    group = await engine.ledger.group(made.group)
    assert group is not None
    assert (group.queued, group.surplus) == (0, 1)
    await engine.ledger.relieve(made.id)
    assert (await now_of(engine.ledger, made.id)).state is ClaimState.WITHDRAWN


async def test_a_review_that_changes_nothing_says_nothing(engine: Engine):
    await engine.intake.submit(event(1))
    await engine.intake.review()
    assert await engine.heard() == ["job.admitted"]


async def test_a_review_reaches_every_page():
    async with opened_engine(rules=()) as engine:
        await asyncio.gather(*(engine.intake.submit(event(n)) for n in range(1, 1102)))
        await engine.access.grant(AccessRule(owner="octo", label="linux"))
        await engine.intake.review()
        assert (await engine.ledger.pools())["linux"].queued == 1101


@pytest.mark.parametrize("state", JobState)
async def test_a_job_is_measured_in_whatever_state_it_is_first_seen(
    engine: Engine, state: JobState
):
    await engine.intake.submit(event(1, state=state))
    scraped = engine.telemetry.scrape().decode()
    decided = 1.0 if state <= JobState.QUEUED else 0.0
    began = 1.0 if state is JobState.IN_PROGRESS else 0.0
    assert f'mayfly_job_decided_total{{decision="admitted"}} {decided}' in scraped
    assert f'mayfly_job_waited_seconds_count{{pool="linux"}} {began}' in scraped
