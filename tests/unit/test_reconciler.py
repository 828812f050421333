"""The reconciler: what was lost on the way is found by its turns."""

import asyncio
from datetime import timedelta
from pathlib import Path

import structlog

from mayfly.model.access import Refused
from mayfly.model.jobs import JobId, JobState
from mayfly.model.protocol import Outcome
from mayfly.model.requests import RunnerRequest
from mayfly.model.runners import ClaimId, ClaimState, RunKey, Sighting
from tests.fakes.clocks import TURN, pass_time
from tests.fakes.counters import break_counter
from tests.fakes.engine import Engine
from tests.fakes.factories import (
    attempt,
    claimed,
    completed_job,
    now_of,
    order,
    queued_job,
    refused,
    running_job,
)

BOOT = "boot-1"


async def turns(engine: Engine, count: int) -> None:
    for _ in range(count):
        engine.clock.advance(TURN.total_seconds())
        assert await engine.reconciler.turn()


async def queue(engine: Engine, job: int = 1) -> None:
    """A job that is queued at GitHub, and known here."""
    await engine.ledger.record([queued_job(job)])
    engine.github.jobs[job, 1] = [queued_job(job).event]


async def registered(engine: Engine, job: int = 1, machine: str = "m1") -> ClaimId:
    """A claim with an idle runner at GitHub."""
    await queue(engine, job)
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
    assert engine.github.verbs("find_runner", "delete_runner") == []


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


async def test_another_instance_leads_as_soon_as_this_one_has_ended(engine: Engine):
    async with engine.reconciler.open():
        await until_idle()
        assert await engine.ledger.tick("another", TURN) is None
    assert await engine.ledger.tick("another", TURN) is not None


# What GitHub is asked


async def test_a_job_whose_end_nobody_told_is_closed_and_its_claim_withdrawn(engine: Engine):
    await engine.reconciler.turn()
    await queue(engine)
    made = await claimed(engine.ledger)
    engine.github.jobs[1, 1] = [completed_job(1, asked=True).event]
    for _ in range(12):
        await turns(engine, 1)
        await engine.ledger.heartbeat(made.id, BOOT)
    assert [job.state for job in await engine.ledger.jobs(1)] == [JobState.COMPLETED]
    assert await state_of(engine, made.id) is ClaimState.WITHDRAWN
    assert corrected(engine, "job_checked") == 1


async def test_a_job_github_does_not_have_is_closed_after_the_second_answer(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    await turns(engine, 11)
    assert engine.github.verbs("get_job") == ["get_job"]
    assert (await engine.ledger.pools())["linux"].queued == 1
    await turns(engine, 3)
    (job,) = await engine.ledger.jobs(1)
    assert (job.state, job.event.conclusion) == (JobState.COMPLETED, "gone")


async def test_a_job_github_cannot_be_asked_about_is_asked_about_later(engine: Engine):
    await queue(engine)
    engine.github.fail_before("get_job")
    await turns(engine, 11)
    assert engine.github.verbs("get_job") == ["get_job"]
    (job,) = await engine.ledger.jobs(1)
    assert (job.checks, job.misses) == (1, 0)


async def test_an_answer_is_judged_like_a_delivery(engine: Engine):
    await queue(engine)
    rerun = refused(queued_job(1, attempt=2, labels=("self-hosted",), asked=True))
    engine.github.jobs[1, 1] = [rerun.event]
    await turns(engine, 11)
    newest, oldest = await engine.ledger.attempts(JobId(1))
    assert isinstance(newest.decision, Refused)
    assert oldest.event.conclusion == "superseded"
    assert (await engine.ledger.pools())["linux"].queued == 0


async def test_a_turn_asks_about_so_many_jobs_and_the_next_about_the_others(engine: Engine):
    for number in range(1, 41):
        await queue(engine, number)
    engine.github.calls.clear()
    asked = []
    for _ in range(13):
        await turns(engine, 1)
        asked.append(len(engine.github.verbs("get_job")))
        engine.github.calls.clear()
    assert asked[-4:] == [15, 15, 10, 0]
    assert sum(asked) == 40


async def test_the_job_of_a_busy_runner_is_looked_up_in_its_run(engine: Engine):
    await engine.reconciler.turn()
    claim = await registered(engine)
    (name,) = engine.github.registered
    engine.github.jobs[900, 1] = [
        running_job(8, runner="theirs", asked=True).event,
        queued_job(9, asked=True).event,
        running_job(1, runner=name, asked=True).event,
    ]
    await engine.ledger.started(claim, BOOT, RunKey("octo/hello", 900, 1))
    await turns(engine, 1)
    assert [subject for verb, subject in engine.github.calls if verb == "run_jobs"] == [
        "octo/hello"
    ]
    after = await now_of(engine.ledger, claim)
    assert (after.job, after.unattributed) == (queued_job(1).key, False)
    assert len(await engine.ledger.jobs(10)) == 1, "the others are nobody's business"


async def test_a_busy_runner_whose_job_is_never_named_makes_room_for_another(engine: Engine):
    await engine.reconciler.turn()
    claim = await registered(engine)
    await engine.ledger.started(claim, BOOT, RunKey("octo/hello", 900, 1))
    engine.github.fail_before("run_jobs")
    for _ in range(6):
        assert (await engine.ledger.pools())["linux"].open == 0
        await turns(engine, 1)
        await engine.ledger.heartbeat(claim, BOOT)
    assert (await engine.ledger.pools())["linux"].open == 1
    assert await state_of(engine, claim) is ClaimState.BUSY
    assert await engine.rings() >= 1


async def test_a_runner_nobody_takes_is_replaced_in_the_end(engine: Engine):
    await engine.reconciler.turn()
    claim = await registered(engine)
    for _ in range(75):
        assert await state_of(engine, claim) is ClaimState.REGISTERED
        await turns(engine, 1)
        await engine.ledger.heartbeat(claim, BOOT)
    await turns(engine, 2)
    assert await state_of(engine, claim) is ClaimState.RETIRED
    assert engine.github.registered == {}


# Trouble


async def stopped(engine: Engine, count: int) -> list[str]:
    """Runners of ended claims that are still at GitHub."""
    for number in range(1, count + 1):
        claim = await registered(engine, number, f"m{number}")
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
    await turns(engine, 1)
    assert len(engine.github.verbs("delete_runner")) == 3
    assert len(await engine.ledger.unproven()) == 6
    await turns(engine, 4)
    assert await engine.ledger.unproven() == []


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
    await turns(engine, 1)
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
    async with asyncio.timeout(5):
        assert await asyncio.gather(first, *others) == [True] * 7
    assert await engine.ledger.unproven() == []


async def until_idle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_duty_that_fails_is_said_and_is_no_others_trouble(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    engine.github.fail_before("deliveries")
    with structlog.testing.capture_logs() as entries:
        assert await engine.reconciler.turn()
    assert [(entry["event"], entry["repair"]) for entry in entries] == [
        ("repair.failed", "DeliveryLog")
    ]
    assert await engine.rings() == 1


async def test_what_only_the_delivery_log_knows_is_found_in_a_turn(engine: Engine):
    engine.github.log = [attempt(1)]
    engine.github.payloads = {1: queued_job(1).event}
    await engine.reconciler.turn()
    assert (await engine.ledger.pools())["linux"].queued == 1
    assert corrected(engine, "delivery_fetched") == 1


# Housekeeping


async def test_a_broken_counter_is_said_and_repaired_within_a_round(engine: Engine):
    await engine.ledger.record([queued_job(n, repository=f"r{n}") for n in range(1, 4)])
    break_counter(engine.ledger, Path(), "queued", 2)
    with structlog.testing.capture_logs() as entries:
        await turns(engine, 4)
    assert [entry["event"] for entry in entries] == ["counter.repaired"] * 3
    assert (await engine.ledger.pools())["linux"].queued == 3
    assert corrected(engine, "counter_repaired") == 3


async def test_rounds_of_the_recount_follow_each_other(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    await turns(engine, 2)
    break_counter(engine.ledger, Path(), "sure", 1)
    await turns(engine, 2)
    assert corrected(engine, "counter_repaired") == 1


async def test_what_is_over_is_forgotten_in_the_end(engine: Engine):
    await engine.ledger.record([completed_job(1), queued_job(2)])
    await leaves(engine, 8 * 86_400)
    await turns(engine, 1)
    assert [job.key.id for job in await engine.ledger.jobs(10)] == [2]


async def test_a_name_that_is_given_up_is_told(engine: Engine):
    (name,) = await stopped(engine, 1)
    await engine.ledger.saw(name, Sighting.UNREACHABLE)
    await leaves(engine, 25 * 3600)
    engine.github.fail_before("delete_runner")
    await turns(engine, 1)
    assert await engine.ledger.unproven() == []
    assert "registration.abandoned" in await engine.heard()
    assert corrected(engine, "registration_abandoned") == 1


async def leaves(engine: Engine, seconds: float) -> None:
    """So much ledger time under another leader, which then leaves."""
    await pass_time(engine.ledger, engine.clock, seconds)
    engine.clock.advance(4 * seconds)


def corrected(engine: Engine, correction: str) -> float:
    label = f'mayfly_reconciler_corrected_total{{correction="{correction}"}} '
    return float(engine.telemetry.scrape().decode().partition(label)[2].partition("\n")[0])
