"""Reviews: a rule that changes while jobs are on their way counts for them too."""

import asyncio
from collections.abc import Awaitable

import pytest

from mayfly.model.access import Admitted
from mayfly.model.errors import Transient
from mayfly.model.jobs import JobId, JobState
from tests.fakes.engine import ANYBODY, Engine, opened_engine
from tests.fakes.factories import event, waiting_job

MANY = 200
"""Turns of the event loop in which whatever waits for nothing comes to its end."""


async def allowed(engine: Engine, job: int = 1) -> bool:
    return isinstance((await engine.ledger.attempts(JobId(job)))[0].decision, Admitted)


async def under_way(work: Awaitable[object]) -> asyncio.Task[object]:
    """As far as it gets by itself."""
    task = asyncio.ensure_future(work)
    for _ in range(MANY):
        await asyncio.sleep(0)
    return task


async def change(engine: Engine, *, grant: bool) -> None:
    """By whichever control plane."""
    await (engine.access.grant if grant else engine.access.revoke)(ANYBODY[0])


@pytest.mark.parametrize("grant", [True, False])
async def test_a_change_between_judging_and_writing_counts_for_the_job(grant: bool):
    async with opened_engine(() if grant else ANYBODY[:1]) as engine, asyncio.timeout(10):
        engine.ledger.may_write.clear()
        submitted = asyncio.create_task(engine.intake.submit(event(1)))
        await engine.ledger.writing.wait()
        await change(engine, grant=grant)
        review = await under_way(engine.intake.review())
        engine.ledger.may_write.set()
        await asyncio.gather(submitted, review)
        assert await allowed(engine) is grant


async def test_a_caller_that_gave_up_is_waited_for_until_its_job_is_written():
    async with opened_engine(()) as engine, asyncio.timeout(10):
        engine.ledger.may_write.clear()
        submitted = asyncio.create_task(engine.intake.submit(event(1)))
        await engine.ledger.writing.wait()
        submitted.cancel()
        await change(engine, grant=True)
        review = await under_way(engine.intake.review())
        engine.ledger.may_write.set()
        await review
        assert await allowed(engine)


async def test_a_change_while_github_tells_of_a_job_counts_for_it():
    async with opened_engine(()) as engine, asyncio.timeout(10):
        await engine.ledger.record([waiting_job(1)])
        async with engine.intake.judging(event(1)) as judged:
            await change(engine, grant=True)
            review = await under_way(engine.intake.review())
            await engine.ledger.checked(judged.key, judged)
        await review
        assert await allowed(engine)


async def test_a_change_while_pending_jobs_are_decided_counts_for_them():
    async with opened_engine(()) as engine, asyncio.timeout(10):
        engine.access.away = True
        await engine.intake.submit(event(1))
        engine.access.away = False
        engine.access.slow = 1
        deciding = await under_way(engine.intake.decide_again(await engine.ledger.pending(10)))
        await change(engine, grant=True)
        review = await under_way(engine.intake.review())
        engine.access.may_answer.set()
        await asyncio.gather(deciding, review)
        assert await allowed(engine)


async def test_a_job_that_fails_holds_no_review_up():
    async with opened_engine(()) as engine, asyncio.timeout(10):
        engine.ledger.poison = 1
        with pytest.raises(ValueError, match="cannot be stored"):
            await engine.intake.submit(event(1))
        engine.ledger.failures.append(Transient("the disk is full"))
        with pytest.raises(Transient):
            await engine.intake.submit(event(2))
        gone = await under_way(engine.intake.submit(event(3, state=JobState.WAITING)))
        await gone
        await engine.intake.review()


@pytest.mark.parametrize("grant", [True, False])
async def test_another_control_plane_s_change_counts_for_what_was_on_its_way_here(grant: bool):
    async with opened_engine(() if grant else ANYBODY[:1]) as engine, asyncio.timeout(10):
        await engine.reviews.turn()
        engine.ledger.may_write.clear()
        submitted = asyncio.create_task(engine.intake.submit(event(1)))
        await engine.ledger.writing.wait()
        await change(engine, grant=grant)
        review = await under_way(engine.reviews.turn())
        engine.ledger.may_write.set()
        await asyncio.gather(submitted, review)
        assert await allowed(engine) is grant


async def test_queued_jobs_are_reviewed_at_start_and_twice_after_a_change(engine: Engine):
    reviewed = []
    for number in range(6):
        if number == 3:
            await engine.access.revoke(ANYBODY[1])
        await engine.reviews.turn()
        reviewed.append(engine.ledger.reviewed)
    assert reviewed == [1, 2, 2, 3, 4, 4]


async def test_a_review_that_failed_is_repeated(engine: Engine):
    await engine.intake.submit(event(1))
    engine.access.away = True
    for _ in range(2):
        with pytest.raises(Transient, match="cannot be read"):
            await engine.reviews.turn()
    engine.access.away = False
    await engine.access.revoke(ANYBODY[0])
    await engine.reviews.turn()
    assert not await allowed(engine)
