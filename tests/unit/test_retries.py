"""Retries: what an operator's word changes, and when it would change nothing."""

import msgspec
import pytest

from mayfly.engine.aftermath import Aftermath
from mayfly.engine.declined import Declined
from mayfly.engine.retries import SEARCHED, Retried, Retries
from mayfly.model.access import Reason, Refused
from mayfly.model.errors import NotFound
from mayfly.model.jobs import JobId, WorkflowJob
from tests.fakes.engine import Engine
from tests.fakes.factories import (
    LINUX,
    completed_job,
    queued_job,
    refused,
    running_job,
    waiting_job,
)
from tests.fakes.stalls import SUSPENDED, stalled_by_github, stalled_by_machines


@pytest.fixture
def retries(engine: Engine) -> Retries:
    aftermath = Aftermath(engine.doorbells, engine.news, engine.telemetry, engine.clock)
    return Retries(engine.ledger, aftermath, engine.news)


async def retried(retries: Retries, job: int = 1) -> Retried:
    answer = await retries.retry(JobId(job), "mona")
    assert isinstance(answer, Retried), answer
    return answer


async def declined(engine: Engine, retries: Retries, job: WorkflowJob) -> str:
    await engine.ledger.record([job])
    answer = await retries.retry(job.key.id, "mona")
    assert isinstance(answer, Declined), answer
    assert await engine.rings() == 0
    assert "group.retried" not in await engine.heard()
    return answer.sentence


async def test_a_stalled_group_is_forgiven_and_rung_for(engine: Engine, retries: Retries):
    await stalled_by_github(engine.ledger)
    assert await engine.rings() == 0
    answer = await retried(retries)
    assert answer.sentence == f"forgotten: 5 failures in a row, the last one: {SUSPENDED}"
    assert (answer.pool, answer.failures, answer.machines) == ("linux", 5, ())
    assert await retries.stalled(10) == []
    assert await engine.rings() >= 1


async def test_failures_of_machines_are_named_with_them(engine: Engine, retries: Retries):
    await stalled_by_machines(engine.ledger)
    answer = await retried(retries)
    assert answer.machines == ("board-4", "board-5")
    assert answer.sentence.startswith("forgotten: 5 failures in a row on board-4, board-5, ")


async def test_a_group_that_waits_for_its_next_try_need_not_wait(engine: Engine, retries: Retries):
    await stalled_by_github(engine.ledger, times=1)
    assert (await retried(retries)).sentence.startswith("forgotten: 1 failure, the last one: ")
    assert await engine.rings() == 1


async def test_a_second_retry_has_nothing_to_forget_and_rings_all_the_same(
    engine: Engine, retries: Retries
):
    await stalled_by_github(engine.ledger, times=1)
    await retried(retries)
    await engine.rings()
    sentence = (await retried(retries)).sentence
    assert sentence == "there was no failure to forget; pool linux is rung for all the same"
    assert await engine.rings() == 1


async def test_who_retried_what_is_told(engine: Engine, retries: Retries):
    await stalled_by_github(engine.ledger)
    async with engine.news.subscribe() as items:
        await retried(retries)
        item = await anext(items)
    assert item.event == "group.retried"
    assert item.fields == {
        "who": "mona",
        "pool": "linux",
        "scope": "repos/octo/hello",
        "failures": 5,
    }


async def test_an_unknown_job_is_not_found(retries: Retries):
    with pytest.raises(NotFound, match="job 7 is not in the ledger"):
        await retries.retry(JobId(7), "mona")


async def test_a_refused_job_says_what_would_help(engine: Engine, retries: Retries):
    command = "`mayfly access allow octo/hello linux` lets it"
    decision = Refused(reason=Reason.NOT_ALLOWED, sentence=command)
    job = msgspec.structs.replace(refused(queued_job(1)), decision=decision)
    sentence = await declined(engine, retries, job)
    assert sentence == f"job 1 was refused, which a retry does not change: {command}"


async def test_a_job_held_back_by_github_is_to_be_approved(engine: Engine, retries: Retries):
    assert "GitHub holds job 1 back" in await declined(engine, retries, waiting_job(1))


async def test_a_running_job_says_where(engine: Engine, retries: Retries):
    sentence = await declined(engine, retries, running_job(1, runner="r-1"))
    assert sentence == "job 1 is running on r-1; once it has ended, re-run it at GitHub"


async def test_an_ended_job_is_to_be_run_again_at_github(engine: Engine, retries: Retries):
    sentence = await declined(engine, retries, completed_job(1))
    assert sentence.startswith("job 1 has ended (success); re-run it at https://github.com/octo/")


async def test_the_newest_attempt_counts(engine: Engine, retries: Retries):
    await engine.ledger.record([completed_job(1), queued_job(1, attempt=2)])
    assert (await retried(retries)).attempt == 2


async def test_a_stalled_group_is_listed_with_a_job_to_retry(engine: Engine, retries: Retries):
    await engine.ledger.record([queued_job(9, labels=("self-hosted", "arm64"))])
    await stalled_by_github(engine.ledger)
    (stall,) = await retries.stalled(10)
    assert (stall.job, stall.group.queued, stall.group.fails) == (1, 5, 5)
    assert (stall.group.labels, stall.group.trouble) == (tuple(sorted(LINUX)), SUSPENDED)


async def test_a_stalled_group_without_a_job_is_listed_too(engine: Engine, retries: Retries):
    await stalled_by_github(engine.ledger)
    await engine.ledger.record([completed_job(number) for number in range(1, 6)])
    (stall,) = await retries.stalled(10)
    assert (stall.job, stall.group.queued) == (None, 0)


async def test_its_job_is_found_behind_thousands_of_others(engine: Engine, retries: Retries):
    await stalled_by_github(engine.ledger, first=5000)
    others = [queued_job(number, repository="busy") for number in range(1, SEARCHED + 10)]
    await engine.ledger.record(others)
    (stall,) = await retries.stalled(10)
    assert stall.job == 5000
