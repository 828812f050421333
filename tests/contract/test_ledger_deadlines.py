"""ports.Ledger: what happens to a claim that stays too long in one state (R5, R7, R9)."""

import pytest

from mayfly.model.changes import Mint, Touch
from mayfly.model.errors import StaleClaim
from mayfly.model.protocol import Order, Outcome
from mayfly.model.runners import Claim, ClaimId, ClaimState, RunKey, Sighting
from tests.fakes.backends import OpenedStore
from tests.fakes.factories import (
    PREFIX,
    UNBOUNDED,
    busy_claim,
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

MINUTE = 60
BREATH = 110
"""An executor that speaks so rarely is just not silent."""
RUN = RunKey("octo/hello", 900, 1)


async def speaks_for(store: OpenedStore, claim: Claim, seconds: float) -> None:
    """So much time goes by, and the claim's executor is never silent."""
    while seconds > 0:
        await store.passes(min(BREATH, seconds))
        await store.ledger.heartbeat(claim.id, claim.boot)
        seconds -= BREATH


async def state_of(store: OpenedStore, claim: ClaimId) -> ClaimState:
    return (await now_of(store.ledger, claim)).state


async def test_what_is_overdue_changes_nothing_before_its_time_or_after_its_end(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(number) for number in range(1, 6)])
    made = await claimed(store.ledger, "m1")
    mints = [
        await minting_claim(store.ledger, "m2"),
        await registered_claim(store.ledger, "m3"),
        await busy_claim(store.ledger, "m4"),
    ]
    ended = await registered_claim(store.ledger, "m5")
    await store.ledger.finish(ended.claim.id, ended.claim.boot, Outcome.FAILED, "")
    for claim in (made.id, *(mint.claim.id for mint in (*mints, ended)), ClaimId("nobody")):
        changes = await store.ledger.overdue(claim)
        assert (changes.claims, changes.pools) == ([], {})
    assert await store.overdue() == []


# While it is prepared (R5)


async def test_a_claim_that_is_not_prepared_in_20_minutes_is_lost_although_its_executor_speaks(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    await speaks_for(store, made, 20 * MINUTE - 1)
    assert await store.overdue() == []
    await store.passes(1)
    assert await store.overdue() == [made.id]
    changes = await store.ledger.overdue(made.id)
    assert changes.pools == {"linux": Touch(opened=1, freed=1, used=0, open=1)}
    assert changes.ended[0].detail == "not prepared within 1200 s"
    assert await state_of(store, made.id) is ClaimState.LOST
    assert await store.ledger.heartbeat(made.id, made.boot) is Order.STOP


# While GitHub is asked to mint (R5)


async def test_a_mint_nobody_asks_for_again_is_looked_at_after_5_minutes(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    await speaks_for(store, mint.claim, 5 * MINUTE - 1)
    assert (await store.overdue(), await store.due_looks()) == ([], [])
    await store.passes(1)
    assert await store.overdue() == [mint.claim.id]
    await store.ledger.overdue(mint.claim.id)
    assert await store.overdue() == []
    assert await store.due_looks() == [mint.name], "although its executor speaks"


@pytest.mark.parametrize(
    ("sighting", "end"),
    [
        (Sighting.GONE, ClaimState.LOST),
        (Sighting.DELETED, ClaimState.LOST),
        (Sighting.BUSY, ClaimState.BUSY),
        (Sighting.NOT_FOUND, ClaimState.MINTING),
        (Sighting.UNREACHABLE, ClaimState.MINTING),
    ],
)
async def test_github_decides_about_a_mint_nobody_asks_for_again(
    store: OpenedStore, sighting: Sighting, end: ClaimState
):
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    await speaks_for(store, mint.claim, 5 * MINUTE)
    await store.ledger.overdue(mint.claim.id)
    await store.ledger.saw(mint.name, sighting)
    assert await state_of(store, mint.claim.id) is end


async def test_asking_for_the_registration_again_begins_the_time_anew(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    await speaks_for(store, mint.claim, 5 * MINUTE - 1)
    await store.ledger.minting(mint.claim.id, mint.claim.boot, PREFIX)
    await speaks_for(store, mint.claim, 5 * MINUTE - 1)
    assert await store.overdue() == []
    await store.passes(1)
    assert await store.overdue() == [mint.claim.id]


async def test_a_mint_that_is_answered_at_last_is_registered_all_the_same(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    await speaks_for(store, mint.claim, 5 * MINUTE)
    await store.ledger.overdue(mint.claim.id)
    await store.ledger.registered(mint.claim.id, 1, 4711)
    assert await state_of(store, mint.claim.id) is ClaimState.REGISTERED
    assert await store.due_looks() == [], "its executor speaks, and it has only begun to wait"


# While nobody takes the runner (R7)


async def test_an_idle_minute_makes_the_five_oldest_jobs_due_at_once(store: OpenedStore):
    await store.ledger.record([queued_job(number, age=number) for number in range(1, 8)])
    mint = await registered_claim(store.ledger)
    await store.passes(59)
    assert await store.overdue() == []
    await store.passes(1)
    assert await store.overdue() == [mint.claim.id]
    assert await store.due_checks() == []
    await store.ledger.overdue(mint.claim.id)
    assert sorted(await store.due_checks()) == [3, 4, 5, 6, 7]
    assert (await now_of(store.ledger, mint.claim.id)).idle_since == 0.0
    assert await store.overdue() == []


async def looked_at(store: OpenedStore, mint: Mint, *, extensions: int = 0) -> None:
    """Idle for a minute, and then as often as told for six more."""
    for minutes in (1, *[6] * extensions):
        await speaks_for(store, mint.claim, minutes * MINUTE - 1)
        assert await store.overdue() == []
        await store.passes(1)
        assert await store.overdue() == [mint.claim.id]
        await store.ledger.overdue(mint.claim.id)


async def test_an_idle_runner_is_extended_every_6_minutes_and_its_jobs_are_asked_about_again(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await looked_at(store, mint)
    await store.ledger.checked(queued_job(1).key, queued_job(1, asked=True))
    await speaks_for(store, mint.claim, 6 * MINUTE - 1)
    await store.ledger.checked(queued_job(1).key, queued_job(1, asked=True))
    await store.passes(1)
    assert await store.due_checks() == []
    await store.ledger.overdue(mint.claim.id)
    assert await store.due_checks() == [1]
    assert (await now_of(store.ledger, mint.claim.id)).extensions == 1


async def test_a_runner_nobody_took_is_then_replaced_although_its_executor_speaks(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await looked_at(store, mint, extensions=3)
    assert await store.due_looks() == [], "three times it is left alone"
    await speaks_for(store, mint.claim, 6 * MINUTE)
    await store.ledger.overdue(mint.claim.id)
    assert await store.due_looks() == [mint.name]
    assert await store.overdue() == []
    changes = await store.ledger.saw(mint.name, Sighting.DELETED)
    assert changes.pools == {"linux": Touch(opened=1, freed=1, used=0, open=1)}
    claim = await now_of(store.ledger, mint.claim.id)
    assert (claim.state, claim.detail) == (
        ClaimState.RETIRED,
        "nobody took it although jobs waited",
    )
    assert await store.ledger.claim(order("m1"), UNBOUNDED, None) is not None


async def test_a_runner_that_took_a_job_after_all_is_not_replaced(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await looked_at(store, mint, extensions=4)
    await store.ledger.saw(mint.name, Sighting.BUSY)
    assert await state_of(store, mint.claim.id) is ClaimState.BUSY
    await store.ledger.record([running_job(1, runner=mint.name)])
    assert (await now_of(store.ledger, mint.claim.id)).job == queued_job(1).key


async def test_a_runner_that_got_a_job_is_idle_no_more(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await looked_at(store, mint, extensions=1)
    await store.ledger.record([running_job(1, runner=mint.name)])
    await speaks_for(store, mint.claim, 60 * MINUTE)
    assert (await store.overdue(), await store.due_looks()) == ([], [])


async def test_the_runner_of_the_next_generation_has_its_own_idle_minute(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await looked_at(store, mint, extensions=3)
    second = await store.ledger.minting(mint.claim.id, mint.claim.boot, PREFIX)
    await store.ledger.saw(mint.name, Sighting.DELETED)
    await store.ledger.registered(mint.claim.id, second.claim.generation, 4712)
    await speaks_for(store, mint.claim, 1 * MINUTE)
    await store.ledger.overdue(mint.claim.id)
    claim = await now_of(store.ledger, mint.claim.id)
    assert (claim.extensions, claim.idle_since) == (0, claim.state_at)
    assert await store.due_looks() == []


async def test_an_idle_runner_nobody_needs_is_deleted_after_half_a_minute(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.record([completed_job(1)])
    await store.passes(29)
    assert await store.due_looks() == []
    await store.passes(1)
    assert await store.due_looks() == [mint.name]
    changes = await store.ledger.saw(mint.name, Sighting.DELETED)
    assert changes.pools["linux"].freed == 1
    assert await state_of(store, mint.claim.id) is ClaimState.RETIRED
    assert await store.ledger.heartbeat(mint.claim.id, mint.claim.boot) is Order.STOP


# Busy, and nobody has said with which job (R9)


async def test_started_makes_the_claim_busy_with_an_unknown_job_of_its_run(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    changes = await store.ledger.started(mint.claim.id, mint.claim.boot, RUN)
    claim = await now_of(store.ledger, mint.claim.id)
    assert changes.claims == [claim]
    assert (claim.state, claim.unattributed, claim.run) == (ClaimState.BUSY, True, RUN)
    assert claim.job is None
    assert await store.use() == (1, 1, 0), "it may be serving the queued job"


async def test_started_said_twice_counts_once(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.started(mint.claim.id, mint.claim.boot, RUN)
    await store.passes(10)
    again = await store.ledger.started(mint.claim.id, mint.claim.boot, RUN)
    assert (again.claims, again.pools) == ([], {})
    await store.passes(5)
    assert await store.overdue() == [mint.claim.id], "its time did not begin anew"


async def test_only_its_own_executor_may_say_that_a_job_started(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    with pytest.raises(StaleClaim, match="not of this run"):
        await store.ledger.started(mint.claim.id, "boot-2", RUN)
    assert await state_of(store, mint.claim.id) is ClaimState.REGISTERED


async def test_no_job_starts_on_a_claim_without_a_runner(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    made = await claimed(store.ledger, "m1")
    ended = (await busy_claim(store.ledger, "m2")).claim
    await store.ledger.finish(ended.id, ended.boot, Outcome.DONE, "")
    for claim in (made, ended):
        with pytest.raises(StaleClaim, match="no runner at work"):
            await store.ledger.started(claim.id, claim.boot, RUN)


async def test_a_runner_whose_registration_was_never_confirmed_may_start_a_job(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    await store.ledger.started(mint.claim.id, mint.claim.boot, RUN)
    assert await state_of(store, mint.claim.id) is ClaimState.BUSY


async def test_started_after_in_progress_keeps_the_job(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await busy_claim(store.ledger)
    await store.ledger.started(mint.claim.id, mint.claim.boot, RUN)
    claim = await now_of(store.ledger, mint.claim.id)
    assert (claim.job, claim.unattributed, claim.run) == (queued_job(1).key, False, RUN)
    assert await store.use() == (1, 0, 0)


async def test_github_is_asked_which_job_it_is_every_15_seconds(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.started(mint.claim.id, mint.claim.boot, RUN)
    for _ in range(3):
        await store.passes(14)
        assert await store.overdue() == []
        await store.passes(1)
        assert await store.overdue() == [mint.claim.id]
        await store.ledger.overdue(mint.claim.id)


@pytest.mark.parametrize("known_by", ["started", "422"])
async def test_an_unknown_job_counts_as_supply_for_2_minutes_and_then_not(
    store: OpenedStore, known_by: str
):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    if known_by == "started":
        await store.ledger.started(mint.claim.id, mint.claim.boot, RUN)
    else:
        await store.ledger.saw(mint.name, Sighting.BUSY)
    await store.passes(119)
    await store.ledger.overdue(mint.claim.id)
    assert await store.use() == (1, 1, 0)
    await store.passes(15)
    changes = await store.ledger.overdue(mint.claim.id)
    assert changes.pools == {"linux": Touch(opened=1, freed=0, used=1, open=1)}
    assert await state_of(store, mint.claim.id) is ClaimState.BUSY
    assert await store.ledger.claim(order("m2"), UNBOUNDED, None) is not None
    await store.passes(60)
    assert await store.overdue() == [], "nobody asks any more"


@pytest.mark.parametrize("seconds", [1, 200])
async def test_the_job_may_be_named_at_any_time(store: OpenedStore, seconds: float):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.started(mint.claim.id, mint.claim.boot, RUN)
    await store.passes(seconds)
    await store.ledger.overdue(mint.claim.id)
    await store.ledger.record([running_job(1, runner=mint.name)])
    claim = await now_of(store.ledger, mint.claim.id)
    assert (claim.state, claim.job, claim.unattributed) == (
        ClaimState.BUSY,
        queued_job(1).key,
        False,
    )
    assert await store.use() == (1, 0, 0)
    await store.passes(60)
    assert await store.overdue() == []
    await store.ledger.record([completed_job(1, runner=mint.name)])
    assert await state_of(store, mint.claim.id) is ClaimState.DONE


async def test_a_job_of_another_group_leaves_the_demand_to_others(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.started(mint.claim.id, mint.claim.boot, RUN)
    changes = await store.ledger.record(
        [running_job(2, runner=mint.name, labels=("self-hosted", "arm64"))]
    )
    assert changes.pools["linux"].opened == 1


async def test_a_refused_job_that_started_is_stopped_once_it_is_named(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.started(mint.claim.id, mint.claim.boot, RUN)
    assert await store.ledger.heartbeat(mint.claim.id, mint.claim.boot) is Order.CONTINUE
    await store.ledger.record([refused(running_job(2, runner=mint.name))])
    assert await store.ledger.heartbeat(mint.claim.id, mint.claim.boot) is Order.STOP
