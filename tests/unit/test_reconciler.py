"""The reconciler: what was lost on the way is found by its turns."""

from datetime import timedelta

from mayfly.model.protocol import Outcome
from mayfly.model.requests import RunnerRequest
from mayfly.model.runners import ClaimId, ClaimState
from tests.fakes.clocks import TURN
from tests.fakes.engine import Engine
from tests.fakes.factories import claimed, completed_job, now_of, order, queued_job

BOOT = "boot-1"


async def turns(engine: Engine, count: int) -> None:
    for _ in range(count):
        engine.clock.advance(TURN.total_seconds())
        assert await engine.reconciler.turn()


async def registered(engine: Engine, job: int = 1, machine: str = "m1") -> ClaimId:
    """A claim with an idle runner at GitHub."""
    await engine.ledger.record([queued_job(job)])
    made = await claimed(engine.ledger, machine)
    await engine.claims.register(made.id, made.boot)
    return made.id


async def state_of(engine: Engine, claim: ClaimId) -> ClaimState:
    return (await now_of(engine.ledger, claim)).state


async def test_a_silent_claim_is_lost_and_its_job_rung_for_again(engine: Engine):
    await engine.reconciler.turn()
    await engine.ledger.record([queued_job(1)])
    made = await claimed(engine.ledger)
    await turns(engine, 5)
    assert await state_of(engine, made.id) is ClaimState.CLAIMED
    await turns(engine, 1)
    assert await state_of(engine, made.id) is ClaimState.LOST
    assert await engine.rings() >= 1
    assert "claim.ended" in await engine.heard()


async def test_the_runner_of_a_silent_executor_is_deleted_before_its_claim_is_lost(
    engine: Engine,
):
    await engine.reconciler.turn()
    claim = await registered(engine)
    await turns(engine, 6)
    assert await state_of(engine, claim) is ClaimState.REGISTERED
    await turns(engine, 1)
    assert engine.github.registered == {}
    assert await state_of(engine, claim) is ClaimState.LOST
    assert await engine.ledger.claim(order("m2"), 3, None) is not None


async def test_a_silent_executor_with_a_job_at_work_is_left_to_github(engine: Engine):
    await engine.reconciler.turn()
    claim = await registered(engine)
    (name,) = engine.github.registered
    engine.github.start_job_on(name)
    await turns(engine, 9)
    assert await state_of(engine, claim) is ClaimState.BUSY
    engine.github.busy.clear()
    await turns(engine, 3)
    assert await state_of(engine, claim) is ClaimState.DONE
    assert await engine.ledger.unproven() == []


async def test_a_surplus_idle_runner_is_deleted_and_its_slot_rung_for(engine: Engine):
    await engine.reconciler.turn()
    claims = [await registered(engine, number, f"m{number}") for number in (1, 2, 3)]
    await engine.ledger.record([completed_job(1)])
    await engine.ledger.record([queued_job(4, repository="other")])
    assert (await engine.ledger.pools())["linux"].used == 3
    for _ in range(3):
        await turns(engine, 1)
        for claim in claims:
            await engine.ledger.heartbeat(claim, BOOT)
    states = [await state_of(engine, claim) for claim in claims]
    assert states.count(ClaimState.RETIRED) == 1
    assert (await engine.ledger.pools())["linux"].used == 2
    assert await engine.rings() >= 1


async def test_a_surplus_claim_without_a_runner_is_withdrawn(engine: Engine):
    await engine.reconciler.turn()
    await engine.ledger.record([queued_job(1)])
    made = await claimed(engine.ledger)
    await engine.ledger.record([completed_job(1)])
    await turns(engine, 2)
    assert await state_of(engine, made.id) is ClaimState.WITHDRAWN
    assert engine.github.calls == []


async def test_names_are_looked_at_until_they_are_proven_gone(engine: Engine):
    await engine.reconciler.turn()
    claim = await registered(engine)
    await engine.ledger.finish(claim, BOOT, Outcome.DONE, "")
    engine.github.fail_before("delete_runner")
    await turns(engine, 3)
    assert len(await engine.ledger.unproven()) == 1
    await turns(engine, 3)
    assert await engine.ledger.unproven() == []
    assert engine.github.registered == {}


async def test_a_deletion_that_took_effect_unheard_is_noticed(engine: Engine):
    await engine.reconciler.turn()
    claim = await registered(engine)
    await engine.ledger.finish(claim, BOOT, Outcome.STOPPED, "")
    engine.github.fail_after("delete_runner")
    await turns(engine, 1)
    assert len(await engine.ledger.unproven()) == 1
    await turns(engine, 3)
    assert await engine.ledger.unproven() == []


async def test_missing_doorbells_are_rung(engine: Engine):
    await engine.ledger.record([queued_job(number) for number in range(1, 6)])
    await engine.bus.publish([RunnerRequest(pool="linux")])
    await engine.reconciler.turn()
    assert await engine.rings() == 3, "one was there, and slots are three"
    scraped = engine.telemetry.scrape().decode()
    assert 'mayfly_reconciler_corrected_total{correction="doorbell_rung"} 2.0' in scraped


async def test_no_doorbell_is_missing_while_no_slot_is_free(engine: Engine):
    await engine.ledger.record([queued_job(number) for number in range(1, 6)])
    for machine in ("m1", "m2", "m3"):
        await engine.ledger.claim(order(machine), 3, None)
    await engine.reconciler.turn()
    assert await engine.rings() == 0


async def test_the_trouble_of_one_claim_stays_there(engine: Engine):
    await engine.reconciler.turn()
    claims = [await registered(engine, number, f"m{number}") for number in (1, 2)]
    for claim in claims:
        await engine.ledger.finish(claim, BOOT, Outcome.STOPPED, "")
    engine.github.fail_before("delete_runner")
    await turns(engine, 1)
    assert len(await engine.ledger.unproven()) == 1


async def test_a_second_instance_does_not_act(engine: Engine):
    await engine.ledger.tick("another", TURN)
    await engine.ledger.record([queued_job(1)])
    assert not await engine.reconciler.turn()
    assert await engine.rings() == 0
    engine.clock.advance(60)
    assert await engine.reconciler.turn()
    assert await engine.rings() == 1


async def test_turns_happen_while_it_is_open_the_first_at_once(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    async with engine.reconciler.open(), engine.doorbells.open():
        assert await engine.bus.lease("linux", timedelta(seconds=5)) is not None
