"""ports.Ledger: a name whose registration token is out is proven gone by nothing (R4, R6)."""

import pytest

from mayfly.model.changes import Mint
from mayfly.model.errors import StaleClaim
from mayfly.model.protocol import Outcome
from mayfly.model.runners import ClaimState, Registration, Sighting
from tests.fakes.backends import OpenedStore
from tests.fakes.factories import PREFIX, claimed, minting_claim, now_of, order, queued_job

MINUTE, HOUR = 60, 3600


async def entrusted_claim(store: OpenedStore) -> Mint:
    """A claim whose executor may register its runner itself."""
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    await store.ledger.entrusted(mint.claim.id, mint.claim.generation)
    return mint


async def only(store: OpenedStore) -> Registration:
    (found,) = await store.ledger.unproven()
    return found


async def silent(store: OpenedStore, mint: Mint) -> None:
    """Nobody hears of its executor any more, and GitHub is about to be asked."""
    await store.passes(2 * MINUTE)
    await store.ledger.lose(mint.claim.id)
    assert mint.name in await store.due_looks()


async def next_look(store: OpenedStore) -> None:
    """Time passes until the name is looked at."""
    found = await only(store)
    assert found.next_look_at is not None
    await store.passes(max(0.0, found.next_look_at - await store.passes(0)))
    assert await store.due_looks() == [found.name]


async def test_a_token_goes_out_for_the_generation_that_is_being_minted(store: OpenedStore):
    mint = await entrusted_claim(store)
    assert (await only(store)).token_until is not None
    with pytest.raises(StaleClaim):
        await store.ledger.entrusted(mint.claim.id, mint.claim.generation + 1)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, "")
    with pytest.raises(StaleClaim):
        await store.ledger.entrusted(mint.claim.id, mint.claim.generation)


@pytest.mark.parametrize("sighting", [Sighting.GONE, Sighting.DELETED, Sighting.NOT_FOUND])
async def test_nothing_proves_a_name_gone_while_its_token_lives(
    store: OpenedStore, sighting: Sighting
):
    mint = await entrusted_claim(store)
    await silent(store, mint)
    began = await store.passes(0)
    await store.ledger.saw(mint.name, sighting)
    looks = 0
    while (await only(store)).may_appear(await store.passes(0)):
        await next_look(store)
        if await store.passes(0) - began < HOUR - 2 * MINUTE:
            await store.ledger.saw(mint.name, sighting)
            looks += 1
    assert 3 <= looks <= 12, "looked at, but not every minute"
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert (await only(store)).negatives == 1, "the first that counts"
    await next_look(store)
    await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert await store.ledger.unproven() == []


async def test_a_runner_that_appears_after_two_negatives_is_deleted_all_the_same(
    store: OpenedStore,
):
    mint = await entrusted_claim(store)
    await silent(store, mint)
    for _ in range(2):
        await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
        await next_look(store)
    await store.ledger.saw(mint.name, Sighting.DELETED)
    assert (await only(store)).name == mint.name, "its token lives, so it may come once more"


async def test_a_silent_executor_s_claim_and_slot_do_not_wait_for_the_token(store: OpenedStore):
    mint = await entrusted_claim(store)
    assert await store.use() == (1, 1, 0)
    await silent(store, mint)
    changes = await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert (await now_of(store.ledger, mint.claim.id)).state is ClaimState.LOST
    assert changes.pools["linux"].freed == 1
    assert await store.use() == (0, 1, 1)
    other = await claimed(store.ledger, "m2")
    assert other.id != mint.claim.id


async def test_an_executor_that_says_its_token_is_spent_makes_negatives_count(store: OpenedStore):
    mint = await entrusted_claim(store)
    await store.ledger.finish(
        mint.claim.id, mint.claim.boot, Outcome.FAILED, "configure failed", token_spent=True
    )
    for _ in range(2):
        await next_look(store)
        await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert await store.ledger.unproven() == []


async def test_an_executor_that_does_not_say_so_leaves_the_name_for_the_token_s_life(
    store: OpenedStore,
):
    mint = await entrusted_claim(store)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.STOPPED, "")
    for _ in range(2):
        await next_look(store)
        await store.ledger.saw(mint.name, Sighting.NOT_FOUND)
    assert (await only(store)).may_appear(await store.passes(0))
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.STOPPED, "", token_spent=True)
    assert await store.due_looks() == [mint.name], "a last word that was lost counts, too"


async def test_a_registration_that_was_confirmed_is_like_any_other(store: OpenedStore):
    mint = await entrusted_claim(store)
    await store.ledger.registered(mint.claim.id, mint.claim.generation, 4711)
    assert (await now_of(store.ledger, mint.claim.id)).state is ClaimState.REGISTERED
    found = await only(store)
    assert (found.token_until, found.github_id) == (None, 4711)
    await store.ledger.saw(mint.name, Sighting.DELETED)
    assert await store.ledger.unproven() == []


async def test_a_token_whose_reply_was_lost_is_spent_with_the_next_one(store: OpenedStore):
    first = await entrusted_claim(store)
    second = await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    assert [older.name for older in second.older] == [first.name]
    await store.ledger.saw(first.name, Sighting.NOT_FOUND)
    await store.ledger.entrusted(second.claim.id, second.claim.generation)
    assert (await now_of(store.ledger, first.claim.id)).state is ClaimState.MINTING
    await store.ledger.registered(second.claim.id, second.claim.generation, 4711)
    assert [found.token_until for found in await store.ledger.unproven()] == [None, None]


async def test_a_machine_that_comes_back_has_ended_what_had_the_token(store: OpenedStore):
    mint = await entrusted_claim(store)
    await store.ledger.claim(order("m1", boot="boot-2"), 100, None)
    found = await only(store)
    assert (found.name, found.token_until) == (mint.name, None)
    await store.ledger.saw(mint.name, Sighting.DELETED)
    assert (await now_of(store.ledger, mint.claim.id)).state is ClaimState.LOST


@pytest.mark.parametrize(("outcome", "pauses"), [(Outcome.FAILED, True), (Outcome.STOPPED, False)])
async def test_a_machine_whose_program_fails_is_to_blame(
    store: OpenedStore, outcome: Outcome, pauses: bool
):
    await store.ledger.record([queued_job(1)])
    for _ in range(2):
        mint = await minting_claim(store.ledger)
        await store.ledger.entrusted(mint.claim.id, mint.claim.generation)
        await store.ledger.finish(mint.claim.id, mint.claim.boot, outcome, "", token_spent=True)
    assert (await store.ledger.claim(order("m1"), 100, None) is None) is pauses
