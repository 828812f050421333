"""ports.Ledger: how far the delivery log was read, and where jobs have come from (R11)."""

from datetime import timedelta

import msgspec

from mayfly.model.deliveries import LogPosition
from mayfly.model.jobs import InstallationId
from mayfly.model.repositories import Repository
from tests.fakes.backends import OpenedStore
from tests.fakes.clocks import NOON, TURN
from tests.fakes.factories import completed_job, queued_job, refused, waiting_job

HELLO = Repository(InstallationId(7), "octo", "hello")


async def test_there_is_no_position_before_the_log_was_read(store: OpenedStore):
    assert await store.ledger.log_position() is None
    await store.ledger.tick("a", TURN)
    assert await store.ledger.log_position() is None


async def test_the_position_reads_back(store: OpenedStore):
    position = LogPosition(12345678901, NOON + timedelta(milliseconds=7))
    await store.ledger.log_read(position)
    assert await store.ledger.log_position() == position


async def test_the_position_never_moves_back(store: OpenedStore):
    later = LogPosition(5, NOON)
    await store.ledger.log_read(later)
    await store.ledger.log_read(LogPosition(9, NOON - timedelta(seconds=1)))
    assert await store.ledger.log_position() == later
    await store.ledger.log_read(LogPosition(6, NOON + timedelta(seconds=1)))
    assert await store.ledger.log_position() == LogPosition(6, NOON + timedelta(seconds=1))


async def test_ledger_time_and_the_position_leave_each_other_alone(store: OpenedStore):
    await store.ledger.log_read(LogPosition(5, NOON))
    at = await store.passes(100)
    assert await store.ledger.log_position() == LogPosition(5, NOON)
    await store.ledger.log_read(LogPosition(6, NOON))
    assert await store.passes(0) == at


# Repositories


async def test_repositories_are_those_of_admitted_jobs_in_order(store: OpenedStore):
    await store.ledger.record(
        [
            queued_job(1),
            completed_job(2),
            queued_job(3, repository="a"),
            queued_job(4, owner="acme", installation=8),
            waiting_job(5, repository="b"),
            refused(queued_job(6, repository="secret")),
        ]
    )
    assert await store.ledger.repositories(NOON) == [
        Repository(InstallationId(7), "octo", "a"),
        Repository(InstallationId(7), "octo", "b"),
        HELLO,
        Repository(InstallationId(8), "acme", "hello"),
    ]


async def test_repositories_nobody_heard_of_since_are_left_out(store: OpenedStore):
    long_ago = msgspec.structs.replace(queued_job(1), received_at=NOON - timedelta(days=1))
    await store.ledger.record([long_ago, queued_job(2, repository="new")])
    since = NOON - timedelta(hours=23)
    assert [one.name for one in await store.ledger.repositories(since)] == ["new"]
    assert len(await store.ledger.repositories(NOON - timedelta(days=1))) == 2


# Scopes


async def test_scopes_are_where_groups_have_their_runners_each_once(store: OpenedStore):
    await store.ledger.record(
        [
            queued_job(1, repository="b"),
            queued_job(2, repository="b", labels=("self-hosted", "arm64")),
            queued_job(3, repository="a"),
            queued_job(4, owner="acme", installation=8),
            refused(queued_job(5, repository="secret")),
        ]
    )
    assert await store.ledger.scopes(NOON) == [
        (7, "repos/octo/a"),
        (7, "repos/octo/b"),
        (8, "repos/acme/hello"),
    ]


async def test_a_scope_outlives_its_jobs_and_is_left_out_when_none_was_heard_of(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1), completed_job(1)])
    assert await store.ledger.scopes(NOON) == [(7, "repos/octo/hello")]
    assert await store.ledger.scopes(NOON + timedelta(seconds=1)) == []


async def test_a_scope_whose_only_job_does_not_count_yet_is_none(store: OpenedStore):
    await store.ledger.record([queued_job(1, age=90_000)])
    assert await store.ledger.scopes(NOON) == []
    await store.ledger.checked(queued_job(1).key, queued_job(1, age=90_000, asked=True))
    assert await store.ledger.scopes(NOON) == [(7, "repos/octo/hello")]
