"""Workflow jobs: what the row is after another delivery."""

from collections.abc import Callable
from datetime import timedelta
from itertools import permutations

import msgspec
import pytest

from mayfly.model.jobs import JobState, WorkflowJob, merged
from tests.fakes.clocks import NOON
from tests.fakes.factories import (
    completed_job,
    pending,
    queued_job,
    refused,
    running_job,
    waiting_job,
)

Make = Callable[..., WorkflowJob]
LIFE = (waiting_job(), queued_job(), running_job(runner="r"), completed_job(runner="r"))


@pytest.mark.parametrize("order", list(permutations(LIFE)))
def test_every_order_of_deliveries_ends_in_the_same_state(order: tuple[WorkflowJob, ...]):
    row: WorkflowJob | None = None
    for job in order:
        before, row = row, merged(row, job)
        assert before is None or row.state >= before.state
    assert row is not None
    assert (row.state, row.event.runner_name) == (JobState.COMPLETED, "r")


@pytest.mark.parametrize("job", LIFE)
def test_the_same_delivery_again_changes_nothing(job: WorkflowJob):
    assert merged(job, job) is job


def test_an_earlier_runner_is_remembered_by_a_completion_without_one():
    row = merged(running_job(runner="r"), completed_job(runner=None))
    assert row.event.runner_name == "r"
    assert row.event.started_at == NOON


def test_the_earliest_creation_stands():
    row = merged(queued_job(age=30), running_job())
    assert row.event.created_at == NOON - timedelta(seconds=30)


def test_the_first_decision_and_reception_stand():
    first = msgspec.structs.replace(refused(queued_job()), received_at=NOON - timedelta(days=1))
    row = merged(first, running_job())
    assert (row.decision, row.group, row.received_at) == (
        first.decision,
        None,
        first.received_at,
    )


@pytest.mark.parametrize("make", [waiting_job, queued_job, running_job])
def test_a_job_of_an_app_that_was_installed_anew_is_asked_about_there(make: Make):
    old, new = make(1), make(1, installation=8)
    row = merged(old, new)
    assert row.event.installation == 8
    assert row.group == (old.group if make is running_job else new.group)
    assert merged(row, old) is row, "a late delivery of the old installation"


def test_an_end_stands_whichever_installation_told_of_it():
    end = completed_job(1)
    assert merged(end, completed_job(1, installation=8)) is end


def test_a_job_that_waited_is_decided_when_it_is_queued():
    first = msgspec.structs.replace(refused(waiting_job()), received_at=NOON - timedelta(days=1))
    row = merged(first, queued_job())
    assert (row.decision, row.group) == (queued_job().decision, queued_job().group)
    assert row.received_at == first.received_at


@pytest.mark.parametrize("later", [running_job(), completed_job()])
def test_a_job_that_was_pending_a_check_is_decided_when_more_is_heard_of_it(later: WorkflowJob):
    first = msgspec.structs.replace(pending(queued_job()), received_at=NOON - timedelta(days=1))
    row = merged(first, later)
    assert (row.decision, row.group) == (later.decision, later.group)
    assert row.received_at == first.received_at


def test_an_admitted_job_stays_admitted_when_nobody_can_check_it():
    row = merged(queued_job(), pending(running_job()))
    assert (row.state, row.decision) == (JobState.IN_PROGRESS, queued_job().decision)


def test_a_job_that_waited_is_not_admitted_by_its_old_decision_when_nobody_can_check_it():
    assert merged(waiting_job(), pending(queued_job())).pending


@pytest.mark.parametrize(
    ("job", "counts"),
    [
        (queued_job(), 1),
        (refused(queued_job()), 0),
        (pending(queued_job()), 0),
        (waiting_job(), 0),
        (running_job(), 0),
        (completed_job(), 0),
    ],
)
def test_only_queued_admitted_jobs_count(job: WorkflowJob, counts: int):
    assert job.counts == counts


def test_states_have_githubs_words():
    assert [state.word for state in JobState] == ["waiting", "queued", "in_progress", "completed"]
