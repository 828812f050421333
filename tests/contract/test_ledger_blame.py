"""ports.Ledger: who waits after a failure, and when a group is stalled (R15)."""

from collections.abc import Sequence

import pytest

from mayfly.model.changes import Changes
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import NotFound
from mayfly.model.jobs import GroupId, InstallationId
from mayfly.model.protocol import Outcome
from mayfly.model.runners import Claim, ClaimState, RunKey, Sighting
from tests.fakes.backends import OpenedStore
from tests.fakes.factories import (
    UNBOUNDED,
    busy_claim,
    claimed,
    completed_job,
    minting_claim,
    now_of,
    order,
    queued_job,
    registered_claim,
    running_job,
)

HOUR = 3600
LONGEST_PAUSE = 600


async def fails(store: OpenedStore, machine: str = "m1", times: int = 1) -> None:
    """A machine takes a claim, prepares it and cannot start its runner, so often in a row."""
    for _ in range(times):
        await store.passes(LONGEST_PAUSE)
        await fails_now(store, machine)


async def fails_now(store: OpenedStore, machine: str, detail: str = "no disk") -> Changes:
    mint = await registered_claim(store.ledger, machine)
    return await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, detail)


async def asks(store: OpenedStore, machine: str = "m1") -> Claim | None:
    return await store.ledger.claim(order(machine), UNBOUNDED, None)


async def group_of(store: OpenedStore, job_id: int = 1) -> DemandGroup:
    found = queued_job(job_id).group
    assert found is not None
    group = await store.ledger.group(found)
    assert group is not None
    return group


async def stalled(store: OpenedStore) -> None:
    """The group of job 1 has just stalled; four jobs of it are queued."""
    await store.ledger.record([queued_job(number) for number in range(1, 5)])
    await fails(store, "m1", 4)
    await fails(store, "m2")
    assert (await group_of(store)).stalled


# Machines


async def test_a_machine_pauses_from_its_second_failure_on_ever_longer_up_to_10_minutes(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    await store.ledger.record([queued_job(number, owner=f"o{number}") for number in range(2, 11)])
    pauses = [0, 20, 40, 80, 160, 320, 600, 600]
    for pause in pauses:
        await fails_now(store, "broken")
        if pause:
            await store.passes(pause - 1)
            assert await asks(store, "broken") is None
            await store.passes(1)


async def test_a_job_at_work_ends_a_machines_row_of_failures(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    await fails(store, "m1", 2)
    await store.passes(LONGEST_PAUSE)
    mint = await busy_claim(store.ledger, "m1")
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    made = await claimed(store.ledger, "m1")
    await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "")
    assert await asks(store) is not None, "a first failure has no consequence"


# Groups


@pytest.mark.parametrize(
    ("machines", "stalls"),
    [
        (["m1"] * 4, False),
        (["m1"] * 5, True),
        (["m1", "m1", "m2", "m1"], False),
        (["m1", "m1", "m1", "m1", "m2"], True),
        (["m1", "m2", "m3", "m4", "m5"], True),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else str(value),
)
async def test_a_group_stalls_after_five_failures_on_two_machines_or_the_pools_only_one(
    store: OpenedStore, machines: Sequence[str], stalls: bool
):
    await store.ledger.record([queued_job(1)])
    for machine in machines:
        assert not (await group_of(store)).stalled
        await fails(store, machine)
    assert (await group_of(store)).stalled is stalls


async def test_one_machine_of_several_does_not_stall_a_group(store: OpenedStore):
    await store.ledger.record([queued_job(2, owner="mona")])
    await claimed(store.ledger, "sound")
    await store.ledger.record([queued_job(1)])
    await fails(store, "broken", 7)
    group = await group_of(store)
    assert (group.fails, group.stalled, group.failed_on) == (7, False, ("broken",))
    assert await asks(store, "sound") is not None


async def test_a_stalled_group_says_why_and_is_told_once(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await fails(store, "m1", 4)
    await store.passes(LONGEST_PAUSE)
    changes = await fails_now(store, "m2")
    group = await group_of(store)
    assert [found.trouble for found in changes.stalled] == [group.trouble]
    assert group.trouble == "no disk (machine m2)"
    assert await store.ledger.stalled(10) == [group]
    await store.passes(HOUR)
    changes = await fails_now(store, "m1", "still no disk")
    assert changes.stalled == []
    assert [found.trouble for found in await store.ledger.stalled(10)] == [
        "still no disk (machine m1)"
    ]


async def test_a_stalled_group_is_tried_with_exactly_one_claim_an_hour(store: OpenedStore):
    await stalled(store)
    for _ in range(2):
        assert await store.use() == (0, 4, 0)
        await store.passes(HOUR - 1)
        assert await asks(store, "m3") is None
        await store.passes(1)
        assert await store.use() == (0, 4, 1)
        tried = await asks(store, "m3")
        assert tried is not None
        assert await store.use() == (1, 4, 0)
        assert await asks(store, "m4") is None
        await store.ledger.finish(tried.id, tried.boot, Outcome.FAILED, "no disk")


async def test_a_try_that_ends_without_a_verdict_may_be_repeated(store: OpenedStore):
    await stalled(store)
    await store.passes(HOUR)
    made = await claimed(store.ledger, "m3")
    await store.ledger.finish(made.id, made.boot, Outcome.STOPPED, "")
    assert (await store.use()).open == 1


async def test_a_try_that_works_opens_the_group(store: OpenedStore):
    await stalled(store)
    await store.passes(HOUR)
    mint = await registered_claim(store.ledger, "m3")
    await store.ledger.record([running_job(1, runner=mint.name)])
    assert await store.use() == (1, 3, 3)
    group = await group_of(store)
    assert (group.stalled, group.fails, group.trouble, group.retry_at) == (False, 0, "", None)
    assert await store.ledger.stalled(10) == []


async def test_other_groups_of_the_pool_go_on_beside_a_stalled_one(store: OpenedStore):
    await stalled(store)
    changes = await store.ledger.record([queued_job(9, owner="mona")])
    assert changes.pools["linux"].open == 1
    assert await store.use() == (0, 5, 1)
    made = await asks(store, "m3")
    assert made is not None
    assert made.owner == "mona"


async def test_a_job_that_joins_a_stalled_group_is_no_reason_to_ring(store: OpenedStore):
    await stalled(store)
    changes = await store.ledger.record([queued_job(9)])
    assert changes.pools["linux"].open == 0


async def test_a_surplus_claim_is_not_moved_to_a_stalled_group(store: OpenedStore):
    await stalled(store)
    await store.ledger.record([queued_job(9, owner="mona")])
    made = await claimed(store.ledger, "m3")
    await store.ledger.record([completed_job(9, owner="mona")])
    changes = await store.ledger.relieve(made.id)
    assert [claim.state for claim in changes.ended] == [ClaimState.WITHDRAWN]


# What ends a row of failures


async def busy_by(store: OpenedStore, how: str) -> None:
    """GitHub or the executor has shown that a runner of the group works."""
    mint = await registered_claim(store.ledger, "m3")
    match how:
        case "in_progress":
            await store.ledger.record([running_job(1, runner=mint.name)])
        case "started":
            run = RunKey("octo/hello", 900, 1)
            await store.ledger.started(mint.claim.id, mint.claim.boot, run)
        case "422":
            await store.ledger.saw(mint.name, Sighting.BUSY)
        case "completed":
            await store.ledger.record([completed_job(1, runner=mint.name)])


@pytest.mark.parametrize("how", ["in_progress", "started", "422", "completed"])
async def test_a_runner_at_work_ends_a_groups_row_of_failures(store: OpenedStore, how: str):
    await store.ledger.record([queued_job(1), queued_job(2)])
    await fails(store, "m1", 4)
    await busy_by(store, how)
    assert (await group_of(store)).fails == 0
    await fails(store, "m2")
    assert not (await group_of(store)).stalled


# What is a failure


async def test_a_claim_that_was_withdrawn_lost_or_stopped_is_no_failure(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    silent = await claimed(store.ledger, "m1")
    await store.passes(120)
    await store.ledger.lose(silent.id)
    stopped = await registered_claim(store.ledger, "m1")
    await store.ledger.finish(stopped.claim.id, stopped.claim.boot, Outcome.STOPPED, "")
    withdrawn = await claimed(store.ledger, "m1")
    await store.ledger.record([completed_job(1)])
    await store.ledger.relieve(withdrawn.id)
    assert (await group_of(store)).fails == 0
    await store.ledger.record([queued_job(2)])
    assert await asks(store) is not None


async def test_waiting_for_github_in_vain_is_no_failure(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    for _ in range(5):
        mint = await minting_claim(store.ledger, "m1")
        late = "no runner was registered within 900 s"
        await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, late)
        await store.ledger.saw(mint.name, Sighting.GONE)
    assert (await group_of(store)).fails == 0
    assert await asks(store, "m1") is not None


async def in_vain(store: OpenedStore, minutes: int = 2) -> Claim:
    """A claim for whose runner GitHub has been asked so long without an answer."""
    mint = await minting_claim(store.ledger, "m1")
    for _ in range(minutes):
        assert not (await store.ledger.delayed(mint.claim.id, "no answer")).ended
        await store.passes(60)
        mint = await store.ledger.minting(mint.claim.id, mint.claim.boot, "mayfly")
    return mint.claim


async def test_a_claim_in_vain_gives_way_to_another_owners_job_and_its_group_waits(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1, age=9)])
    await store.ledger.record([queued_job(2, owner="mona", installation=8)])
    claim = await in_vain(store)
    changes = await store.ledger.delayed(claim.id, "no answer")
    assert [(one.state, one.detail) for one in changes.ended] == [(ClaimState.FAILED, "no answer")]
    await store.ledger.finish(claim.id, claim.boot, Outcome.STOPPED, "")
    made = await asks(store)
    assert made is not None
    assert made.owner == "mona"
    assert await asks(store, "m2") is None
    await store.passes(300)
    assert await asks(store, "m2") is not None


@pytest.mark.parametrize("theirs", [None, 7, "elsewhere"])
async def test_a_claim_in_vain_goes_on_where_nobody_else_could_be_served(
    store: OpenedStore, theirs: int | str | None
):
    await store.ledger.record([queued_job(1, age=9)])
    if theirs == 7:
        await store.ledger.record([queued_job(2, repository="world")])
    elif theirs:
        other = queued_job(2, owner="mona", installation=8, labels=("self-hosted", "arm64"))
        await store.ledger.record([other])
    claim = await in_vain(store, minutes=10)
    assert not (await store.ledger.delayed(claim.id, "no answer")).ended
    assert (await now_of(store.ledger, claim.id)).detail == "no answer"


async def test_the_patience_begins_anew_with_each_registration(store: OpenedStore):
    await store.ledger.record([queued_job(1, age=9)])
    await store.ledger.record([queued_job(2, owner="mona", installation=8)])
    claim = await in_vain(store)
    await store.ledger.registered(claim.id, claim.generation, 4711)
    again = await store.ledger.minting(claim.id, claim.boot, "mayfly")
    assert not (await store.ledger.delayed(again.claim.id, "no answer")).ended
    assert (await now_of(store.ledger, claim.id)).detail == "no answer"


async def test_a_predecessor_that_died_is_no_failure(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    for number in range(7):
        assert await store.ledger.claim(order(boot=f"boot-{number}"), UNBOUNDED, None) is not None
    assert (await group_of(store)).fails == 0


async def ended_without_a_word(store: OpenedStore) -> str:
    """A runner that exited, and of which GitHub named no job; its name."""
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    return mint.name


async def test_a_runner_that_ended_and_is_still_at_github_took_no_job_and_failed(
    store: OpenedStore,
):
    name = await ended_without_a_word(store)
    await store.ledger.saw(name, Sighting.DELETED)
    group = await group_of(store)
    assert group.fails == 1
    assert group.trouble == "its runner ended without taking a job (machine m1)"
    assert await asks(store) is not None


async def test_runners_that_end_without_taking_a_job_pause_their_machine(store: OpenedStore):
    for _ in range(2):
        name = await ended_without_a_word(store)
        await store.ledger.saw(name, Sighting.DELETED)
    assert await asks(store) is None


async def test_a_runner_that_left_github_by_itself_had_a_job_nobody_told_of(store: OpenedStore):
    name = await ended_without_a_word(store)
    await store.ledger.saw(name, Sighting.GONE)
    assert (await group_of(store)).fails == 0
    assert await store.due_checks() == [1], "which one, GitHub is asked"


async def test_a_runner_with_a_known_job_did_not_fail(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await busy_claim(store.ledger)
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    await store.ledger.saw(mint.name, Sighting.DELETED)
    assert (await group_of(store)).fails == 0


async def test_a_surplus_runner_that_was_deleted_did_not_fail(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    mint = await registered_claim(store.ledger)
    await store.ledger.record([completed_job(1)])
    await store.ledger.saw(mint.name, Sighting.DELETED)
    assert (await group_of(store)).fails == 0


# GitHub's refusals


async def is_refused(store: OpenedStore, machine: str = "m1") -> Claim:
    mint = await minting_claim(store.ledger, machine)
    await store.ledger.refused(mint.claim.id, "the installation is suspended")
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, "GitHub said no")
    return mint.claim


async def test_refusals_make_the_group_wait_ever_longer_and_stall_it(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    for pause in (10, 20, 40, 80, HOUR):
        assert not (await group_of(store)).stalled
        await is_refused(store)
        assert (await store.use()).open == 0
        await store.passes(pause - 1)
        assert await asks(store, "m2") is None
        await store.passes(1)
    group = await group_of(store)
    assert (group.stalled, group.fails, group.failed_on) == (True, 5, ())
    assert group.trouble == "the installation is suspended"
    assert await asks(store, "m2") is not None


async def test_a_refusal_is_told_when_it_stalls_the_group(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    for _ in range(4):
        await is_refused(store)
        await store.passes(LONGEST_PAUSE)
    mint = await minting_claim(store.ledger)
    changes = await store.ledger.refused(mint.claim.id, "the installation is suspended")
    assert [group.id for group in changes.stalled] == [queued_job(1).group]


async def test_a_refusal_is_no_machines_fault(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    for _ in range(3):
        await is_refused(store)
        await store.passes(80)
    assert await asks(store) is not None


# Retry


async def test_retry_opens_a_stalled_group_at_once_and_rings(store: OpenedStore):
    await stalled(store)
    group = await group_of(store)
    changes = await store.ledger.retry(group.id)
    touched = changes.pools["linux"]
    assert (touched.opened, touched.open) == (4, 4)
    assert await store.ledger.stalled(10) == []
    assert (await group_of(store)).fails == 0
    for machine in ("m3", "m4", "m5", "m6"):
        assert await asks(store, machine) is not None


async def test_retry_ends_the_pause_of_the_machine_that_failed(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await fails(store, "m1", 5)
    group = await group_of(store)
    assert group.stalled
    await store.ledger.retry(group.id)
    assert await asks(store, "m1") is not None, "the pool's only machine was repaired"


async def test_retry_ends_the_wait_after_a_refusal(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    claim = await is_refused(store)
    await store.ledger.retry(claim.group)
    assert await asks(store) is not None


async def test_retry_said_twice_does_no_harm(store: OpenedStore):
    await stalled(store)
    group = (await group_of(store)).id
    first = await store.ledger.retry(group)
    again = await store.ledger.retry(group)
    assert first.pools == again.pools
    assert await store.use() == (0, 4, 4)


async def test_retry_of_a_group_that_needs_nothing_does_not_ring(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await claimed(store.ledger)
    assert (await store.ledger.retry((await group_of(store)).id)).pools == {}


async def test_a_group_nobody_knows_cannot_be_retried(store: OpenedStore):
    with pytest.raises(NotFound, match="no demand group 12"):
        await store.ledger.retry(GroupId(12))


async def test_an_installation_that_works_again_is_asked_at_once(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2, installation=8)])
    for machine in ("m1", "m2"):
        await is_refused(store, machine)
    assert await asks(store) is None
    changes = await store.ledger.revived(InstallationId(7))
    assert changes.pools["linux"].open == 1
    made = await asks(store)
    assert made is not None
    assert made.group == queued_job(1).group, "the other installation waits on"
    assert await asks(store, "m2") is None
