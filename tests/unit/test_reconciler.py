"""The reconciler: what was lost on the way is found by its turns."""

from datetime import timedelta

from mayfly.model.access import Refused
from mayfly.model.jobs import JobId, JobState
from mayfly.model.protocol import Outcome
from mayfly.model.requests import RunnerRequest
from mayfly.model.runners import ClaimId, ClaimState, RunKey
from tests.fakes.clocks import TURN
from tests.fakes.engine import Engine
from tests.fakes.factories import (
    claimed,
    completed_job,
    now_of,
    order,
    queued_job,
    refused,
    running_job,
)

BOOT = "boot-1"


async def state_of(engine: Engine, claim: ClaimId) -> ClaimState:
    return (await now_of(engine.ledger, claim)).state


async def test_a_silent_claim_is_lost_and_its_job_rung_for_again(engine: Engine):
    await engine.reconciler.turn()
    await engine.ledger.record([queued_job(1)])
    made = await claimed(engine.ledger)
    await engine.turns(5)
    assert await state_of(engine, made.id) is ClaimState.CLAIMED
    await engine.turns(1)
    assert await state_of(engine, made.id) is ClaimState.LOST
    assert await engine.rings() >= 1
    assert "claim.ended" in await engine.heard()


async def test_the_runner_of_a_silent_executor_is_deleted_before_its_claim_is_lost(
    engine: Engine,
):
    await engine.reconciler.turn()
    claim = await engine.registered()
    await engine.turns(6)
    assert await state_of(engine, claim) is ClaimState.REGISTERED
    await engine.turns(1)
    assert engine.github.registered == {}
    assert await state_of(engine, claim) is ClaimState.LOST
    assert await engine.ledger.claim(order("m2"), 3, None) is not None


async def test_a_silent_executor_with_a_job_at_work_is_left_to_github(engine: Engine):
    await engine.reconciler.turn()
    claim = await engine.registered()
    (name,) = engine.github.registered
    engine.github.start_job_on(name)
    await engine.turns(9)
    assert await state_of(engine, claim) is ClaimState.BUSY
    engine.github.busy.clear()
    await engine.turns(3)
    assert await state_of(engine, claim) is ClaimState.DONE
    assert await engine.ledger.unproven() == []


async def test_a_surplus_idle_runner_is_deleted_and_its_slot_rung_for(engine: Engine):
    await engine.reconciler.turn()
    claims = [await engine.registered(number, f"m{number}") for number in (1, 2, 3)]
    await engine.ledger.record([completed_job(1)])
    await engine.ledger.record([queued_job(4, repository="other")])
    assert (await engine.ledger.pools())["linux"].used == 3
    for _ in range(3):
        await engine.turns(1)
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
    await engine.turns(2)
    assert await state_of(engine, made.id) is ClaimState.WITHDRAWN
    assert engine.github.verbs("find_runner", "delete_runner") == []


async def test_names_are_looked_at_until_they_are_proven_gone(engine: Engine):
    await engine.reconciler.turn()
    claim = await engine.registered()
    await engine.ledger.finish(claim, BOOT, Outcome.DONE, "")
    engine.github.fail_before("delete_runner")
    await engine.turns(3)
    assert len(await engine.ledger.unproven()) == 1
    await engine.turns(3)
    assert await engine.ledger.unproven() == []
    assert engine.github.registered == {}


async def test_a_deletion_that_took_effect_unheard_is_noticed(engine: Engine):
    await engine.reconciler.turn()
    claim = await engine.registered()
    await engine.ledger.finish(claim, BOOT, Outcome.STOPPED, "")
    engine.github.fail_after("delete_runner")
    await engine.turns(1)
    assert len(await engine.ledger.unproven()) == 1
    await engine.turns(3)
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
    claims = [await engine.registered(number, f"m{number}") for number in (1, 2)]
    for claim in claims:
        await engine.ledger.finish(claim, BOOT, Outcome.STOPPED, "")
    engine.github.fail_before("delete_runner")
    await engine.turns(1)
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


# What GitHub is asked


async def test_a_job_whose_end_nobody_told_is_closed_and_its_claim_withdrawn(engine: Engine):
    await engine.reconciler.turn()
    await engine.queue()
    made = await claimed(engine.ledger)
    engine.github.jobs[1, 1] = [completed_job(1, asked=True).event]
    for _ in range(12):
        await engine.turns(1)
        await engine.ledger.heartbeat(made.id, BOOT)
    assert [job.state for job in await engine.ledger.jobs(1)] == [JobState.COMPLETED]
    assert await state_of(engine, made.id) is ClaimState.WITHDRAWN
    assert engine.corrected("job_checked") == 1


async def test_a_job_github_does_not_have_is_closed_after_the_second_answer(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    await engine.turns(11)
    assert engine.github.verbs("get_job") == ["get_job"]
    assert (await engine.ledger.pools())["linux"].queued == 1
    await engine.turns(3)
    (job,) = await engine.ledger.jobs(1)
    assert (job.state, job.event.conclusion) == (JobState.COMPLETED, "gone")


async def test_a_job_github_cannot_be_asked_about_is_asked_about_later(engine: Engine):
    await engine.queue()
    engine.github.fail_before("get_job")
    await engine.turns(11)
    assert engine.github.verbs("get_job") == ["get_job"]
    (job,) = await engine.ledger.jobs(1)
    assert (job.checks, job.misses) == (1, 0)


async def test_an_answer_is_judged_like_a_delivery(engine: Engine):
    await engine.queue()
    rerun = refused(queued_job(1, attempt=2, labels=("self-hosted",), asked=True))
    engine.github.jobs[1, 1] = [rerun.event]
    await engine.turns(11)
    newest, oldest = await engine.ledger.attempts(JobId(1))
    assert isinstance(newest.decision, Refused)
    assert oldest.event.conclusion == "superseded"
    assert (await engine.ledger.pools())["linux"].queued == 0


async def test_a_turn_asks_about_so_many_jobs_and_the_next_about_the_others(engine: Engine):
    for number in range(1, 41):
        await engine.queue(number)
    engine.github.calls.clear()
    asked = []
    for _ in range(13):
        await engine.turns(1)
        asked.append(len(engine.github.verbs("get_job")))
        engine.github.calls.clear()
    assert asked[-4:] == [15, 15, 10, 0]
    assert sum(asked) == 40


async def test_the_job_of_a_busy_runner_is_looked_up_in_its_run(engine: Engine):
    await engine.reconciler.turn()
    claim = await engine.registered()
    (name,) = engine.github.registered
    engine.github.jobs[900, 1] = [
        running_job(8, runner="theirs", asked=True).event,
        queued_job(9, asked=True).event,
        running_job(1, runner=name, asked=True).event,
    ]
    await engine.ledger.started(claim, BOOT, RunKey("octo/hello", 900, 1))
    await engine.turns(1)
    assert [subject for verb, subject in engine.github.calls if verb == "run_jobs"] == [
        "octo/hello"
    ]
    after = await now_of(engine.ledger, claim)
    assert (after.job, after.unattributed) == (queued_job(1).key, False)
    assert len(await engine.ledger.jobs(10)) == 1, "the others are nobody's business"


async def test_a_busy_runner_whose_job_is_never_named_makes_room_for_another(engine: Engine):
    await engine.reconciler.turn()
    claim = await engine.registered()
    await engine.ledger.started(claim, BOOT, RunKey("octo/hello", 900, 1))
    engine.github.fail_before("run_jobs")
    for _ in range(6):
        assert (await engine.ledger.pools())["linux"].open == 0
        await engine.turns(1)
        await engine.ledger.heartbeat(claim, BOOT)
    assert (await engine.ledger.pools())["linux"].open == 1
    assert await state_of(engine, claim) is ClaimState.BUSY
    assert await engine.rings() >= 1


async def test_a_runner_nobody_takes_is_replaced_in_the_end(engine: Engine):
    await engine.reconciler.turn()
    claim = await engine.registered()
    for _ in range(75):
        assert await state_of(engine, claim) is ClaimState.REGISTERED
        await engine.turns(1)
        await engine.ledger.heartbeat(claim, BOOT)
    await engine.turns(2)
    assert await state_of(engine, claim) is ClaimState.RETIRED
    assert engine.github.registered == {}


async def test_a_runner_nobody_took_although_jobs_waited_is_counted(engine: Engine):
    await engine.reconciler.turn()
    claim = await engine.registered()
    for _ in range(76):
        await engine.turns()
        await engine.ledger.heartbeat(claim, BOOT)
    assert engine.corrected("runner_unserved") == 1
    await engine.turns(2)
    assert await state_of(engine, claim) is ClaimState.RETIRED


async def test_a_refused_job_on_our_runner_is_counted_and_told(engine: Engine):
    await engine.registered()
    (name,) = engine.github.registered
    theirs = [running_job(2, runner=name, labels=("self-hosted",)), running_job(3, runner="other")]
    for job in theirs:
        await engine.intake.submit(job.event)
    figure = 'mayfly_job_misplaced_total{pool="linux"} 1.0'
    assert figure in engine.telemetry.scrape().decode()
    assert (await engine.heard()).count("job.misplaced") == 1
