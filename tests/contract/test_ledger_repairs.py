"""ports.Ledger: how claims become busy and end, and how names are proven gone (R5 to R7, R14)."""

import pytest

from mayfly.model.changes import Mint, PoolUse, Touch
from mayfly.model.protocol import Order, Outcome
from mayfly.model.runners import ClaimState, Sighting
from mayfly.ports import Ledger
from tests.fakes.backends import OpenedStore
from tests.fakes.clocks import pass_time
from tests.fakes.factories import (
    PREFIX,
    UNBOUNDED,
    claimed,
    completed_job,
    minting_claim,
    now_of,
    order,
    queued_job,
    refused,
    registered_claim,
    running_job,
)

SILENT = 120


async def use_of(ledger: Ledger, pool: str = "linux") -> PoolUse:
    return (await ledger.pools())[pool]


async def end_of(ledger: Ledger, mint: Mint) -> ClaimState:
    return (await now_of(ledger, mint.claim.id)).state


async def due_names(ledger: Ledger) -> list[str]:
    return [registration.name for registration, _, _ in (await ledger.due(100)).looks]


async def busy_claim(ledger: Ledger) -> Mint:
    """A claim whose runner has job 1."""
    mint = await registered_claim(ledger)
    await ledger.record([running_job(1, runner=mint.name)])
    return mint


# GitHub names a runner of ours


async def test_in_progress_makes_the_claim_busy_with_its_job(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await busy_claim(store.ledger)
    claim = await now_of(store.ledger, mint.claim.id)
    assert (claim.state, claim.unattributed) == (ClaimState.BUSY, False)
    assert claim.job == queued_job(1).key
    assert await use_of(store.ledger) == PoolUse(used=1, queued=0, open=0)


async def test_a_runner_made_for_a_that_takes_b_opens_a_again(store: OpenedStore):
    mine, other = queued_job(1), queued_job(2, labels=("self-hosted", "arm64"))
    await store.ledger.record([mine, other])
    mint = await registered_claim(store.ledger)
    stolen = running_job(2, runner=mint.name, labels=("self-hosted", "arm64"))
    changes = await store.ledger.record([stolen])
    assert changes.pools == {"linux": Touch(opened=1, freed=0, used=1, open=1)}
    assert await end_of(store.ledger, mint) is ClaimState.BUSY
    assert await store.ledger.claim(order("m2"), UNBOUNDED, None) is not None


async def test_a_refused_job_on_our_runner_opens_the_group_again(store: OpenedStore):
    await store.ledger.record([queued_job(1), refused(queued_job(2))])
    mint = await registered_claim(store.ledger)
    changes = await store.ledger.record([refused(running_job(2, runner=mint.name))])
    assert changes.pools["linux"].opened == 1


async def test_any_generation_that_is_named_makes_the_claim_busy(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    first = await registered_claim(store.ledger)
    await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    await store.ledger.record([running_job(1, runner=first.name)])
    assert await end_of(store.ledger, first) is ClaimState.BUSY


async def test_completed_ends_the_claim_and_proves_its_name_gone(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await busy_claim(store.ledger)
    changes = await store.ledger.record([completed_job(1, runner=mint.name)])
    assert changes.pools == {"linux": Touch(opened=0, freed=1, used=0, open=0)}
    assert await end_of(store.ledger, mint) is ClaimState.DONE
    assert await store.ledger.unproven() == []


async def test_completed_without_in_progress_ends_the_claim_too(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.record([completed_job(1, runner=mint.name)])
    assert await end_of(store.ledger, mint) is ClaimState.DONE


async def test_completed_sends_the_other_generations_to_the_worklist(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    first = await registered_claim(store.ledger)
    second = await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    await store.ledger.record([completed_job(1, runner=first.name)])
    assert await due_names(store.ledger) == [second.name]


async def test_a_finished_claim_learns_its_job_afterwards(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    await store.ledger.record([running_job(1, runner=mint.name)])
    claim = await now_of(store.ledger, mint.claim.id)
    assert (claim.state, claim.job) == (ClaimState.DONE, queued_job(1).key)


@pytest.mark.parametrize("runner", ["theirs", "a-b-c", "mayfly-nobody-1", "mayfly--1", "-1-", ""])
async def test_a_foreign_runner_changes_no_claim(store: OpenedStore, runner: str):
    await store.ledger.record([queued_job(1), queued_job(2)])
    mint = await registered_claim(store.ledger)
    changes = await store.ledger.record([running_job(2, runner=runner)])
    assert changes.claims == []
    assert await end_of(store.ledger, mint) is ClaimState.REGISTERED


@pytest.mark.parametrize("generation", ["0", "1", "2", "99999"])
async def test_a_generation_that_was_never_made_is_a_foreign_name(
    store: OpenedStore, generation: str
):
    await store.ledger.record([queued_job(1), queued_job(2)])
    made = await claimed(store.ledger)
    name = f"mayfly-{made.id}-{generation}"
    await store.ledger.record([running_job(1, runner=name), completed_job(2, runner=name)])
    assert (await now_of(store.ledger, made.id)).state is ClaimState.CLAIMED


async def test_another_owner_cannot_make_our_claim_busy_by_its_name(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    forged = refused(running_job(2, runner=mint.name, owner="stranger"))
    assert (await store.ledger.record([forged])).claims == []
    assert await end_of(store.ledger, mint) is ClaimState.REGISTERED


# What deleting a name at GitHub says


async def test_busy_at_github_is_busy_with_an_unknown_job(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.saw(mint.name, Sighting.BUSY)
    claim = await now_of(store.ledger, mint.claim.id)
    assert (claim.state, claim.unattributed, claim.job) == (ClaimState.BUSY, True, None)
    assert (await use_of(store.ledger)).open == 0, "it may be serving the queued job"
    await store.ledger.record([running_job(1, runner=mint.name)])
    assert not (await now_of(store.ledger, mint.claim.id)).unattributed


async def test_a_busy_name_is_left_to_an_executor_that_speaks(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.saw(mint.name, Sighting.BUSY)
    await pass_time(store.ledger, store.clock, 100)
    assert await due_names(store.ledger) == []


async def test_a_busy_name_is_looked_at_again_a_minute_later_when_nobody_speaks(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await pass_time(store.ledger, store.clock, SILENT)
    await store.ledger.saw(mint.name, Sighting.BUSY)
    await pass_time(store.ledger, store.clock, 59)
    assert await due_names(store.ledger) == []
    await pass_time(store.ledger, store.clock, 1)
    assert await due_names(store.ledger) == [mint.name]
    await store.ledger.saw(mint.name, Sighting.GONE)
    assert await end_of(store.ledger, mint) is ClaimState.DONE


async def test_an_unreachable_github_proves_nothing(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    for _ in range(3):
        assert (await store.ledger.saw(mint.name, Sighting.UNREACHABLE)).pools == {}
        await pass_time(store.ledger, store.clock, 60)
    assert await end_of(store.ledger, mint) is ClaimState.REGISTERED
    assert len(await store.ledger.unproven()) == 1


async def test_a_name_must_be_missing_twice_a_minute_apart(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, "")
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    await pass_time(store.ledger, store.clock, 99)
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert len(await store.ledger.unproven()) == 1, "a mint may take effect after its time-out"
    await pass_time(store.ledger, store.clock, 1)
    assert await due_names(store.ledger) == [mint.name]
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert await store.ledger.unproven() == []


async def test_finish_does_not_bring_the_second_look_forward(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, "")
    assert await due_names(store.ledger) == []


async def test_what_was_seen_of_a_name_that_is_gone_changes_nothing(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await busy_claim(store.ledger)
    await store.ledger.record([completed_job(1, runner=mint.name)])
    for sighting in Sighting:
        changes = await store.ledger.saw(mint.name, sighting)
        assert (changes.claims, changes.pools) == ([], {})


async def test_an_older_generation_gone_leaves_the_claim_alone(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    first = await registered_claim(store.ledger)
    await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    await store.ledger.saw(first.name, Sighting.GONE)
    assert await end_of(store.ledger, first) is ClaimState.MINTING


async def test_an_executors_finish_is_proven_after_45_seconds(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await busy_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    await pass_time(store.ledger, store.clock, 44)
    assert await due_names(store.ledger) == []
    await pass_time(store.ledger, store.clock, 1)
    assert await due_names(store.ledger) == [mint.name]


async def test_a_slot_is_free_only_when_an_unfinished_runner_is_proven_gone(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    first = await registered_claim(store.ledger)
    second = await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    await store.ledger.record([completed_job(1, runner=first.name)])
    assert (await use_of(store.ledger)).used == 1
    changes = await store.ledger.saw(second.name, Sighting.GONE)
    assert changes.pools["linux"].freed == 1
    assert (await use_of(store.ledger)).used == 0


# Silence


async def test_a_silent_claim_without_a_runner_is_lost(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    await pass_time(store.ledger, store.clock, SILENT)
    assert [claim.id for claim in (await store.ledger.due(10)).silent] == [made.id]
    changes = await store.ledger.lose(made.id)
    assert changes.pools == {"linux": Touch(opened=1, freed=1, used=0, open=1)}
    assert (await now_of(store.ledger, made.id)).state is ClaimState.LOST
    assert await store.ledger.heartbeat(made.id, made.boot) is Order.STOP


async def test_a_heartbeat_in_time_keeps_a_claim(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    await pass_time(store.ledger, store.clock, SILENT - 1)
    await store.ledger.heartbeat(made.id, made.boot)
    await pass_time(store.ledger, store.clock, SILENT - 1)
    assert (await store.ledger.due(10)).silent == []
    assert (await store.ledger.lose(made.id)).claims == []


@pytest.mark.parametrize(
    ("sighting", "end"), [(Sighting.GONE, ClaimState.LOST), (Sighting.BUSY, ClaimState.BUSY)]
)
async def test_github_decides_about_the_runner_of_a_silent_claim(
    store: OpenedStore, sighting: Sighting, end: ClaimState
):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await pass_time(store.ledger, store.clock, SILENT)
    await store.ledger.lose(mint.claim.id)
    assert await end_of(store.ledger, mint) is ClaimState.REGISTERED
    assert (await store.ledger.due(10)).silent == [], "it is being looked at"
    assert await due_names(store.ledger) == [mint.name]
    await store.ledger.saw(mint.name, sighting)
    assert await end_of(store.ledger, mint) is end


async def test_a_mint_that_timed_out_and_fell_silent_is_lost_after_two_looks(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    await pass_time(store.ledger, store.clock, SILENT)
    await store.ledger.lose(mint.claim.id)
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert await end_of(store.ledger, mint) is ClaimState.MINTING
    await pass_time(store.ledger, store.clock, 100)
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert await end_of(store.ledger, mint) is ClaimState.LOST


async def test_an_executor_that_speaks_again_keeps_its_idle_runner(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await pass_time(store.ledger, store.clock, SILENT)
    await store.ledger.lose(mint.claim.id)
    await store.ledger.heartbeat(mint.claim.id, mint.claim.boot)
    assert await due_names(store.ledger) == []
    await pass_time(store.ledger, store.clock, SILENT)
    await store.ledger.lose(mint.claim.id)
    assert await due_names(store.ledger) == [mint.name], "and is looked at when silent again"


# Surplus


async def test_a_surplus_claim_is_withdrawn_after_half_a_minute(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    await store.ledger.record([completed_job(1)])
    await pass_time(store.ledger, store.clock, 29)
    assert (await store.ledger.due(10)).surplus == []
    await pass_time(store.ledger, store.clock, 1)
    assert [claim.id for claim in (await store.ledger.due(10)).surplus] == [made.id]
    changes = await store.ledger.relieve(made.id)
    assert (await now_of(store.ledger, made.id)).state is ClaimState.WITHDRAWN
    assert changes.pools["linux"].freed == 1


async def test_the_next_job_ends_the_surplus(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    await store.ledger.record([completed_job(1)])
    await pass_time(store.ledger, store.clock, 20)
    await store.ledger.record([queued_job(2)])
    await pass_time(store.ledger, store.clock, 20)
    assert (await store.ledger.due(10)).surplus == []
    assert (await store.ledger.relieve(made.id)).claims == []
    await store.ledger.record([completed_job(2)])
    await pass_time(store.ledger, store.clock, 20)
    assert (await store.ledger.due(10)).surplus == [], "the half minute begins anew"


async def test_relieve_rebinds_before_it_withdraws(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    await store.ledger.record([completed_job(1), queued_job(2, repository="other")])
    await store.ledger.relieve(made.id)
    moved = await now_of(store.ledger, made.id)
    assert (moved.state, moved.group) == (
        ClaimState.CLAIMED,
        queued_job(2, repository="other").group,
    )


async def test_a_surplus_idle_runner_is_looked_at_once_a_minute(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.record([completed_job(1)])
    await pass_time(store.ledger, store.clock, 30)
    assert await due_names(store.ledger) == [mint.name]
    await store.ledger.saw(mint.name, Sighting.UNREACHABLE)
    await pass_time(store.ledger, store.clock, 59)
    assert await due_names(store.ledger) == []
    await pass_time(store.ledger, store.clock, 1)
    assert await due_names(store.ledger) == [mint.name]
    await store.ledger.saw(mint.name, Sighting.GONE)
    assert await end_of(store.ledger, mint) is ClaimState.RETIRED


async def test_only_as_many_as_are_too_many_go_the_unregistered_first(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    mint = await registered_claim(store.ledger)
    unregistered = await claimed(store.ledger, "m2")
    await store.ledger.record([completed_job(1)])
    await pass_time(store.ledger, store.clock, 30)
    due = await store.ledger.due(10)
    assert [claim.id for claim in due.surplus] == [unregistered.id]
    assert due.looks == []
    assert mint.claim.id != unregistered.id


async def test_a_runner_that_is_needed_is_not_relieved(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    assert (await store.ledger.relieve(mint.claim.id)).claims == []
    await store.ledger.record([completed_job(1)])
    assert (await store.ledger.relieve(mint.claim.id)).claims == [], "GitHub has to be asked first"


async def test_what_is_due_is_bounded(store: OpenedStore):
    await store.ledger.record([queued_job(number) for number in range(1, 6)])
    for number in range(5):
        await claimed(store.ledger, f"m{number}")
    await pass_time(store.ledger, store.clock, SILENT)
    assert len((await store.ledger.due(3)).silent) == 3
