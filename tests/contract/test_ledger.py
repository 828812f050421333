"""ports.Ledger: what every store promises of jobs, demand and claims (rules R1, R2, R8)."""

from datetime import timedelta

import msgspec
import pytest

from mayfly.model.access import Admitted, Scope
from mayfly.model.changes import PoolUse, Touch
from mayfly.model.deadlines import Deadlines
from mayfly.model.jobs import JobId, JobKey, JobState
from mayfly.model.protocol import Order
from mayfly.model.runners import ClaimState
from mayfly.ports import Ledger
from tests.fakes.backends import OpenedStore
from tests.fakes.clocks import NOON, TURN, pass_time
from tests.fakes.factories import (
    UNBOUNDED,
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

ARM = ("self-hosted", "arm64")


async def state_of(ledger: Ledger, job_id: int = 1, attempt: int = 1) -> JobState | None:
    found = await ledger.job(JobKey(JobId(job_id), attempt))
    return found.state if found else None


async def use_of(ledger: Ledger, pool: str = "linux") -> PoolUse:
    return (await ledger.pools()).get(pool, PoolUse(0, 0, 0))


# Jobs


async def test_a_queued_job_opens_its_group(store: OpenedStore):
    changes = await store.ledger.record([queued_job(1)])
    assert changes.pools == {"linux": Touch(opened=1, freed=0, used=0, open=1)}
    assert [job.key.id for job in changes.jobs] == [1]
    assert await use_of(store.ledger) == PoolUse(used=0, queued=1, open=1)


async def test_a_job_reads_back_as_it_was_recorded(store: OpenedStore):
    job = queued_job(1, labels=("self-hosted", "linux", "Rust"), age=12.5)
    await store.ledger.record([job])
    due = Deadlines().check_queued_seconds
    assert await store.ledger.job(job.key) == msgspec.structs.replace(job, due_at=due)
    assert await store.ledger.job(JobKey(JobId(1), 2)) is None


async def test_a_delivery_that_comes_twice_counts_once(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(1)])
    again = await store.ledger.record([queued_job(1)])
    assert (again.jobs, again.pools) == ([], {})
    assert (await use_of(store.ledger)).queued == 1


async def test_a_job_never_moves_back(store: OpenedStore):
    for job in (completed_job(1), running_job(1), queued_job(1), waiting_job(1)):
        await store.ledger.record([job])
        assert await state_of(store.ledger) is JobState.COMPLETED
    assert (await use_of(store.ledger)).queued == 0


async def test_in_progress_before_queued_wants_no_runner(store: OpenedStore):
    await store.ledger.record([running_job(1, runner="theirs")])
    changes = await store.ledger.record([queued_job(1)])
    assert changes.pools == {}
    assert await state_of(store.ledger) is JobState.IN_PROGRESS


async def test_a_batch_may_hold_a_whole_life_of_a_job_backwards(store: OpenedStore):
    await store.ledger.record([completed_job(1), running_job(1), queued_job(1)])
    assert await state_of(store.ledger) is JobState.COMPLETED


async def test_a_waiting_job_wants_no_runner_before_it_is_queued(store: OpenedStore):
    await store.ledger.record([waiting_job(1)])
    assert await store.ledger.claim(order(), UNBOUNDED, None) is None
    changes = await store.ledger.record([queued_job(1)])
    assert changes.pools["linux"].opened == 1


async def test_waiting_to_queued_decides_again_and_keeps_the_reception(store: OpenedStore):
    first = msgspec.structs.replace(refused(waiting_job(1)), received_at=NOON - timedelta(hours=1))
    await store.ledger.record([first])
    await store.ledger.record([queued_job(1)])
    job = await store.ledger.job(first.key)
    assert job is not None
    assert job.decision == queued_job(1).decision
    assert job.received_at == first.received_at


async def test_the_first_decision_about_a_queued_job_stands(store: OpenedStore):
    await store.ledger.record([refused(queued_job(1))])
    await store.ledger.record([running_job(1)])
    job = await store.ledger.job(queued_job(1).key)
    assert job is not None
    assert job.group is None


async def test_another_attempt_is_another_row(store: OpenedStore):
    await store.ledger.record([queued_job(1), completed_job(1), queued_job(1, attempt=2)])
    attempts = await store.ledger.attempts(JobId(1))
    assert [(job.key.attempt, job.state) for job in attempts] == [
        (2, JobState.QUEUED),
        (1, JobState.COMPLETED),
    ]
    assert (await use_of(store.ledger)).queued == 1


async def test_a_refused_job_gets_no_claim(store: OpenedStore):
    changes = await store.ledger.record([refused(queued_job(1))])
    assert changes.pools == {}
    assert await store.ledger.claim(order(), UNBOUNDED, None) is None


async def test_labels_group_without_case_and_order(store: OpenedStore):
    await store.ledger.record(
        [queued_job(1), queued_job(2, labels=("Self-Hosted", "LINUX")), queued_job(3, labels=ARM)]
    )
    assert (await use_of(store.ledger)).queued == 2
    assert (await use_of(store.ledger, "arm64")).queued == 1


async def test_a_group_reads_back_with_what_identifies_it(store: OpenedStore):
    job = queued_job(1, labels=("self-hosted", "linux", "Rust"), owner="Octo")
    await store.ledger.record([job])
    assert job.group is not None
    group = await store.ledger.group(job.group)
    assert group is not None
    assert (group.pool, group.owner, group.variant) == ("linux", "octo", "rust")
    assert group.scope == Scope("repos/Octo/hello")
    assert group.labels == ("linux", "rust", "self-hosted")
    assert (group.queued, group.supply, group.sure, group.surplus_since) == (1, 0, 0, None)


async def test_redecide_admits_a_refused_job_that_is_still_queued(store: OpenedStore):
    await store.ledger.record([refused(queued_job(1)), refused(running_job(2))])
    changes = await store.ledger.redecide([queued_job(1), queued_job(2)])
    assert [job.key.id for job in changes.jobs] == [1]
    assert changes.pools["linux"].opened == 1
    assert (await store.ledger.redecide([queued_job(1)])).jobs == []


async def test_redecide_takes_a_job_out_of_its_group(store: OpenedStore):
    await store.ledger.record([queued_job(1, age=60), queued_job(2)])
    await store.ledger.redecide([refused(queued_job(1))])
    assert (await use_of(store.ledger)).queued == 1
    assert await store.ledger.ahead(queued_job(2)) == 0


async def test_a_job_that_left_its_group_does_not_make_it_older(store: OpenedStore):
    await store.ledger.record(
        [
            queued_job(1, repository="first", age=100),
            queued_job(2, repository="first", age=10),
            queued_job(3, repository="second", age=50),
        ]
    )
    await store.ledger.redecide([refused(queued_job(1, repository="first", age=100))])
    made = await claimed(store.ledger)
    assert made.group == queued_job(3, repository="second").group


async def test_queued_jobs_come_in_pages_refused_ones_too(store: OpenedStore):
    await store.ledger.record([queued_job(2), refused(queued_job(1)), queued_job(3)])
    await store.ledger.record([running_job(3)])
    page = await store.ledger.queued(1)
    assert [job.key.id for job in page] == [1]
    assert [job.key.id for job in await store.ledger.queued(5, page[-1].key)] == [2]


async def test_the_newest_jobs_come_first_and_by_pool(store: OpenedStore):
    later = msgspec.structs.replace(queued_job(1), received_at=NOON + timedelta(seconds=1))
    await store.ledger.record([later, queued_job(2), queued_job(3, labels=ARM)])
    assert [job.key.id for job in await store.ledger.jobs(10)] == [1, 3, 2]
    assert [job.key.id for job in await store.ledger.jobs(1, "linux")] == [1]


async def test_jobs_ahead_are_the_older_ones_of_the_group(store: OpenedStore):
    older, same, younger = queued_job(9, age=9), queued_job(1), queued_job(2)
    await store.ledger.record([older, same, younger, queued_job(3, repository="other", age=99)])
    assert [await store.ledger.ahead(job) for job in (older, same, younger)] == [0, 1, 2]
    assert await store.ledger.ahead(refused(queued_job(4))) == 0


# Heartbeats and ledger time


async def test_a_heartbeat_goes_on_while_the_claim_lives_and_stops_when_it_ended(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    assert await store.ledger.heartbeat(made.id, made.boot) is Order.CONTINUE
    await store.ledger.record([completed_job(1)])
    await store.ledger.relieve(made.id)
    assert await store.ledger.heartbeat(made.id, made.boot) is Order.STOP


async def test_a_runner_with_a_refused_job_is_stopped(store: OpenedStore):
    await store.ledger.record([queued_job(1), refused(queued_job(2))])
    mint = await registered_claim(store.ledger)
    await store.ledger.record([refused(running_job(2, runner=mint.name))])
    assert await store.ledger.heartbeat(mint.claim.id, mint.claim.boot) is Order.STOP


async def test_a_runner_gets_a_minute_to_exit_after_its_job(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.record([completed_job(1, runner=mint.name)])
    await pass_time(store.ledger, store.clock, 59)
    assert await store.ledger.heartbeat(mint.claim.id, mint.claim.boot) is Order.CONTINUE
    await pass_time(store.ledger, store.clock, 1)
    assert await store.ledger.heartbeat(mint.claim.id, mint.claim.boot) is Order.STOP


PERIOD = timedelta(seconds=20)


async def test_ledger_time_moves_with_real_time(store: OpenedStore):
    assert await store.ledger.tick("a", PERIOD) == 0
    store.clock.advance(13.5)
    assert await store.ledger.tick("a", PERIOD) == 13.5


async def test_an_outage_adds_at_most_two_periods(store: OpenedStore):
    await store.ledger.tick("a", PERIOD)
    store.clock.advance(3600)
    assert await store.ledger.tick("a", PERIOD) == 40


async def test_a_clock_set_back_does_not_move_ledger_time_back(store: OpenedStore):
    await store.ledger.tick("a", PERIOD)
    store.clock.advance(-3600)
    assert await store.ledger.tick("a", PERIOD) == 0


async def test_a_second_instance_takes_over_when_the_first_is_gone(store: OpenedStore):
    await store.ledger.tick("a", PERIOD)
    store.clock.advance(59)
    assert await store.ledger.tick("b", PERIOD) is None
    assert await store.ledger.tick("a", PERIOD) == 40
    store.clock.advance(60)
    assert await store.ledger.tick("b", PERIOD) == 80
    assert await store.ledger.tick("a", PERIOD) is None


async def test_the_next_instance_leads_at_once_when_the_leader_resigns(store: OpenedStore):
    await store.ledger.tick("a", PERIOD)
    await store.ledger.resign("a")
    store.clock.advance(1)
    assert await store.ledger.tick("b", PERIOD) == 1
    assert await store.ledger.tick("a", PERIOD) is None


async def test_only_the_leader_can_resign(store: OpenedStore):
    await store.ledger.resign("nobody leads yet")
    await store.ledger.tick("a", PERIOD)
    await store.ledger.resign("b")
    assert await store.ledger.tick("b", PERIOD) is None


# Atomicity


async def test_a_verb_that_fails_leaves_nothing_behind(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    mint = await registered_claim(store.ledger)
    job = running_job(2)
    state: object = "nonsense"  # what no delivery decodes to: a step may fail for any reason
    broken = msgspec.structs.replace(job, event=msgspec.structs.replace(job.event, state=state))
    with pytest.raises(TypeError):
        await store.ledger.record([completed_job(1, runner=mint.name), broken])
    assert await state_of(store.ledger) is JobState.QUEUED
    assert (await now_of(store.ledger, mint.claim.id)).state is ClaimState.REGISTERED
    assert [name.name for name in await store.ledger.unproven()] == [mint.name]


async def test_a_leader_whose_clock_was_ahead_locks_nobody_out(store: OpenedStore):
    store.clock.advance(86_400)
    await store.ledger.tick("ahead", TURN)
    store.clock.advance(-86_400)
    assert await store.ledger.tick("another", TURN) is not None


async def test_one_group_spelled_in_two_ways_in_one_batch_is_one(store: OpenedStore):
    jobs = [queued_job(1), queued_job(2)]
    decision = jobs[1].decision
    assert isinstance(decision, Admitted)
    admitted = msgspec.structs.replace(decision, scope=Scope(decision.scope.upper()))
    jobs[1] = msgspec.structs.replace(jobs[1], decision=admitted)
    await store.ledger.record(jobs)
    assert (await store.use()).queued == 2
    assert jobs[0].group == jobs[1].group
