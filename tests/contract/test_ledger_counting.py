"""ports.Ledger: the counters against the rows they stand for (R2)."""

import pytest

from mayfly.model.changes import Recount
from mayfly.model.jobs import GroupId
from mayfly.model.protocol import Outcome
from mayfly.model.runners import RunKey, Sighting
from tests.fakes.backends import OpenedStore
from tests.fakes.counters import break_counter
from tests.fakes.factories import (
    UNBOUNDED,
    busy_claim,
    claimed,
    completed_job,
    minting_claim,
    order,
    queued_job,
    refused,
    registered_claim,
    running_job,
    waiting_job,
)

ARM = ("self-hosted", "arm64")


async def recounts(store: OpenedStore) -> list[Recount]:
    """Every group once."""
    found: list[Recount] = []
    while (recount := await store.ledger.recount(found[-1].group if found else None)) is not None:
        found.append(recount)
    return found


async def wrong_in(store: OpenedStore) -> list[str]:
    return [sentence for recount in await recounts(store) for sentence in recount.wrong]


async def test_an_empty_ledger_has_nothing_to_count(store: OpenedStore):
    assert await store.ledger.recount(None) is None


async def test_every_group_is_counted_once_in_a_round(store: OpenedStore):
    jobs = [queued_job(number, repository=f"r{number}") for number in range(1, 6)]
    await store.ledger.record([*jobs, queued_job(9, labels=ARM)])
    counted = [recount.group for recount in await recounts(store)]
    assert counted == sorted(job.group or 0 for job in (*jobs, queued_job(9, labels=ARM)))
    assert await store.ledger.recount(counted[-1]) is None


async def test_a_round_goes_on_where_a_group_was_forgotten(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    group = queued_job(1).group
    assert group is not None
    recount = await store.ledger.recount(GroupId(group - 1))
    assert recount is not None
    assert recount.group == group


async def test_whatever_happens_nothing_is_wrong(store: OpenedStore):
    ledger = store.ledger
    await ledger.record([queued_job(number) for number in range(1, 9)])
    await ledger.record([waiting_job(20), refused(queued_job(21)), queued_job(22, age=90_000)])
    await claimed(ledger, "m1")
    minting = await minting_claim(ledger, "m2")
    idle = await registered_claim(ledger, "m3")
    busy = await busy_claim(ledger, "m4")
    unknown = await registered_claim(ledger, "m5")
    await ledger.started(unknown.claim.id, unknown.claim.boot, RunKey("octo/hello", 900, 1))
    assert await wrong_in(store) == []
    await ledger.finish(idle.claim.id, idle.claim.boot, Outcome.FAILED, "")
    await ledger.record([running_job(2, runner=minting.name)])
    await ledger.record([completed_job(1, runner=busy.name)])
    await ledger.checked(queued_job(3).key, waiting_job(3, asked=True))
    await store.passes(200)
    await ledger.overdue(unknown.claim.id)
    for claim in (await ledger.due(10)).silent:
        await ledger.lose(claim.id)
    assert await wrong_in(store) == []
    await ledger.saw(minting.name, Sighting.UNREACHABLE)
    await store.passes(600)
    await ledger.saw(minting.name, Sighting.UNREACHABLE)
    await store.passes(9 * 86_400)
    await ledger.forget(100)
    assert await wrong_in(store) == []


@pytest.mark.parametrize("by", [-1, 2])
@pytest.mark.parametrize(
    ("counter", "where"),
    [
        ("queued", "group {group} of pool linux: queued"),
        ("supply", "group {group} of pool linux: supply"),
        ("sure", "group {group} of pool linux: sure"),
        ("used", "pool linux: used"),
        ("owner", "pool linux, owner octo: used"),
    ],
)
async def test_a_broken_counter_is_told_and_repaired(
    store: OpenedStore, counter: str, where: str, by: int
):
    await store.ledger.record([queued_job(number) for number in range(1, 6)])
    await claimed(store.ledger, "m1")
    await registered_claim(store.ledger, "m2")
    before = store.counters()
    break_counter(store.ledger, store.url, counter, by)
    assert store.counters() != before
    sentence = where.format(group=queued_job(1).group)
    assert await wrong_in(store) == [f"{sentence} was {by:+d}"]
    assert store.counters() == before
    assert await wrong_in(store) == []


async def test_demand_that_was_lost_from_the_counters_is_served_after_the_recount(
    store: OpenedStore,
):
    await store.ledger.record([queued_job(1)])
    break_counter(store.ledger, store.url, "queued", -1)
    assert await store.ledger.claim(order(), UNBOUNDED, None) is None
    await recounts(store)
    assert await store.ledger.claim(order(), UNBOUNDED, None) is not None


async def test_a_surplus_that_a_recount_finds_begins_with_it(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    made = await claimed(store.ledger)
    await store.ledger.record([completed_job(1)])
    break_counter(store.ledger, store.url, "supply", -1)
    await store.passes(100)
    await recounts(store)
    await store.passes(30)
    assert [claim.id for claim in (await store.ledger.due(10)).surplus] == [made.id]
