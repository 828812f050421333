"""ports.Ledger: when GitHub is asked about a job, and what its answers do (R10)."""

import pytest

from mayfly.model.changes import Touch
from mayfly.model.jobs import JobId, JobKey, JobState, WorkflowJob
from mayfly.model.protocol import Outcome
from mayfly.model.runners import ClaimState, Sighting
from tests.fakes.backends import OpenedStore
from tests.fakes.factories import (
    busy_claim,
    claimed,
    completed_job,
    now_of,
    queued_job,
    refused,
    registered_claim,
    running_job,
    waiting_job,
)

MINUTE = 60
ONE = JobKey(JobId(1), 1)


async def row_of(store: OpenedStore, job_id: int = 1, attempt: int = 1) -> WorkflowJob:
    found = await store.ledger.job(JobKey(JobId(job_id), attempt))
    assert found is not None
    return found


async def ends_of(store: OpenedStore, job_id: int = 1) -> list[tuple[int, str, str | None]]:
    """Attempt, state and conclusion of every attempt, newest first."""
    return [
        (job.key.attempt, job.state.word, job.event.conclusion)
        for job in await store.ledger.attempts(JobId(job_id))
    ]


# When


async def asked_after(store: OpenedStore, minutes: float, answer: WorkflowJob) -> None:
    """Not a second before, and then GitHub answers."""
    await store.passes(minutes * MINUTE - 1)
    assert await store.due_checks() == []
    await store.passes(1)
    assert await store.due_checks() == [answer.key.id]
    await store.ledger.checked(answer.key, answer)


async def test_a_queued_job_is_asked_about_after_3_minutes_then_twice_as_late_up_to_30(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    for minutes in (3, 6, 12, 24, 30, 30):
        await asked_after(store, minutes, queued_job(1, asked=True))


async def test_a_running_job_is_asked_about_every_30_minutes(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await store.passes(2 * MINUTE)
    await store.ledger.record([running_job(1, runner="theirs")])
    for minutes in (30, 30, 30):
        await asked_after(store, minutes, running_job(1, runner="theirs", asked=True))


async def test_a_job_held_back_by_an_approval_is_asked_about_ever_more_rarely(store: OpenedStore):
    await store.ledger.record([waiting_job(1)])
    for minutes in (30, 60, 120, 240, 240):
        await asked_after(store, minutes, waiting_job(1, asked=True))


async def test_a_job_that_moves_on_is_asked_about_like_a_fresh_one(store: OpenedStore):
    await store.ledger.record([waiting_job(1)])
    await asked_after(store, 30, waiting_job(1, asked=True))
    await store.ledger.record([queued_job(1)])
    await asked_after(store, 3, queued_job(1, asked=True))


async def test_a_job_is_asked_about_45_seconds_after_its_claim_ended(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await busy_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    await asked_after(store, 0.75, running_job(1, runner=mint.name, asked=True))


async def test_a_job_whose_claim_had_ended_before_it_was_named_is_asked_about_soon_too(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    await store.ledger.record([running_job(1, runner=mint.name)])
    await asked_after(store, 0.75, running_job(1, runner=mint.name, asked=True))


@pytest.mark.parametrize("sighting", [Sighting.BUSY, Sighting.GONE])
async def test_a_runner_that_is_a_riddle_has_the_five_oldest_jobs_asked_about_at_once(
    store: OpenedStore, sighting: Sighting
):
    jobs = [queued_job(number, age=number) for number in range(1, 8)]
    await store.ledger.record([*jobs, queued_job(8, repository="other", age=99)])
    await store.ledger.record([completed_job(8, repository="other")])
    mint = await registered_claim(store.ledger)
    await store.ledger.saw(mint.name, sighting)
    assert sorted(await store.due_checks()) == [3, 4, 5, 6, 7]


async def test_a_runner_whose_job_is_known_is_no_riddle(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    mint = await busy_claim(store.ledger)
    await store.ledger.saw(mint.name, Sighting.BUSY)
    await store.ledger.saw(mint.name, Sighting.GONE)
    assert await store.due_checks() == []


async def test_a_refused_job_is_never_asked_about(store: OpenedStore):
    await store.ledger.record([refused(queued_job(1)), refused(running_job(2, runner="theirs"))])
    await store.passes(7 * 86_400)
    assert await store.due_checks() == []


async def test_a_refused_job_that_is_admitted_is_asked_about_from_then_on(store: OpenedStore):
    await store.ledger.record([refused(queued_job(1))])
    await store.passes(60 * MINUTE)
    await store.ledger.redecide([queued_job(1)])
    await asked_after(store, 3, queued_job(1, asked=True))


async def test_a_completed_job_is_never_asked_about(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await store.ledger.record([completed_job(1)])
    await store.passes(7 * 86_400)
    assert await store.due_checks() == []


async def test_what_is_due_longest_comes_first_and_is_bounded(store: OpenedStore):
    await store.ledger.record([queued_job(3)])
    await store.passes(10)
    await store.ledger.record([queued_job(2), queued_job(1)])
    await store.passes(10 * MINUTE)
    assert await store.due_checks() == [3, 1, 2]
    assert [job.key.id for job in (await store.ledger.due(2)).checks] == [3, 1]


async def test_a_job_github_cannot_be_asked_about_moves_to_the_end(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    await store.passes(3 * MINUTE)
    await store.ledger.postponed(ONE)
    assert await store.due_checks() == [2]
    await store.passes(6 * MINUTE)
    assert await store.due_checks() == [2, 1]


async def test_a_job_postponed_time_and_again_is_asked_about_ever_more_rarely(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    for minutes in (3, 6, 12, 24, 30, 30):
        await store.passes(minutes * MINUTE - 1)
        assert await store.due_checks() == []
        await store.passes(1)
        assert await store.due_checks() == [1]
        await store.ledger.postponed(ONE)


# What the answers do


async def test_an_answer_that_says_nothing_new_changes_nothing(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    changes = await store.ledger.checked(ONE, queued_job(1, asked=True))
    assert (changes.jobs, changes.pools) == ([], {})
    assert await store.use() == (0, 1, 1)


async def test_a_lost_in_progress_is_made_up_for(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    changes = await store.ledger.checked(ONE, running_job(1, runner=mint.name, asked=True))
    assert [job.state for job in changes.jobs] == [JobState.IN_PROGRESS]
    claim = await now_of(store.ledger, mint.claim.id)
    assert (claim.state, claim.job) == (ClaimState.BUSY, ONE)


async def test_a_lost_completed_is_made_up_for(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await busy_claim(store.ledger)
    changes = await store.ledger.checked(ONE, completed_job(1, runner=mint.name, asked=True))
    assert changes.pools == {"linux": Touch(opened=0, freed=1, used=0, open=0)}
    assert await ends_of(store) == [(1, "completed", "success")]
    assert (await now_of(store.ledger, mint.claim.id)).state is ClaimState.DONE
    assert await store.ledger.unproven() == []


@pytest.mark.parametrize("answer", [waiting_job(1, asked=True), queued_job(1, asked=True)])
async def test_an_answer_never_moves_a_job_back(store: OpenedStore, answer: WorkflowJob):
    await store.ledger.record([running_job(1, runner="theirs")])
    await store.ledger.checked(ONE, answer)
    assert await ends_of(store) == [(1, "in_progress", None)]
    assert await store.use() == (0, 0, 0)


async def test_the_first_decision_stands_whatever_the_answer_was_judged(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await store.ledger.checked(ONE, refused(running_job(1, runner="theirs", asked=True)))
    assert (await row_of(store)).group == queued_job(1).group


async def test_twice_not_found_closes_a_job_as_gone(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    changes = await store.ledger.checked(ONE, None)
    assert changes.jobs == []
    assert await ends_of(store) == [(1, "queued", None)]
    changes = await store.ledger.checked(ONE, None)
    assert [job.event.conclusion for job in changes.jobs] == ["gone"]
    assert await ends_of(store) == [(1, "completed", "gone")]
    await store.passes(30)
    assert [claim.id for claim in (await store.ledger.due(10)).surplus] == [made.id]


async def test_the_second_question_about_a_job_that_was_not_found_comes_after_a_minute(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    await store.passes(3 * MINUTE)
    await store.ledger.checked(ONE, None)
    await asked_after(store, 1, queued_job(1, asked=True))


async def test_an_answer_in_between_makes_the_next_not_found_the_first(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    for answer in (None, queued_job(1, asked=True), None):
        await store.ledger.checked(ONE, answer)
    assert await ends_of(store) == [(1, "queued", None)]


async def test_a_question_that_failed_is_neither_an_answer_nor_a_miss(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await store.ledger.checked(ONE, None)
    await store.ledger.postponed(ONE)
    assert await ends_of(store) == [(1, "queued", None)]
    await store.ledger.checked(ONE, None)
    assert await ends_of(store) == [(1, "completed", "gone")]


async def test_a_job_that_moved_on_starts_its_misses_anew(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await store.ledger.checked(ONE, None)
    await store.ledger.record([running_job(1, runner="theirs")])
    await store.ledger.checked(ONE, None)
    assert await ends_of(store) == [(1, "in_progress", None)]


@pytest.mark.parametrize("job", [completed_job(1), None])
async def test_what_comes_of_a_question_too_late_changes_nothing(
    store: OpenedStore, job: WorkflowJob | None
):
    if job is not None:
        await store.ledger.record([job])
    before = await ends_of(store)
    for answer in (None, running_job(1, runner="theirs", asked=True)):
        assert (await store.ledger.checked(ONE, answer)).jobs == []
    await store.ledger.postponed(ONE)
    assert await ends_of(store) == before


# Held back after it was queued


async def test_a_queued_job_github_calls_waiting_counts_again_when_it_is_queued(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    await store.ledger.checked(ONE, waiting_job(1, asked=True))
    assert await store.use() == (0, 0, 0)
    assert (await row_of(store)).state is JobState.QUEUED
    await asked_after(store, 6, waiting_job(1, asked=True))
    assert (await store.use()).open == 0
    changes = await store.ledger.checked(ONE, queued_job(1, asked=True))
    assert changes.pools == {"linux": Touch(opened=1, freed=0, used=0, open=1)}
    assert await store.ledger.ahead(queued_job(2)) == 1


async def test_a_delivery_of_a_job_that_does_not_count_has_github_asked_at_once(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    await store.ledger.checked(ONE, waiting_job(1, asked=True))
    assert (await store.ledger.due(10)).checks == []
    await store.ledger.record([queued_job(1)])
    assert [job.key for job in (await store.ledger.due(10)).checks] == [ONE]
    assert (await store.use()).open == 0


async def test_a_job_that_does_not_count_is_no_reason_for_a_claim(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2, age=9)])
    await store.ledger.checked(queued_job(2).key, waiting_job(2, asked=True))
    await claimed(store.ledger)
    assert (await store.use()).open == 0
    assert await store.ledger.ahead(queued_job(1)) == 0


async def test_a_job_that_does_not_count_may_begin_and_end_all_the_same(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await store.ledger.checked(ONE, waiting_job(1, asked=True))
    await store.ledger.record([running_job(1, runner="theirs")])
    assert await store.use() == (0, 0, 0)
    await store.ledger.record([completed_job(1)])
    assert await ends_of(store) == [(1, "completed", "success")]


async def test_redeciding_leaves_a_job_that_does_not_count_uncounted(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await store.ledger.checked(ONE, waiting_job(1, asked=True))
    await store.ledger.redecide([refused(queued_job(1))])
    await store.ledger.redecide([queued_job(1)])
    assert await store.use() == (0, 0, 0)
    assert await store.due_checks() == [1], "GitHub is asked anew"


# Another attempt

FIRST, SECOND = queued_job(1), queued_job(1, attempt=2)


@pytest.mark.parametrize(
    "batches",
    [[[FIRST], [SECOND]], [[SECOND], [FIRST]], [[FIRST, SECOND]], [[SECOND, FIRST]]],
    ids=["in order", "backwards", "in one batch", "backwards in one batch"],
)
async def test_a_higher_attempt_closes_the_older_one(
    store: OpenedStore, batches: list[list[WorkflowJob]]
):
    for batch in batches:
        await store.ledger.record(batch)
    assert await ends_of(store) == [(2, "queued", None), (1, "completed", "superseded")]
    assert await store.use() == (0, 1, 1)


async def test_of_many_attempts_the_highest_alone_stays_open(store: OpenedStore):
    attempts = [queued_job(1, attempt=number) for number in (2, 4, 1, 3)]
    await store.ledger.record([*attempts, running_job(1, attempt=2, runner="theirs")])
    assert [attempt for attempt, state, _ in await ends_of(store) if state != "completed"] == [4]


async def test_a_conclusion_github_has_told_stands(store: OpenedStore):
    await store.ledger.record([completed_job(1)])
    await store.ledger.record([queued_job(1, attempt=2)])
    assert await ends_of(store) == [(2, "queued", None), (1, "completed", "success")]


async def test_a_refused_attempt_is_closed_as_well(store: OpenedStore):
    await store.ledger.record([refused(queued_job(1))])
    await store.ledger.record([queued_job(1, attempt=2)])
    assert await ends_of(store) == [(2, "queued", None), (1, "completed", "superseded")]


async def test_an_answer_about_a_higher_attempt_closes_the_one_asked_about(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await store.ledger.checked(ONE, queued_job(1, attempt=2, asked=True))
    assert await ends_of(store) == [(2, "queued", None), (1, "completed", "superseded")]
    assert await store.use() == (0, 1, 1)


async def test_an_answer_about_a_lower_attempt_leaves_the_higher_open(store: OpenedStore):
    await store.ledger.record([queued_job(1, attempt=2)])
    await store.ledger.checked(SECOND.key, completed_job(1, asked=True))
    assert await ends_of(store) == [(2, "queued", None), (1, "completed", "success")]


async def test_the_attempts_of_other_jobs_are_left_alone(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2, attempt=2), queued_job(3, attempt=3)])
    assert (await store.use()).queued == 3


# A job that was closed as gone, and is there after all


async def closed_as_gone(store: OpenedStore) -> None:
    await store.ledger.record([queued_job(1)])
    for _ in range(2):
        await store.ledger.checked(ONE, None)
    assert await ends_of(store) == [(1, "completed", "gone")]


async def test_a_job_that_was_hidden_for_a_while_is_served_when_github_shows_it_again(
    store: OpenedStore,
):
    await closed_as_gone(store)
    await store.ledger.record([queued_job(1, asked=True)])
    assert await ends_of(store) == [(1, "queued", None)]
    assert await store.use() == (0, 1, 1)


async def test_a_delivery_of_a_job_that_was_gone_makes_github_be_asked_and_counts_nothing(
    store: OpenedStore,
):
    await closed_as_gone(store)
    await store.ledger.record([queued_job(1)])
    assert await store.use() == (0, 0, 0)
    assert [job.key for job in (await store.ledger.due(10)).checks] == [ONE]


async def test_a_queued_job_moves_to_the_group_of_the_app_that_was_installed_anew(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    await store.ledger.record([queued_job(1, installation=8, asked=True)])
    assert await store.use() == (0, 1, 1)
    made = await claimed(store.ledger)
    assert made.group == queued_job(1, installation=8).group
    assert (await store.use()).open == 0


async def test_running_jobs_are_asked_about_although_thousands_are_queued(store: OpenedStore):
    await store.ledger.record([queued_job(number) for number in range(2, 40)])
    await store.passes(4 * MINUTE)
    await store.ledger.record([running_job(1)])
    await store.passes(30 * MINUTE)
    checks = (await store.ledger.due(5)).checks
    assert checks[0].key == ONE
    assert len(checks) == 6
