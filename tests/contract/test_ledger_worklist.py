"""ports.Ledger: names are kept until they are proven gone, or given up (R6)."""

import pytest

from mayfly.model.changes import Changes, Mint
from mayfly.model.jobs import InstallationId
from mayfly.model.protocol import Order, Outcome
from mayfly.model.runners import ClaimState, Registration, Sighting
from tests.fakes.backends import OpenedStore
from tests.fakes.factories import (
    PREFIX,
    busy_claim,
    completed_job,
    minting_claim,
    now_of,
    order,
    queued_job,
    registered_claim,
)

MINUTE, HOUR = 60, 3600


async def name_of(store: OpenedStore, name: str) -> Registration | None:
    every = await store.ledger.unproven()
    return next((registration for registration in every if registration.name == name), None)


async def next_look(store: OpenedStore, name: str) -> float:
    """Seconds from now; none when it is due already."""
    found = await name_of(store, name)
    assert found is not None
    assert found.next_look_at is not None
    return max(0.0, found.next_look_at - await store.passes(0))


async def unreachable_for(store: OpenedStore, name: str, seconds: float) -> list[Changes]:
    """In all that time GitHub does not answer when it is asked; what each question did."""
    found: list[Changes] = []
    while await name_of(store, name) and (pause := await next_look(store, name)) < seconds:
        await store.passes(pause)
        seconds -= pause
        found.append(await store.ledger.saw(name, Sighting.UNREACHABLE))
    await store.passes(seconds)
    return found


async def half_ended_claim(store: OpenedStore) -> Mint:
    """A claim that GitHub has ended and its executor not; its second name is not proven gone."""
    await store.ledger.record([queued_job(1)])
    first = await registered_claim(store.ledger)
    second = await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    await store.ledger.record([completed_job(1, runner=first.name)])
    return second


async def test_an_installation_that_answers_again_is_asked_about_its_names_at_once(
    store: OpenedStore,
):
    mint = await half_ended_claim(store)
    await unreachable_for(store, mint.name, 2 * HOUR)
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    assert await next_look(store, mint.name) > 50 * MINUTE
    await store.ledger.revived(InstallationId(8))
    assert await next_look(store, mint.name) > 50 * MINUTE, "another one says nothing of it"
    await store.ledger.revived(InstallationId(7))
    assert await store.due_looks() == [mint.name]
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    assert await next_look(store, mint.name) == MINUTE, "the pauses begin anew"


async def test_an_installation_that_answers_again_brings_no_second_negative_early(
    store: OpenedStore,
):
    mint = await half_ended_claim(store)
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    due = await next_look(store, mint.name)
    await store.ledger.revived(InstallationId(7))
    assert await next_look(store, mint.name) == due


async def test_only_the_name_that_completed_names_is_proven_gone_by_it(store: OpenedStore):
    mint = await half_ended_claim(store)
    assert [found.name for found in await store.ledger.unproven()] == [mint.name]
    assert await store.use() == (1, 0, 0)


@pytest.mark.parametrize("sighting", [Sighting.GONE, Sighting.DELETED])
async def test_one_answer_of_a_deletion_is_proof(store: OpenedStore, sighting: Sighting):
    mint = await half_ended_claim(store)
    changes = await store.ledger.saw(mint.name, sighting)
    assert changes.pools["linux"].freed == 1
    assert await store.ledger.unproven() == []


async def test_a_name_that_is_not_found_is_looked_for_again_before_it_is_gone(
    store: OpenedStore,
):
    mint = await half_ended_claim(store)
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert await next_look(store, mint.name) >= MINUTE
    await store.passes(MINUTE - 1)
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert await name_of(store, mint.name) is not None, "asked by somebody else, too early"
    await store.passes(await next_look(store, mint.name))
    assert await store.due_looks() == [mint.name]
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert await store.ledger.unproven() == []


async def test_a_runner_that_appears_late_is_found_by_the_second_look(store: OpenedStore):
    mint = await half_ended_claim(store)
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    await store.passes(await next_look(store, mint.name))
    await store.ledger.saw(mint.name, Sighting.DELETED)
    assert await store.ledger.unproven() == []


async def test_silence_between_two_looks_is_no_negative(store: OpenedStore):
    mint = await half_ended_claim(store)
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    for _ in range(2):
        await store.passes(await next_look(store, mint.name))
        await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    assert await name_of(store, mint.name) is not None


async def test_a_name_with_a_job_at_work_is_looked_at_again_after_a_minute(store: OpenedStore):
    mint = await half_ended_claim(store)
    for _ in range(3):
        await store.ledger.saw(mint.name, Sighting.BUSY)
        assert await next_look(store, mint.name) == MINUTE
        await store.passes(MINUTE)
    claim = await now_of(store.ledger, mint.claim.id)
    assert claim.state is ClaimState.DONE
    assert (await store.use()).used == 1


# GitHub cannot be asked


async def test_an_answer_about_one_name_ends_the_pauses_of_the_others(store: OpenedStore):
    first = await half_ended_claim(store)
    await store.ledger.record([queued_job(2)])
    second = await registered_claim(store.ledger, "m2")
    await store.ledger.finish(second.claim.id, second.claim.boot, Outcome.FAILED, "")
    for name in (first.name, second.name):
        await unreachable_for(store, name, 2 * HOUR)
        await store.ledger.saw(name, Sighting.UNREACHABLE)
    assert await next_look(store, second.name) > 50 * MINUTE
    await store.ledger.saw(first.name, Sighting.GONE)
    assert await next_look(store, second.name) == 0


async def test_the_pauses_between_the_looks_grow_to_an_hour(store: OpenedStore):
    mint = await half_ended_claim(store)
    pauses = []
    for _ in range(9):
        await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
        pauses.append(await next_look(store, mint.name))
        await store.passes(pauses[-1])
    assert pauses[:2] == [MINUTE, 2 * MINUTE]
    assert pauses[-3:] == [HOUR] * 3


@pytest.mark.parametrize("sighting", [Sighting.BUSY, Sighting.NOT_FOUND])
async def test_an_answer_in_between_begins_everything_anew(store: OpenedStore, sighting: Sighting):
    mint = await half_ended_claim(store)
    await unreachable_for(store, mint.name, 24 * HOUR)
    await store.ledger.saw(mint.name, sighting)
    changes = await unreachable_for(store, mint.name, 24 * HOUR)
    assert not any(change.abandoned for change in changes)
    await store.ledger.saw(mint.name, Sighting.BUSY)
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    assert await next_look(store, mint.name) == MINUTE


async def test_the_slot_of_a_claim_nobody_can_prove_gone_is_free_after_10_minutes(
    store: OpenedStore,
):
    mint = await half_ended_claim(store)
    await store.ledger.record([queued_job(2)])
    await unreachable_for(store, mint.name, 9 * MINUTE)
    assert await store.ledger.claim(order("m2"), 1, None) is None
    await unreachable_for(store, mint.name, MINUTE + 1)
    assert await store.ledger.claim(order("m2"), 1, None) is not None
    assert await name_of(store, mint.name) is not None, "the name is not forgotten"


async def test_freeing_the_slot_rings_for_what_is_open(store: OpenedStore):
    mint = await half_ended_claim(store)
    await store.ledger.record([queued_job(2)])
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    await store.passes(10 * MINUTE)
    changes = await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    assert changes.pools["linux"].freed == 1
    again = await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    assert (again.claims, again.pools) == ([], {})


async def test_a_slot_that_was_freed_is_not_freed_again_by_the_proof(store: OpenedStore):
    mint = await half_ended_claim(store)
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    await store.passes(10 * MINUTE)
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    changes = await store.ledger.saw(mint.name, Sighting.GONE)
    assert changes.pools == {}
    assert await store.use() == (0, 0, 0)
    assert await store.ledger.unproven() == []


@pytest.mark.parametrize(
    ("at_work", "end", "use"),
    [(False, ClaimState.LOST, (0, 1, 1)), (True, ClaimState.DONE, (0, 0, 0))],
)
async def test_the_slot_of_a_live_claim_is_free_when_its_executor_is_silent_too(
    store: OpenedStore, at_work: bool, end: ClaimState, use: tuple[int, int, int]
):
    await store.ledger.record([queued_job(1)])
    mint = await (busy_claim if at_work else registered_claim)(store.ledger)
    await store.passes(2 * MINUTE)
    await store.ledger.lose(mint.claim.id)
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    await store.passes(10 * MINUTE)
    changes = await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    assert changes.pools["linux"].freed == 1
    assert [claim.state for claim in changes.ended] == [end]
    assert await store.use() == use
    assert await store.ledger.heartbeat(mint.claim.id, mint.claim.boot) is not None
    assert await name_of(store, mint.name) is not None


async def test_an_executor_that_was_written_off_and_speaks_again_is_stopped(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.passes(2 * MINUTE)
    await store.ledger.lose(mint.claim.id)
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    await store.passes(10 * MINUTE)
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    assert await store.ledger.heartbeat(mint.claim.id, mint.claim.boot) is Order.STOP


async def test_the_slot_of_an_executor_that_speaks_is_its_own(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await busy_claim(store.ledger)
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    await store.passes(11 * MINUTE)
    await store.ledger.heartbeat(mint.claim.id, mint.claim.boot)
    changes = await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    assert changes.claims == []
    assert (await now_of(store.ledger, mint.claim.id)).live
    assert (await store.use()).used == 1


async def test_a_name_is_given_up_after_25_hours(store: OpenedStore):
    mint = await half_ended_claim(store)
    changes = await unreachable_for(store, mint.name, 25 * HOUR - 1)
    assert not any(change.abandoned for change in changes)
    changes = await unreachable_for(store, mint.name, HOUR)
    assert [found.name for found in changes[-1].abandoned] == [mint.name]
    assert await store.ledger.unproven() == []
    assert await store.use() == (0, 0, 0)


async def test_a_name_nobody_watches_over_changes_nothing(store: OpenedStore):
    for sighting in Sighting:
        changes = await store.ledger.saw("mayfly-nobody-1", sighting)
        assert (changes.claims, changes.pools, changes.abandoned) == ([], {}, [])


# What is due


async def test_names_of_executors_that_speak_again_leave_room_for_the_others(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    back = await registered_claim(store.ledger, "m1")
    await store.passes(2 * MINUTE)
    await store.ledger.lose(back.claim.id)
    await store.ledger.heartbeat(back.claim.id, back.claim.boot)
    await store.passes(1)
    over = await minting_claim(store.ledger, "m2")
    await store.ledger.finish(over.claim.id, over.claim.boot, Outcome.FAILED, "")
    assert [found.name for found, _, _ in (await store.ledger.due(1)).looks] == [over.name]


async def test_what_is_due_longest_is_looked_at_first(store: OpenedStore):
    await store.ledger.record([queued_job(number) for number in range(1, 4)])
    mints = [await minting_claim(store.ledger, f"m{number}") for number in range(3)]
    for mint in reversed(mints):
        await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, "")
        await store.passes(1)
    assert await store.due_looks() == [mint.name for mint in reversed(mints)]


async def test_a_name_is_watched_until_it_is_proven_gone(store: OpenedStore):
    mint = await half_ended_claim(store)
    assert await store.ledger.watches(mint.name)
    assert not await store.ledger.watches(f"{PREFIX}-{mint.claim.id}-1")
    await store.ledger.saw(mint.name, Sighting.GONE)
    assert not await store.ledger.watches(mint.name)
    assert await store.ledger.named(mint.name) is not None


async def test_a_finished_executor_frees_its_slot_before_its_name_is_proven_gone(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1), queued_job(2)])
    mint = await busy_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    assert await store.ledger.claim(order("m2"), 1, None) is not None
    assert await name_of(store, mint.name) is not None


# An executor that was silent and speaks again


async def speaks_again(store: OpenedStore, mint: Mint) -> None:
    await store.passes(2 * MINUTE)
    await store.ledger.lose(mint.claim.id)
    await store.ledger.heartbeat(mint.claim.id, mint.claim.boot)


@pytest.mark.parametrize("at_work", [False, True])
async def test_it_keeps_its_runner(store: OpenedStore, at_work: bool):
    await store.ledger.record([queued_job(1)])
    mint = await (busy_claim if at_work else registered_claim)(store.ledger)
    await speaks_again(store, mint)
    assert await store.due_looks() == []
    await store.passes(2 * MINUTE)
    await store.ledger.lose(mint.claim.id)
    assert await store.due_looks() == [mint.name], "until it is silent again"


async def test_one_negative_from_while_it_was_silent_keeps_no_name_off_the_worklist(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    first = await minting_claim(store.ledger)
    await store.passes(2 * MINUTE)
    await store.ledger.lose(first.claim.id)
    await store.ledger.saw(first.name, Sighting.NOT_FOUND)
    await store.ledger.heartbeat(first.claim.id, first.claim.boot)
    await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    await store.ledger.finish(first.claim.id, first.claim.boot, Outcome.FAILED, "")
    assert first.name in await store.due_looks()


async def test_a_mint_that_was_given_up_is_looked_at_all_the_same(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    await store.passes(5 * MINUTE)
    await store.ledger.overdue(mint.claim.id)
    await speaks_again(store, mint)
    await store.passes(MINUTE)
    await store.ledger.heartbeat(mint.claim.id, mint.claim.boot)
    assert await store.due_looks() == [mint.name]


async def test_an_idle_runner_that_was_given_up_is_looked_at_all_the_same(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    for _ in range(5):
        await store.passes(6 * MINUTE)
        await store.ledger.overdue(mint.claim.id)
    await speaks_again(store, mint)
    assert await store.due_looks() == [mint.name]


async def test_a_surplus_runner_that_is_needed_again_is_not_looked_at_any_more(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.record([completed_job(1)])
    await store.passes(30)
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    await store.ledger.record([queued_job(2)])
    await store.passes(MINUTE)
    await store.ledger.heartbeat(mint.claim.id, mint.claim.boot)
    assert await store.due_looks() == []


async def test_an_older_name_of_an_idle_runner_that_is_needed_is_looked_at(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    first = await minting_claim(store.ledger)
    second = await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    await store.ledger.saw(first.name, Sighting.UNREACHABLE)
    await store.ledger.registered(second.claim.id, second.claim.generation, 4711)
    await store.passes(MINUTE)
    await store.ledger.heartbeat(first.claim.id, first.claim.boot)
    assert await store.due_looks() == [first.name]
