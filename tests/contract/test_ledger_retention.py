"""ports.Ledger: what is over is forgotten in time, and old deliveries are doubted (R17)."""

import pytest

from mayfly.model.changes import Touch
from mayfly.model.jobs import JobId, JobKey, JobState, WorkflowJob
from mayfly.model.protocol import Outcome
from mayfly.model.runners import Claim, ClaimState, Sighting
from mayfly.ports import Ledger
from tests.fakes.backends import OpenedStore
from tests.fakes.factories import (
    UNBOUNDED,
    busy_claim,
    claimed,
    completed_job,
    now_of,
    order,
    queued_job,
    refused,
    registered_claim,
    running_job,
    waiting_job,
)

KEPT = 8 * 86_400
MANY = 1000
ONE = JobKey(JobId(1), 1)


async def known(ledger: Ledger) -> list[int]:
    return sorted(job.key.id for job in await ledger.jobs(MANY))


async def claims(ledger: Ledger) -> list[Claim]:
    return await ledger.claims(MANY, live=False)


@pytest.mark.parametrize(
    "job",
    [
        completed_job(1),
        refused(waiting_job(1)),
        refused(queued_job(1)),
        refused(running_job(1, runner="theirs")),
    ],
    ids=["completed", "refused waiting", "refused queued", "refused running"],
)
async def test_what_nobody_serves_is_forgotten_after_8_days_and_never_earlier(
    store: OpenedStore, job: WorkflowJob
):
    await store.ledger.record([job])
    await store.passes(KEPT - 1)
    assert await store.ledger.forget(MANY) == 0
    assert await known(store.ledger) == [1]
    await store.passes(1)
    assert await store.ledger.forget(MANY) == 1
    assert await known(store.ledger) == []
    assert await store.ledger.attempts(JobId(1)) == []


async def test_the_time_counts_from_the_end_of_the_job(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await store.passes(KEPT)
    await store.ledger.record([completed_job(1)])
    await store.passes(KEPT - 1)
    assert await store.ledger.forget(MANY) == 0
    assert await known(store.ledger) == [1]


async def test_a_job_that_was_closed_here_is_kept_as_long(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(1, attempt=2), queued_job(2)])
    for _ in range(2):
        await store.ledger.checked(queued_job(2).key, None)
    await store.passes(KEPT - 1)
    assert await store.ledger.forget(MANY) == 0
    await store.passes(1)
    assert await store.ledger.forget(MANY) == 2
    assert [job.key.attempt for job in await store.ledger.jobs(MANY)] == [2]


@pytest.mark.parametrize("job", [waiting_job(1), queued_job(1), running_job(1, runner="theirs")])
async def test_an_admitted_job_that_is_not_over_is_never_forgotten(
    store: OpenedStore, job: WorkflowJob
):
    await store.ledger.record([job, queued_job(2, age=90_000)])
    await store.passes(10 * KEPT)
    assert await store.ledger.forget(MANY) == 0
    assert await known(store.ledger) == [1, 2]


async def test_a_refused_job_that_was_admitted_in_time_is_kept(store: OpenedStore):
    await store.ledger.record([refused(queued_job(1))])
    await store.passes(KEPT - 1)
    await store.ledger.redecide([queued_job(1)])
    await store.passes(KEPT)
    assert await store.ledger.forget(MANY) == 0


async def test_a_refused_job_whose_claim_ended_is_kept_as_long(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.record([refused(running_job(2, runner=mint.name))])
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    await store.passes(KEPT - 1)
    assert await store.due_checks() == [1]
    assert await store.ledger.forget(MANY) == 0


async def test_a_late_redelivery_does_not_resurrect_a_job(store: OpenedStore):
    await store.ledger.record([completed_job(1)])
    await store.passes(KEPT - 1)
    await store.ledger.forget(MANY)
    assert (await store.ledger.record([queued_job(1)])).jobs == []
    assert await store.ledger.claim(order(), UNBOUNDED, None) is None


async def test_only_so_many_are_forgotten_at_once(store: OpenedStore):
    await store.ledger.record([completed_job(number) for number in range(1, 8)])
    await store.passes(KEPT)
    assert [await store.ledger.forget(3) for _ in range(4)] == [3, 3, 1, 0]


# Claims


async def test_a_claim_is_forgotten_8_days_after_its_end(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "")
    await store.passes(KEPT - 1)
    assert await store.ledger.forget(MANY) == 0
    await store.passes(1)
    assert await store.ledger.forget(MANY) == 1
    assert await claims(store.ledger) == []


async def test_a_live_claim_is_never_forgotten(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    await claimed(store.ledger, "m1")
    await busy_claim(store.ledger, "m2")
    await store.passes(10 * KEPT)
    assert await store.ledger.forget(MANY) == 0
    assert len(await claims(store.ledger)) == 2


async def test_a_claim_is_kept_until_its_names_are_proven_gone(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, "")
    await store.passes(2 * KEPT)
    await store.ledger.forget(MANY)
    assert await store.due_looks() == [mint.name]
    await store.ledger.saw(mint.name, Sighting.GONE)
    assert await store.ledger.forget(MANY) == 1
    assert await store.ledger.named(mint.name) is None


async def test_a_forgotten_key_may_be_used_again(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger, key="k")
    await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "")
    await store.passes(KEPT)
    await store.ledger.forget(MANY)
    again = await claimed(store.ledger, key="k")
    assert again.id != made.id


# Groups


async def test_a_group_without_anything_left_is_forgotten(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2, owner="mona")])
    await store.ledger.record([completed_job(1)])
    await store.passes(KEPT)
    await store.ledger.forget(MANY)
    over, kept = queued_job(1).group, queued_job(2, owner="mona").group
    assert over is not None
    assert kept is not None
    assert await store.ledger.group(over) is None
    assert await store.ledger.group(kept) is not None


async def test_a_group_with_a_claim_is_kept(store: OpenedStore):
    await store.ledger.record([queued_job(1), completed_job(2)])
    mint = await busy_claim(store.ledger)
    await store.passes(KEPT)
    assert await store.ledger.forget(MANY) == 1
    _, group = await store.ledger.claimed(mint.claim.id)
    assert group.id == queued_job(1).group


async def test_a_group_comes_back_with_its_next_job(store: OpenedStore):
    await store.ledger.record([waiting_job(1), completed_job(2), running_job(3, runner="theirs")])
    await store.passes(KEPT)
    await store.ledger.forget(MANY)
    await store.ledger.record([queued_job(1), completed_job(3)])
    assert await store.use() == (0, 1, 1)


async def test_the_failures_of_a_machine_are_forgotten_with_the_claims(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    for _ in range(2):
        made = await claimed(store.ledger, "m1")
        await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "no disk")
        await store.passes(20)
    await store.passes(2 * KEPT)
    await store.ledger.forget(MANY)
    made = await claimed(store.ledger, "m1")
    await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "no disk")
    assert await store.ledger.claim(order("m1"), UNBOUNDED, None) is not None, "a first failure"


# Deliveries too old to be believed

DAY = 86_400


async def test_a_delivery_older_than_a_day_does_not_count_before_github_confirms_it(
    store: OpenedStore,
):
    changes = await store.ledger.record([queued_job(1, age=DAY + 1)])
    assert changes.pools == {}
    assert [job.key for job in changes.jobs] == [ONE]
    assert await store.use() == (0, 0, 0)
    assert await store.due_checks() == [1], "it is asked about at once"
    changes = await store.ledger.checked(ONE, queued_job(1, age=DAY + 1, asked=True))
    assert changes.pools == {"linux": Touch(opened=1, freed=0, used=0, open=1)}


async def test_a_delivery_of_exactly_a_day_counts(store: OpenedStore):
    await store.ledger.record([queued_job(1, age=DAY)])
    assert await store.use() == (0, 1, 1)


@pytest.mark.parametrize("state", [completed_job, running_job])
async def test_an_old_delivery_that_is_long_over_is_closed_by_the_answer(store: OpenedStore, state):
    await store.ledger.record([queued_job(1, age=DAY + 1)])
    await store.ledger.checked(ONE, state(1, asked=True))
    assert await store.use() == (0, 0, 0)
    (job,) = await store.ledger.attempts(JobId(1))
    assert job.state > JobState.QUEUED


async def test_an_old_delivery_github_knows_nothing_of_is_closed_as_gone(store: OpenedStore):
    await store.ledger.record([queued_job(1, age=DAY + 1)])
    for _ in range(2):
        await store.ledger.checked(ONE, None)
    (job,) = await store.ledger.attempts(JobId(1))
    assert job.event.conclusion == "gone"
    assert await store.use() == (0, 0, 0)


async def test_an_old_delivery_is_not_asked_about_all_the_time_when_github_is_silent(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1, age=DAY + 1)])
    await store.ledger.postponed(ONE)
    assert await store.due_checks() == []


async def test_a_job_that_was_known_to_wait_counts_however_old_it_is(store: OpenedStore):
    await store.ledger.record([waiting_job(1, age=2 * DAY)])
    await store.ledger.record([queued_job(1, age=2 * DAY)])
    assert await store.use() == (0, 1, 1)


async def test_an_old_job_github_was_asked_for_counts_at_once(store: OpenedStore):
    await store.ledger.record([queued_job(1, age=2 * DAY, asked=True)])
    assert await store.use() == (0, 1, 1)


async def test_an_old_job_that_runs_is_believed(store: OpenedStore):
    await store.ledger.record([queued_job(2)])
    mint = await registered_claim(store.ledger)
    await store.ledger.record([running_job(1, runner=mint.name, age=2 * DAY)])
    assert (await now_of(store.ledger, mint.claim.id)).state is ClaimState.BUSY
