"""ports.Ledger: how a claim is made, registered and finished, and who is blamed (R3, R4, R15)."""

import asyncio

import pytest

from mayfly.model.changes import PoolUse, Touch
from mayfly.model.errors import NotFound, StaleClaim
from mayfly.model.protocol import Outcome
from mayfly.model.runners import ClaimId, ClaimState, Sighting, runner_name
from mayfly.ports import Ledger
from tests.fakes.backends import OpenedStore
from tests.fakes.clocks import NOON, pass_time
from tests.fakes.factories import (
    PREFIX,
    UNBOUNDED,
    claimed,
    completed_job,
    minting_claim,
    now_of,
    order,
    queued_job,
    registered_claim,
    running_job,
)

ARM = ("self-hosted", "arm64")


async def use_of(ledger: Ledger, pool: str = "linux") -> PoolUse:
    return (await ledger.pools()).get(pool, PoolUse(0, 0, 0))


async def test_a_claim_takes_a_slot_and_serves_the_job(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    assert (made.state, made.pool, made.owner) == (ClaimState.CLAIMED, "linux", "octo")
    assert made.made_at == NOON
    assert await use_of(store.ledger) == PoolUse(used=1, queued=1, open=0)
    assert await store.ledger.claim(order("m2"), UNBOUNDED, None) is None
    assert await store.ledger.claims(10, live=True) == [made]


async def test_the_same_key_gets_the_same_claim(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    first = await store.ledger.claim(order(key="k"), UNBOUNDED, None)
    again = await store.ledger.claim(order(key="k"), UNBOUNDED, None)
    assert first is not None
    assert again == first
    assert (await use_of(store.ledger)).used == 1


async def test_a_key_of_another_boot_gets_nothing(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    await store.ledger.claim(order(key="k"), UNBOUNDED, None)
    assert await store.ledger.claim(order(boot="boot-2", key="k"), UNBOUNDED, None) is None


async def test_many_claimers_at_once_never_exceed_the_maximum(store: OpenedStore):
    await store.ledger.record([queued_job(number) for number in range(1, 41)])
    made = await asyncio.gather(
        *(store.ledger.claim(order(f"m{number}"), 7, None) for number in range(40))
    )
    assert len([claim for claim in made if claim]) == 7
    assert await use_of(store.ledger) == PoolUse(used=7, queued=40, open=33)


async def test_many_claimers_at_once_never_exceed_the_demand(store: OpenedStore):
    await store.ledger.record([queued_job(number) for number in range(1, 4)])
    made = await asyncio.gather(
        *(store.ledger.claim(order(f"m{number}"), UNBOUNDED, None) for number in range(20))
    )
    assert len({claim.id for claim in made if claim}) == 3


async def test_the_owner_with_the_fewest_live_claims_comes_first(store: OpenedStore):
    await store.ledger.record(
        [queued_job(number, owner="big", age=100) for number in (1, 2, 3)]
        + [queued_job(4, owner="small")]
    )
    owners = [(await claimed(store.ledger, f"m{number}")).owner for number in range(4)]
    assert owners == ["big", "small", "big", "big"]


async def test_then_the_oldest_job_comes_first(store: OpenedStore):
    await store.ledger.record(
        [queued_job(1, repository="young"), queued_job(2, repository="old", age=60)]
    )
    made = await claimed(store.ledger)
    assert made.group == queued_job(2, repository="old").group


async def test_an_owner_at_its_bound_waits_for_the_others(store: OpenedStore):
    await store.ledger.record(
        [queued_job(number, owner="big", age=100) for number in (1, 2)]
        + [queued_job(3, owner="small")]
    )
    made = [await store.ledger.claim(order(f"m{n}"), UNBOUNDED, 1) for n in range(3)]
    assert [claim and claim.owner for claim in made] == ["big", "small", None]


@pytest.mark.parametrize(
    ("variant", "served"), [("a", True), ("b", True), (None, True), ("c", False)]
)
async def test_a_machine_gets_its_variants_and_jobs_without_one(
    store: OpenedStore, variant: str | None, served: bool
):
    labels = ("self-hosted", "linux", *([variant] if variant else []))
    await store.ledger.record([queued_job(1, labels=labels)])
    made = await store.ledger.claim(order(variants=("A", "b")), UNBOUNDED, None)
    assert (made is not None) is served


async def test_a_machine_that_names_no_variants_gets_any(store: OpenedStore):
    await store.ledger.record([queued_job(1, labels=("self-hosted", "linux", "c"))])
    assert await store.ledger.claim(order(), UNBOUNDED, None) is not None


async def test_a_predecessor_that_only_claimed_is_lost_and_its_slot_reused(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    dead = await claimed(store.ledger, boot="boot-1")
    made = await store.ledger.claim(order(boot="boot-2"), 1, None)
    assert made is not None
    assert (await now_of(store.ledger, dead.id)).state is ClaimState.LOST
    assert (await use_of(store.ledger)).used == 1


async def test_a_predecessor_with_a_runner_keeps_its_slot_until_github_answers(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    dead = await registered_claim(store.ledger, boot="boot-1")
    assert await store.ledger.claim(order(boot="boot-2"), 1, None) is None
    due = await store.ledger.due(10)
    assert [name.name for name, _, _ in due.looks] == [dead.name]
    changes = await store.ledger.saw(dead.name, Sighting.GONE)
    assert changes.pools["linux"] == Touch(opened=1, freed=1, used=0, open=1)
    assert (await now_of(store.ledger, dead.claim.id)).state is ClaimState.LOST
    assert await store.ledger.claim(order(boot="boot-2"), 1, None) is not None


async def test_claims_of_the_same_boot_are_left_alone(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    first = await claimed(store.ledger)
    await claimed(store.ledger)
    assert (await now_of(store.ledger, first.id)).live


async def test_a_claim_nobody_knows_is_not_found(store: OpenedStore):
    with pytest.raises(NotFound, match="no claim nobody"):
        await store.ledger.claimed(ClaimId("nobody"))


async def test_another_boot_may_not_speak_for_a_claim(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    with pytest.raises(StaleClaim):
        await store.ledger.heartbeat(made.id, "boot-2")
    with pytest.raises(StaleClaim):
        await store.ledger.minting(made.id, "boot-2", PREFIX)
    with pytest.raises(StaleClaim):
        await store.ledger.finish(made.id, "boot-2", Outcome.DONE, "")


# Registration


async def test_the_name_is_recorded_before_github_is_asked(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await minting_claim(store.ledger)
    assert mint.name == runner_name(PREFIX, mint.claim.id, 1)
    assert [name.name for name in await store.ledger.unproven()] == [mint.name]
    assert mint.older == []
    assert mint.group.labels == ("linux", "self-hosted")
    named = await store.ledger.named(mint.name)
    assert named is not None
    assert named.state is ClaimState.MINTING


async def test_a_lost_reply_gets_the_next_generation_and_the_older_names(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    first = await registered_claim(store.ledger)
    again = await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    assert (again.claim.generation, again.claim.state) == (2, ClaimState.MINTING)
    assert [(old.name, old.github_id) for old in again.older] == [(first.name, 4711)]


async def test_a_stale_generation_is_refused(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    first = await minting_claim(store.ledger)
    await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    with pytest.raises(StaleClaim):
        await store.ledger.registered(first.claim.id, 1, 4711)
    assert (await now_of(store.ledger, first.claim.id)).state is ClaimState.MINTING
    await store.ledger.registered(first.claim.id, 2, 4712)
    assert (await now_of(store.ledger, first.claim.id)).state is ClaimState.REGISTERED


async def test_the_id_of_a_stale_generation_is_kept_for_its_deletion(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    first = await minting_claim(store.ledger)
    await store.ledger.minting(first.claim.id, first.claim.boot, PREFIX)
    with pytest.raises(StaleClaim):
        await store.ledger.registered(first.claim.id, 1, 4711)
    assert [name.github_id for name in await store.ledger.unproven()] == [4711, None]


async def test_registered_twice_is_stale(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    with pytest.raises(StaleClaim):
        await store.ledger.registered(mint.claim.id, 1, 4711)


async def test_a_claim_whose_job_was_cancelled_is_withdrawn_when_it_asks(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    await store.ledger.record([completed_job(1)])
    with pytest.raises(StaleClaim, match="not needed"):
        await store.ledger.minting(made.id, made.boot, PREFIX)
    assert (await now_of(store.ledger, made.id)).state is ClaimState.WITHDRAWN
    assert await store.ledger.unproven() == []
    assert (await use_of(store.ledger)).used == 0


async def test_a_surplus_claim_serves_another_group_of_its_pool_instead(store: OpenedStore):
    await store.ledger.record([queued_job(1, owner="one")])
    made = await claimed(store.ledger)
    await store.ledger.record([completed_job(1, owner="one"), queued_job(2, owner="two")])
    mint = await store.ledger.minting(made.id, made.boot, PREFIX)
    assert mint.group.owner == "two"
    assert mint.claim.owner == "two"
    assert await use_of(store.ledger) == PoolUse(used=1, queued=1, open=0)


@pytest.mark.parametrize("other", [("self-hosted", "linux", "b"), ("self-hosted", "linux"), ARM])
async def test_a_claim_is_rebound_to_its_exact_variant_only(
    store: OpenedStore, other: tuple[str, ...]
):
    labels = ("self-hosted", "linux", "a")
    await store.ledger.record([queued_job(1, labels=labels)])
    made = await claimed(store.ledger, variants=("a", "b"))
    await store.ledger.record([completed_job(1, labels=labels), queued_job(2, labels=other)])
    with pytest.raises(StaleClaim):
        await store.ledger.minting(made.id, made.boot, PREFIX)


async def test_a_claim_that_ended_gets_no_registration(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    with pytest.raises(StaleClaim):
        await store.ledger.minting(mint.claim.id, mint.claim.boot, PREFIX)


# Finish, and who is to blame


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        (Outcome.DONE, ClaimState.WITHDRAWN),
        (Outcome.STOPPED, ClaimState.WITHDRAWN),
        (Outcome.FAILED, ClaimState.FAILED),
    ],
)
async def test_a_claim_without_a_runner_ends_by_its_outcome(
    store: OpenedStore, outcome: Outcome, end: ClaimState
):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    changes = await store.ledger.finish(made.id, made.boot, outcome, "because")
    after = await now_of(store.ledger, made.id)
    assert (after.state, after.detail) == (end, "because")
    assert changes.pools == {"linux": Touch(opened=1, freed=1, used=0, open=1)}


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        (Outcome.DONE, ClaimState.DONE),
        (Outcome.STOPPED, ClaimState.RETIRED),
        (Outcome.FAILED, ClaimState.FAILED),
    ],
)
async def test_a_claim_with_an_idle_runner_ends_by_its_outcome(
    store: OpenedStore, outcome: Outcome, end: ClaimState
):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, outcome, "")
    assert (await now_of(store.ledger, mint.claim.id)).state is end
    assert [name.name for name in await store.ledger.unproven()] == [mint.name]
    assert (await use_of(store.ledger)).used == 0


async def test_finish_is_idempotent(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    await store.ledger.finish(made.id, made.boot, Outcome.DONE, "first")
    again = await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "second")
    assert (again.claims, again.pools) == ([], {})
    assert (await now_of(store.ledger, made.id)).detail == "first"


async def test_a_machine_gets_a_pause_after_its_second_failure(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await pass_time(store.ledger, store.clock, 20)
    for _ in range(2):
        made = await claimed(store.ledger, "broken")
        await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "no disk")
    assert await store.ledger.claim(order("broken"), UNBOUNDED, None) is None
    await pass_time(store.ledger, store.clock, 20)
    assert await store.ledger.claim(order("broken"), UNBOUNDED, None) is not None


async def test_a_broken_machine_does_not_stop_the_others(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    for _ in range(2):
        made = await claimed(store.ledger, "broken")
        await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "no disk")
    assert await store.ledger.claim(order("sound"), UNBOUNDED, None) is not None


async def test_one_job_that_ran_forgives_a_machine(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    for outcome in (Outcome.FAILED, Outcome.DONE, Outcome.FAILED):
        mint = await registered_claim(store.ledger, "shaky")
        if outcome is Outcome.DONE:
            await store.ledger.record([running_job(1, runner=mint.name)])
        await store.ledger.finish(mint.claim.id, mint.claim.boot, outcome, "")
    assert await store.ledger.claim(order("shaky"), UNBOUNDED, None) is not None


async def test_a_machine_that_was_stopped_is_not_to_blame(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    for _ in range(3):
        mint = await minting_claim(store.ledger, "patient")
        await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.STOPPED, "")
    assert await store.ledger.claim(order("patient"), UNBOUNDED, None) is not None


async def test_a_refusal_of_github_blames_the_group_and_no_machine(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2, owner="mona")])
    mint = await minting_claim(store.ledger)
    made = mint.claim
    changes = await store.ledger.refused(made.id, "the installation is suspended")
    assert [claim.state for claim in changes.ended] == [ClaimState.FAILED]
    await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "GitHub said no")
    group = await store.ledger.group(made.group)
    assert group is not None
    assert (group.fails, group.trouble) == (1, "the installation is suspended")
    other = await store.ledger.claim(order(made.machine, boot=made.boot), UNBOUNDED, None)
    assert other is not None
    assert other.owner != made.owner
    assert await store.ledger.claim(order("m2"), UNBOUNDED, None) is None
    await pass_time(store.ledger, store.clock, 60)
    again = await store.ledger.claim(order("m2"), UNBOUNDED, None)
    assert again is not None
    assert again.owner == made.owner
    assert mint.name in [registration.name for registration in await store.ledger.unproven()]


async def test_a_rebind_keeps_the_bound_of_one_owner(store: OpenedStore):
    await store.ledger.record(
        [queued_job(1), queued_job(2, owner="mona"), queued_job(3, owner="mona", repository="b")]
    )
    octo = await store.ledger.claim(order("m1"), UNBOUNDED, 1)
    mona = await store.ledger.claim(order("m2"), UNBOUNDED, 1)
    assert octo is not None
    assert mona is not None
    assert {octo.owner, mona.owner} == {"octo", "mona"}
    surplus = octo if octo.owner == "octo" else mona
    await store.ledger.record([completed_job(1)])
    await store.ledger.relieve(surplus.id)
    moved, _ = await store.ledger.claimed(surplus.id)
    assert moved.state is ClaimState.WITHDRAWN


async def test_an_executor_of_one_pool_has_no_say_about_machines_of_another(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2, labels=ARM), queued_job(3, labels=ARM)])
    made = await claimed(store.ledger, "rack/0", pool="linux", key="theirs")
    thief = order("rack/0", boot="evil", pool="arm64")
    assert await store.ledger.claim(thief, UNBOUNDED, None) is not None
    assert (await store.ledger.claimed(made.id))[0].live
    stolen = order(made.machine, boot=made.boot, key="theirs", pool="arm64")
    assert await store.ledger.claim(stolen, UNBOUNDED, None) is None


async def test_failures_in_one_pool_do_not_pause_the_machine_in_another(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2, labels=ARM)])
    for _ in range(2):
        bad = await claimed(store.ledger, "rack/0", pool="arm64")
        await store.ledger.finish(bad.id, bad.boot, Outcome.FAILED, "no disk")
    assert await store.ledger.claim(order("rack/0", pool="arm64"), UNBOUNDED, None) is None
    assert await store.ledger.claim(order("rack/0", pool="linux"), UNBOUNDED, None) is not None
