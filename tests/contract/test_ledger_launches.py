"""Launches in the ledger: what is wanted, what is given up, and what a ticket gives."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from mayfly.model.executors import Choice, Command
from mayfly.model.launches import (
    Launched,
    LaunchId,
    LaunchPhase,
    LaunchRecord,
    LaunchState,
    Plan,
    Redemption,
    TicketRefused,
    machine_of,
)
from mayfly.model.pools import Pool
from mayfly.model.protocol import AttendOrder, ClaimOrder, Duty, Outcome
from tests.fakes.backends import OpenedStore
from tests.fakes.factories import completed_job, queued_job

POOL = Pool(name="linux", max=4, launcher="cloud", start_deadline_seconds=300)


async def scaled(store: OpenedStore, pool: Pool = POOL, *, overflows: bool = True) -> Plan:
    return await store.ledger.launches.scale(pool, overflows=overflows)


async def queue(store: OpenedStore, *jobs: int) -> None:
    await store.ledger.record([queued_job(number) for number in jobs])


async def started(store: OpenedStore, jobs: int = 1) -> list[LaunchRecord]:
    """So many jobs, and executors that were started for them."""
    await queue(store, *range(1, jobs + 1))
    plan = await scaled(store)
    for launch in plan.start:
        assert await store.ledger.launches.ticketed(launch.id, f"ticket-{launch.id}", 300)
        await store.ledger.launches.accepted(launch.id)
    return plan.start


def redemption(launch: LaunchRecord, nonce: str = "n", **others: str) -> Redemption:
    own = {"ticket": f"ticket-{launch.id}", "token": f"token-{launch.id}-{nonce}"}
    given = {"pool": "linux"} | own | others
    return Redemption(launch=launch.id, nonce=nonce, **given)


async def ready(store: OpenedStore, jobs: int = 1) -> list[LaunchRecord]:
    """The same, once they have redeemed their tickets and said that they are there."""
    launches = await started(store, jobs)
    for launch in launches:
        assert isinstance(await store.ledger.launches.redeem(redemption(launch)), LaunchRecord)
        await attend(store, launch)
    return launches


async def attend(store: OpenedStore, launch: LaunchRecord, *, gone: bool = False) -> Duty:
    order = AttendOrder(machine=launch.machine, boot="boot", gone=gone)
    return (await store.ledger.attend("linux", order)).duty("boot")


async def claim(store: OpenedStore, machine: str, key: str = "k") -> str | None:
    order = ClaimOrder(pool="linux", machine=machine, boot="boot", key=f"{key}-{machine}")
    made = await store.ledger.claim(order, 4, None)
    return made.id if made else None


async def phases(store: OpenedStore) -> dict[LaunchId, LaunchPhase]:
    return {one.id: one.phase for one in await store.ledger.launches.newest(100)}


async def test_as_many_are_wanted_as_jobs_are_open(store: OpenedStore):
    await queue(store, 1, 2, 3)
    assert len((await scaled(store)).start) == 3
    assert len((await scaled(store)).start) == 3, "asked for again, not wanted again"
    assert len(await store.ledger.launches.newest(100)) == 3


async def test_what_starts_or_waits_is_not_wanted_twice(store: OpenedStore):
    await ready(store, 2)
    assert (await scaled(store)).start == []
    await queue(store, 3)
    assert len((await scaled(store)).start) == 1


async def test_two_control_planes_together_want_no_more_than_one(store: OpenedStore):
    await queue(store, 1, 2, 3)
    await asyncio.gather(scaled(store), scaled(store), scaled(store))
    assert len(await store.ledger.launches.newest(100)) == 3


async def test_a_pool_s_maximum_bounds_what_runs_and_what_starts(store: OpenedStore):
    (first,) = await ready(store)
    assert await claim(store, first.machine)
    await queue(store, *range(10, 20))
    assert len((await scaled(store)).start) == POOL.max - 1


async def test_a_launch_that_claimed_counts_by_its_claim(store: OpenedStore):
    (launch,) = await ready(store)
    assert await claim(store, launch.machine)
    assert (await phases(store))[launch.id] is LaunchPhase.WORKING
    assert (await scaled(store)).start == []


async def test_parked_executors_come_first(store: OpenedStore):
    await store.ledger.attend("linux", AttendOrder(machine="rack-1", boot="b"))
    await queue(store, 1, 2)
    plan = await scaled(store, overflows=False)
    assert (plan.start, plan.short) == ([], 1)
    assert len((await scaled(store, overflows=True)).start) == 1


async def test_drained_executors_keep_nothing_back(store: OpenedStore):
    await store.ledger.attend("linux", AttendOrder(machine="rack-1", boot="b"))
    await store.ledger.command(Command.DRAIN, Choice("rack-1", None), "a new disk")
    await queue(store, 1)
    assert len((await scaled(store, overflows=False)).start) == 1


async def test_where_nothing_is_parked_nothing_is_waited_for(store: OpenedStore):
    await queue(store, 1)
    assert len((await scaled(store, overflows=False)).start) == 1


async def test_a_buffer_is_kept_ready(store: OpenedStore):
    assert len((await scaled(store, msgspec.structs.replace(POOL, idle_buffer=2))).start) == 2


async def test_one_that_does_not_speak_in_time_is_written_off_and_replaced(store: OpenedStore):
    (launch,) = await started(store)
    await store.passes(301)
    plan = await scaled(store)
    assert [one.id for one in plan.written_off] == [launch.id]
    assert [one.id for one in plan.stop] == [launch.id]
    assert len(plan.start) == 1
    assert plan.start[0].id != launch.id
    answer = await store.ledger.launches.redeem(redemption(launch))
    assert isinstance(answer, TicketRefused), "nobody waits for it any more"


async def test_failures_in_a_row_make_the_next_start_wait(store: OpenedStore):
    await queue(store, 1)
    for _ in range(3):
        (launch,) = (await scaled(store)).start
        await store.ledger.launches.ticketed(launch.id, "t", 300)
        await store.ledger.launches.accepted(launch.id)
        failed = Launched(launch.id, LaunchState.FAILED, "no image")
        assert await store.ledger.launches.surveyed("linux", [failed]) == []
    plan = await scaled(store)
    assert (plan.start, plan.paused_until is not None) == ([], True)
    await store.passes(11)
    assert len((await scaled(store)).start) == 1


async def test_a_refused_start_is_asked_for_again_later(store: OpenedStore):
    await queue(store, 1)
    (launch,) = (await scaled(store)).start
    await store.ledger.launches.refused(launch.id, "the quota is used up", None)
    assert (await scaled(store)).start == []
    await store.passes(11)
    (again,) = (await scaled(store)).start
    assert (again.id, again.detail) == (launch.id, "the quota is used up")


async def test_what_is_not_needed_is_told_to_end_and_claims_nothing(store: OpenedStore):
    (launch,) = await ready(store)
    claimed = await claim(store, "rack-1")
    assert claimed is not None
    await scaled(store)
    assert await attend(store, launch) is Duty.SERVE, "the next job often arrives first"
    await store.passes(40)
    await attend(store, launch)
    assert (await scaled(store)).stop == [], "it is told itself first"
    assert await attend(store, launch) is Duty.END
    await queue(store, 2)
    assert await claim(store, launch.machine) is None
    await attend(store, launch, gone=True)
    assert (await phases(store))[launch.id] is LaunchPhase.OVER


async def test_one_that_does_not_hear_it_is_stopped(store: OpenedStore):
    (launch,) = await ready(store)
    await claim(store, "rack-1")
    await store.passes(40)
    await attend(store, launch)
    await scaled(store)
    await store.passes(31)
    assert [one.id for one in (await scaled(store)).stop] == [launch.id]
    running = Launched(launch.id, LaunchState.RUNNING, "")
    assert await store.ledger.launches.surveyed("linux", [running]) == []
    assert (await phases(store))[launch.id] is LaunchPhase.ENDING
    await store.ledger.launches.surveyed("linux", [])
    assert (await phases(store))[launch.id] is LaunchPhase.OVER


async def test_an_executor_with_a_claim_is_never_told_to_end(store: OpenedStore):
    (launch,) = await ready(store)
    made = await claim(store, launch.machine)
    assert made is not None
    await store.passes(4000)
    plan = await scaled(store)
    assert (plan.stop, plan.written_off) == ([], [])
    assert await attend(store, launch) is Duty.SERVE


async def test_a_launch_nobody_wants_is_to_be_stopped(store: OpenedStore):
    (launch,) = await ready(store)
    unknown = Launched(LaunchId("zz"), LaunchState.RUNNING, "")
    old = Launched(LaunchId("zy"), LaunchState.ENDED, "")
    known = Launched(launch.id, LaunchState.RUNNING, "")
    assert await store.ledger.launches.surveyed("linux", [known, unknown, old]) == ["zz"]


async def test_what_another_pool_wants_is_not_to_be_stopped(store: OpenedStore):
    (launch,) = await ready(store)
    running = Launched(launch.id, LaunchState.RUNNING, "")
    assert await store.ledger.launches.surveyed("arm64", [running]) == []
    assert (await phases(store))[launch.id] is LaunchPhase.READY


async def test_what_a_pool_without_a_launcher_left_is_over_after_a_while(store: OpenedStore):
    first, second = await ready(store, 2)
    assert await claim(store, first.machine)
    strand = store.ledger.launches.strand
    await store.passes(601)
    assert await strand({"linux"}) == [], "it has one"
    (stranded,) = await strand({"windows"})
    assert (stranded.id, stranded.phase) == (second.id, LaunchPhase.OVER)
    assert "no launcher any more" in stranded.detail
    assert await store.ledger.launches.bearer(f"token-{second.id}-n") is None
    assert await store.ledger.launches.bearer(f"token-{first.id}-n") is not None, "it works"


async def test_what_was_launched_just_now_is_left_to_who_did(store: OpenedStore):
    await started(store)
    await store.passes(599)
    assert await store.ledger.launches.strand(set()) == []


async def test_an_executor_of_another_pool_cannot_say_goodbye_for_a_launch(store: OpenedStore):
    (launch,) = await ready(store)
    said = AttendOrder(machine=launch.machine, boot="boot", gone=True)
    await store.ledger.attend("arm64", said)
    assert (await phases(store))[launch.id] is LaunchPhase.READY
    assert await store.ledger.launches.bearer(f"token-{launch.id}-n") is not None


async def test_a_ticket_gives_one_token(store: OpenedStore):
    (launch,) = await started(store)
    redeemed = await store.ledger.launches.redeem(redemption(launch))
    assert isinstance(redeemed, LaunchRecord)
    bearer = await store.ledger.launches.bearer(f"token-{launch.id}-n")
    assert bearer is not None
    assert (bearer.pool, bearer.machine) == ("linux", machine_of(launch.id))
    assert await store.ledger.launches.bearer("another") is None


async def test_the_same_executor_may_ask_again_until_it_is_heard(store: OpenedStore):
    (launch,) = await started(store)
    redeem = store.ledger.launches.redeem
    await redeem(redemption(launch, token="first"))
    assert isinstance(await redeem(redemption(launch, token="second")), LaunchRecord)
    assert await store.ledger.launches.bearer("first") is None, "the lost one is worth nothing"
    await attend(store, launch)
    assert isinstance(await redeem(redemption(launch, token="third")), TicketRefused)
    assert await store.ledger.launches.bearer("second") is not None


async def test_the_same_executor_may_not_ask_again_much_later(store: OpenedStore):
    (launch,) = await started(store)
    await store.ledger.launches.redeem(redemption(launch))
    await store.passes(61)
    assert isinstance(await store.ledger.launches.redeem(redemption(launch)), TicketRefused)


@pytest.mark.parametrize(
    "others",
    [{"nonce": "thief"}, {"nonce": "thief", "ticket": "made up"}],
    ids=["stolen after use", "made up"],
)
async def test_anybody_else_gets_nothing_and_is_counted(store: OpenedStore, others: dict[str, str]):
    (launch,) = await started(store)
    await store.ledger.launches.redeem(redemption(launch))
    answer = await store.ledger.launches.redeem(redemption(launch, **others))
    assert isinstance(answer, TicketRefused)
    assert answer.pool == "linux"
    (record,) = await store.ledger.launches.newest(1)
    assert (record.misused, record.phase) == (1, LaunchPhase.READY)
    assert await store.ledger.launches.bearer(f"token-{launch.id}-n") is not None


async def test_another_pool_s_executor_is_counted_and_leaves_the_ticket_good(store: OpenedStore):
    (launch,) = await started(store)
    answer = await store.ledger.launches.redeem(redemption(launch, pool="windows"))
    assert isinstance(answer, TicketRefused)
    assert answer.pool == "linux"
    assert "for another pool than windows" in answer.sentence
    (record,) = await store.ledger.launches.newest(1)
    assert (record.misused, record.phase) == (1, LaunchPhase.STARTING)
    assert isinstance(await store.ledger.launches.redeem(redemption(launch)), LaunchRecord)


async def test_a_ticket_s_time_is_over_even_when_nobody_scales(store: OpenedStore):
    (launch,) = await started(store)
    await store.passes(301)
    answer = await store.ledger.launches.redeem(redemption(launch))
    assert isinstance(answer, TicketRefused)
    assert "over" in answer.sentence


async def test_each_ticket_has_a_time_of_its_own(store: OpenedStore):
    await queue(store, 1)
    (launch,) = (await scaled(store)).start
    assert await store.ledger.launches.ticketed(launch.id, "first", 300)
    await store.passes(200)
    assert await store.ledger.launches.ticketed(launch.id, "second", 300)
    await store.passes(101)
    first = await store.ledger.launches.redeem(redemption(launch, ticket="first"))
    assert isinstance(first, TicketRefused)
    second = redemption(launch, ticket="second")
    assert isinstance(await store.ledger.launches.redeem(second), LaunchRecord)


async def test_a_ticket_of_a_start_whose_answer_got_lost_is_good(store: OpenedStore):
    await queue(store, 1)
    (launch,) = (await scaled(store)).start
    assert await store.ledger.launches.ticketed(launch.id, "first", 300)
    assert await store.ledger.launches.ticketed(launch.id, "second", 300)
    first = redemption(launch, ticket="first")
    assert isinstance(await store.ledger.launches.redeem(first), LaunchRecord)
    second = redemption(launch, nonce="other", ticket="second")
    assert isinstance(await store.ledger.launches.redeem(second), TicketRefused)
    assert not await store.ledger.launches.ticketed(launch.id, "third", 300)


async def test_a_token_lasts_while_its_executor_speaks_and_not_much_longer(store: OpenedStore):
    (launch,) = await ready(store)
    assert await claim(store, launch.machine)
    for _ in range(3):
        await store.passes(3000)
        await attend(store, launch)
    assert await store.ledger.launches.bearer(f"token-{launch.id}-n") is not None
    await store.passes(3601)
    assert await store.ledger.launches.bearer(f"token-{launch.id}-n") is None


async def test_a_token_is_over_with_its_launch(store: OpenedStore):
    (launch,) = await ready(store)
    made = await claim(store, launch.machine)
    assert made is not None
    (live,) = await store.ledger.claims(1, live=True)
    await store.ledger.finish(live.id, "boot", Outcome.DONE, "")
    await attend(store, launch, gone=True)
    assert (await phases(store))[launch.id] is LaunchPhase.OVER
    assert await store.ledger.launches.bearer(f"token-{launch.id}-n") is None


async def test_what_is_over_for_a_day_is_forgotten(store: OpenedStore):
    (launch,) = await ready(store)
    await attend(store, launch, gone=True)
    await store.passes(86_401)
    await store.ledger.forget(100)
    assert await phases(store) == {}


async def test_one_that_was_written_off_claims_nothing_though_it_speaks_again(store: OpenedStore):
    (launch,) = await ready(store)
    await store.passes(130)
    assert [one.id for one in (await scaled(store)).written_off] == [launch.id]
    assert await claim(store, launch.machine) is None
    assert await attend(store, launch) is Duty.END


@pytest.mark.parametrize("buffer", [0, 4])
async def test_what_an_operator_has_drained_is_replaced_and_is_no_failure(
    store: OpenedStore, buffer: int
):
    pool = msgspec.structs.replace(POOL, idle_buffer=buffer)
    launches = await ready(store, 3)
    here = Choice(machine=None, pool="linux", everything=True)
    await store.ledger.command(Command.DRAIN, here, "a bad image")
    assert len((await scaled(store, pool)).start) == (buffer or 3)
    for _ in range(16):
        await store.passes(20)
        for launch in launches:
            assert await attend(store, launch) is Duty.REST
        assert (await scaled(store, pool)).written_off == []


async def test_one_that_leaves_work_behind_has_failed_and_then_the_next_ones_wait(
    store: OpenedStore,
):
    for launch in await ready(store, 3):
        await attend(store, launch, gone=True)
    for one in await store.ledger.launches.newest(3):
        assert (one.phase, one.failed) == (LaunchPhase.OVER, True)
        assert "before it claimed, although there was work" in one.detail
    plan = await scaled(store)
    assert (plan.start, plan.paused_until is not None) == ([], True)


async def test_one_that_its_host_ends_or_that_nobody_needed_has_not_failed(store: OpenedStore):
    launches = await ready(store, 2)
    ended = AttendOrder(machine=launches[0].machine, boot="boot", ending=True, gone=True)
    await store.ledger.attend("linux", ended)
    await store.ledger.record([completed_job(1), completed_job(2)])
    await attend(store, launches[1], gone=True)
    assert [one.failed for one in await store.ledger.launches.newest(2)] == [False, False]


async def test_a_machine_may_be_called_launch(store: OpenedStore):
    await queue(store, 1)
    await store.ledger.attend("linux", AttendOrder(machine="launch/0", boot="boot"))
    assert await claim(store, "launch/0")


async def test_a_platform_that_names_a_time_is_not_asked_before_it(store: OpenedStore):
    await queue(store, 1)
    (launch,) = (await scaled(store)).start
    later = store.clock.now() + timedelta(seconds=100)
    await store.ledger.launches.refused(launch.id, "slow down", later)
    await store.passes(90)
    assert (await scaled(store)).start == []
    await store.passes(20)
    assert [one.id for one in (await scaled(store)).start] == [launch.id]
