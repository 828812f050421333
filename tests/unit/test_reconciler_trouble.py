"""The reconciler: the trouble of one repair is no other's, and the house is kept."""

import asyncio

import structlog

from mayfly.model.errors import GitHubRefused, RefusalKind
from mayfly.model.protocol import Outcome
from mayfly.model.runners import ClaimId, ClaimState, Sighting
from tests.fakes.clocks import TURN, pass_time
from tests.fakes.counters import break_counter
from tests.fakes.engine import Engine
from tests.fakes.factories import (
    attempt,
    claimed,
    completed_job,
    now_of,
    queued_job,
)

BOOT = "boot-1"


async def state_of(engine: Engine, claim: ClaimId) -> ClaimState:
    return (await now_of(engine.ledger, claim)).state


async def test_another_instance_leads_as_soon_as_this_one_has_ended(engine: Engine):
    async with engine.reconciler.open():
        await until_idle()
        assert await engine.ledger.tick("another", TURN) is None
    assert await engine.ledger.tick("another", TURN) is not None


async def stopped(engine: Engine, count: int) -> list[str]:
    """Runners of ended claims that are still at GitHub."""
    for number in range(1, count + 1):
        claim = await engine.registered(number, f"m{number}")
        await engine.ledger.finish(claim, BOOT, Outcome.STOPPED, "")
    return [registration.name for registration in await engine.ledger.unproven()]


async def test_an_installation_that_is_silent_three_times_is_left_alone_for_the_turn(
    engine: Engine,
):
    await engine.reconciler.turn()
    await stopped(engine, 6)
    engine.github.calls.clear()
    for _ in range(3):
        engine.github.fail_before("delete_runner")
    await engine.turns(1)
    assert len(engine.github.verbs("delete_runner")) == 3
    assert len(await engine.ledger.unproven()) == 6
    await engine.turns(4)
    assert await engine.ledger.unproven() == []


async def test_a_refusal_about_one_repository_is_no_silence_of_its_installation(engine: Engine):
    await engine.reconciler.turn()
    await stopped(engine, 6)
    engine.github.calls.clear()
    for _ in range(3):
        refusal = GitHubRefused(RefusalKind.NOT_INSTALLED, "not in the list of repositories")
        engine.github.fail_before("delete_runner", refusal)
    await engine.turns(1)
    assert len(engine.github.verbs("delete_runner")) == 6
    assert len(await engine.ledger.unproven()) == 3


async def test_the_silence_of_one_installation_is_no_others(engine: Engine):
    await engine.reconciler.turn()
    await stopped(engine, 3)
    theirs = queued_job(9, owner="mona", installation=8)
    await engine.ledger.record([theirs])
    made = await claimed(engine.ledger, "m9")
    await engine.claims.register(made.id, BOOT)
    await engine.ledger.finish(made.id, BOOT, Outcome.STOPPED, "")
    for _ in range(3):
        engine.github.fail_before("delete_runner")
    await engine.turns(1)
    left = {registration.claim for registration in await engine.ledger.unproven()}
    assert len(left) == 3
    assert made.id not in left


async def test_a_question_that_hangs_holds_no_turn_up(engine: Engine):
    await engine.reconciler.turn()
    await stopped(engine, 1)
    await engine.ledger.record([queued_job(2)])
    silent = await claimed(engine.ledger, "m2")
    engine.github.hold("delete_runner")
    engine.clock.advance(20)
    first = asyncio.create_task(engine.reconciler.turn())
    await engine.github.held("delete_runner")
    others = []
    for _ in range(6):
        engine.clock.advance(20)
        others.append(asyncio.create_task(engine.reconciler.turn()))
        await until_idle()
    assert await state_of(engine, silent.id) is ClaimState.LOST
    assert len(engine.github.verbs("delete_runner")) == 1, "and it is asked once at a time"
    engine.github.release("delete_runner")
    async with asyncio.timeout(30):
        assert await asyncio.gather(first, *others) == [True] * 7
    assert await engine.ledger.unproven() == []


async def until_idle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_log_that_cannot_be_read_is_said_and_is_no_others_trouble(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    engine.github.fail_before("deliveries")
    with structlog.testing.capture_logs() as entries:
        assert await engine.reconciler.turn()
    assert [entry["event"] for entry in entries] == ["log.unread"]
    assert await engine.rings() == 1


async def test_what_only_the_delivery_log_knows_is_found_in_a_turn(engine: Engine):
    engine.github.log = [attempt(1)]
    engine.github.payloads = {1: queued_job(1).event}
    await engine.reconciler.turn()
    assert (await engine.ledger.pools())["linux"].queued == 1
    assert engine.corrected("delivery_fetched") == 1


# Housekeeping


async def test_a_broken_counter_is_said_and_repaired_within_a_round(engine: Engine):
    await engine.ledger.record([queued_job(n, repository=f"r{n}") for n in range(1, 4)])
    break_counter(engine.ledger, "memory:", "queued", 2)
    with structlog.testing.capture_logs() as entries:
        await engine.turns(4)
    assert [entry["event"] for entry in entries] == ["counter.repaired"] * 3
    assert (await engine.ledger.pools())["linux"].queued == 3
    assert engine.corrected("counter_repaired") == 3


async def test_rounds_of_the_recount_follow_each_other(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    await engine.turns(2)
    break_counter(engine.ledger, "memory:", "sure", 1)
    await engine.turns(2)
    assert engine.corrected("counter_repaired") == 1


async def test_what_is_over_is_forgotten_in_the_end(engine: Engine):
    await engine.ledger.record([completed_job(1), queued_job(2)])
    await leaves(engine, 8 * 86_400)
    await engine.turns(1)
    assert [job.key.id for job in await engine.ledger.jobs(10)] == [2]


async def test_a_name_that_is_given_up_is_told(engine: Engine):
    (name,) = await stopped(engine, 1)
    await engine.ledger.saw(name, Sighting.UNREACHABLE)
    await leaves(engine, 25 * 3600)
    engine.github.fail_before("delete_runner")
    await engine.turns(1)
    assert await engine.ledger.unproven() == []
    assert "registration.abandoned" in await engine.heard()
    assert engine.corrected("registration_abandoned") == 1


async def leaves(engine: Engine, seconds: float) -> None:
    """So much ledger time under another leader, which then leaves."""
    await pass_time(engine.ledger, engine.clock, seconds)
    engine.clock.advance(4 * seconds)
