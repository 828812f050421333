"""ports.Ledger: jobs that are pending a check, because the access rules could not be read."""

from mayfly.model.access import Admitted, Refused
from mayfly.model.jobs import JobId, JobState
from mayfly.model.protocol import Order
from tests.fakes.backends import OpenedStore
from tests.fakes.factories import (
    completed_job,
    pending,
    queued_job,
    refused,
    registered_claim,
    running_job,
    waiting_job,
)

BOOT = "boot-1"


async def pending_in(store: OpenedStore) -> list[int]:
    return [job.key.id for job in await store.ledger.pending(100)]


async def test_pending_jobs_are_listed_by_key_and_no_more_than_asked_for(store: OpenedStore):
    await store.ledger.record(
        [pending(queued_job(3)), pending(waiting_job(1)), refused(queued_job(2)), queued_job(4)]
    )
    assert await pending_in(store) == [1, 3]
    assert [job.key.id for job in await store.ledger.pending(1)] == [1]


async def test_a_pending_job_wants_no_runner_until_it_is_admitted(store: OpenedStore):
    await store.ledger.record([pending(queued_job(1))])
    assert (await store.use()).queued == 0
    changes = await store.ledger.redecide([queued_job(1)])
    assert changes.pools["linux"].opened == 1
    assert await pending_in(store) == []


async def test_a_pending_job_that_is_refused_is_not_pending_any_more(store: OpenedStore):
    await store.ledger.record([pending(queued_job(1))])
    await store.ledger.redecide([refused(queued_job(1))])
    assert await pending_in(store) == []


async def test_a_pending_job_that_ended_is_not_asked_about(store: OpenedStore):
    await store.ledger.record([pending(queued_job(1)), pending(queued_job(2))])
    await store.ledger.record([pending(completed_job(1)), completed_job(2)])
    assert await pending_in(store) == []


async def test_what_cannot_be_decided_again_stays_admitted(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    assert (await store.ledger.redecide([pending(queued_job(1))])).jobs == []
    assert (await store.use()).queued == 1


async def test_a_refused_job_that_cannot_be_decided_again_is_pending(store: OpenedStore):
    await store.ledger.record([refused(queued_job(1))])
    assert len((await store.ledger.redecide([pending(queued_job(1))])).jobs) == 1
    assert (await store.ledger.redecide([pending(queued_job(1))])).jobs == [], "no news"
    assert await pending_in(store) == [1]


async def test_github_s_word_about_an_admitted_job_leaves_it_admitted(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await store.ledger.checked(queued_job(1).key, pending(queued_job(1)))
    assert await pending_in(store) == []
    await store.ledger.checked(queued_job(1).key, pending(running_job(1)))
    (job,) = await store.ledger.attempts(JobId(1))
    assert job.state is JobState.IN_PROGRESS
    assert isinstance(job.decision, Admitted)


async def test_a_running_job_is_not_stopped_before_it_is_known_to_be_refused(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.record([pending(running_job(2, runner=mint.name))])
    assert await store.ledger.heartbeat(mint.claim.id, BOOT) is Order.CONTINUE
    await store.ledger.redecide([refused(running_job(2))])
    (job,) = await store.ledger.attempts(JobId(2))
    assert isinstance(job.decision, Refused)
    assert await store.ledger.heartbeat(mint.claim.id, BOOT) is Order.STOP
