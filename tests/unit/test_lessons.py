"""What went wrong elsewhere, played to this engine; docs/explanation/lessons.md tells the stories.

Lessons that other tests prove already have no test here: the page links those.
"""

import asyncio
import subprocess
import sys
from datetime import timedelta

import pytest

from mayfly.engine.deliveries import DeliveryLog
from mayfly.model.errors import GitHubRefused, RefusalKind
from mayfly.model.jobs import JobState
from mayfly.model.pools import Pool
from mayfly.model.protocol import FinishOrder, Order, Outcome, Registered
from mayfly.model.releases import Version
from mayfly.model.runners import Claim, ClaimId, ClaimState
from tests.fakes.clocks import NOON, TURN
from tests.fakes.engine import Engine, opened_engine
from tests.fakes.factories import (
    attempt,
    claimed,
    completed_job,
    event,
    now_of,
    order,
    queued_job,
    refused,
    running_job,
)

BOOT = "boot-1"
HOUR = 3600
LEASE_IS_OVER = 60
PATIENCE = timedelta(seconds=5)
NOT_FOUND = GitHubRefused(RefusalKind.REPOSITORY_GONE, "octo/gone is not there any more")


async def turns(engine: Engine, count: int) -> None:
    for _ in range(count):
        engine.clock.advance(TURN.total_seconds())
        assert await engine.reconciler.turn()


async def rung(engine: Engine, pool: str = "linux") -> str:
    """The lease on a doorbell that rings."""
    async with engine.doorbells.open():
        lease = await engine.bus.lease(pool, PATIENCE)
    assert lease is not None, "nobody rang"
    return lease.id


async def claims_when_rung(engine: Engine, machine: str = "m1") -> ClaimId:
    granted = await engine.claims.claim(order(machine, lease=await rung(engine)))
    assert granted is not None
    return ClaimId(granted.claim)


async def registered(engine: Engine, machine: str = "m1") -> tuple[Claim, str]:
    """A claim for a job that is queued, and its idle runner."""
    claim = await claimed(engine.ledger, machine)
    answer = await engine.claims.register(claim.id, claim.boot)
    return claim, answer.name


# A job is open until GitHub says that a runner has it


async def test_a_job_whose_machine_never_boots_is_rung_for_though_its_message_is_gone(
    engine: Engine,
):
    await engine.reconciler.turn()
    await engine.intake.submit(event(1))
    silent = await claims_when_rung(engine, "m1")
    await turns(engine, 5)
    assert await engine.bus.depth("linux") == 0, (
        "the message is gone, and the machine is waited for"
    )
    await turns(engine, 1)
    assert (await now_of(engine.ledger, silent)).state is ClaimState.LOST
    assert await claims_when_rung(engine, "m2") != silent


async def test_a_job_whose_machine_fails_does_not_take_the_next_jobs_runner(engine: Engine):
    await engine.intake.submit(event(1))
    failed = await claims_when_rung(engine, "m1")
    no_disk = FinishOrder(boot=BOOT, outcome=Outcome.FAILED, detail="no disk")
    await engine.claims.finish(failed, no_disk)
    await engine.intake.submit(event(2))
    assert await claims_when_rung(engine, "m2") != await claims_when_rung(engine, "m3")


async def test_a_runner_that_ended_without_a_job_leaves_the_job_open(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    for machine in ("m1", "m2"):
        claim, name = await registered(engine, machine)
        ended = FinishOrder(boot=BOOT, outcome=Outcome.DONE)
        await engine.claims.finish(claim.id, ended)
        assert (await engine.ledger.pools())["linux"].open == 1
    await engine.ledger.record([running_job(1, runner=name)])
    assert (await engine.ledger.pools())["linux"].open == 0, "GitHub has said who has it"


# A runner is idle when GitHub says so


async def test_a_runner_that_took_a_job_while_it_looked_idle_is_not_killed(engine: Engine):
    await engine.reconciler.turn()
    await engine.ledger.record([queued_job(1)])
    claim, name = await registered(engine)
    await engine.ledger.record([completed_job(1)])
    engine.github.start_job_on(name)
    for _ in range(9):
        await turns(engine, 1)
        answer = await engine.claims.heartbeat(claim.id, claim.boot)
        assert answer.order is Order.CONTINUE
    assert "delete_runner" in engine.github.verbs()
    assert list(engine.github.registered) == [name]
    assert (await now_of(engine.ledger, claim.id)).state is ClaimState.BUSY


async def test_no_idle_runner_is_stopped_before_github_has_answered_its_deletion(engine: Engine):
    await engine.reconciler.turn()
    await engine.ledger.record([queued_job(1)])
    claim, _ = await registered(engine)
    await engine.ledger.record([completed_job(1)])
    engine.github.hold("delete_runner")
    engine.clock.advance(2 * TURN.total_seconds())
    turn = asyncio.create_task(engine.reconciler.turn())
    await engine.github.held("delete_runner")
    assert (await engine.claims.heartbeat(claim.id, claim.boot)).order is Order.CONTINUE
    engine.github.release("delete_runner")
    await turn
    assert (await engine.claims.heartbeat(claim.id, claim.boot)).order is Order.STOP


# Nothing is lost on the way


async def test_an_outage_of_ten_hours_leaves_no_gap_in_the_delivery_log(engine: Engine):
    engine.github.log = [attempt(100)]
    await _started_anew(engine).turn(0)
    engine.clock.advance(10 * HOUR)
    missed = range(110, 100, -1)
    engine.github.log[:0] = [attempt(one, age=-HOUR * (one - 100), status=502) for one in missed]
    engine.github.payloads = {one: event(one) for one in missed}
    await _started_anew(engine).turn(0)
    assert (await engine.ledger.pools())["linux"].queued == len(missed)


def _started_anew(engine: Engine) -> DeliveryLog:
    """A control plane that remembers nothing but its ledger."""
    return DeliveryLog(
        ledger=engine.ledger,
        github=engine.github,
        record=engine.intake.submit,
        revived=(engine.intake.revived,),
        telemetry=engine.telemetry,
        clock=engine.clock,
        pull=False,
    )


async def test_a_job_whose_message_the_bus_dropped_is_rung_for_again(engine: Engine):
    await engine.intake.submit(event(1))
    await engine.bus.complete(await rung(engine))
    assert await engine.bus.depth("linux") == 0, "the bus said yes and kept nothing"
    await engine.reconciler.turn()
    await claims_when_rung(engine)


async def test_a_worker_killed_between_its_message_and_its_claim_loses_no_job(engine: Engine):
    await engine.intake.submit(event(1))
    await rung(engine)
    assert await engine.bus.depth("linux") == 0, "the killed worker had it"
    engine.clock.advance(LEASE_IS_OVER)
    await claims_when_rung(engine)


# Nobody waits for a clock, nor for somebody else


async def test_a_runner_is_made_without_waiting_for_a_clock(engine: Engine):
    async with engine.doorbells.open():
        parked = asyncio.create_task(engine.bus.lease("linux", PATIENCE))
        await engine.intake.submit(event(1))
        lease = await parked
    assert lease is not None
    granted = await engine.claims.claim(order(lease=lease.id))
    assert granted is not None
    await engine.claims.register(ClaimId(granted.claim), BOOT)
    assert len(engine.github.registered) == 1
    assert engine.clock.now() == NOON, "no turn, and no least age of a job"


async def test_100_mints_are_under_way_at_once_and_not_one_after_another():
    async with opened_engine(pools=(Pool(name="linux", max=100),)) as engine:
        await engine.ledger.record([queued_job(number) for number in range(1, 101)])
        claims = [await claimed(engine.ledger, f"m{number}") for number in range(1, 101)]
        engine.github.hold("mint")
        asking = [
            asyncio.create_task(engine.claims.register(claim.id, claim.boot)) for claim in claims
        ]
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(engine.github.verbs("mint")) == 100
        engine.github.release("mint")
        await asyncio.gather(*asking)


async def test_an_installation_that_does_not_answer_blocks_no_other_pool(engine: Engine):
    await engine.reconciler.turn()
    await engine.ledger.record([queued_job(1)])
    claim, _ = await registered(engine)
    await engine.ledger.finish(claim.id, claim.boot, Outcome.STOPPED, "")
    engine.github.hold("delete_runner")
    theirs = queued_job(9, owner="mona", installation=8, labels=("self-hosted", "arm64"))
    await engine.ledger.record([theirs])
    engine.clock.advance(TURN.total_seconds())
    turn = asyncio.create_task(engine.reconciler.turn())
    await engine.github.held("delete_runner")
    asked = order("m9", pool="arm64", lease=await rung(engine, "arm64"))
    granted = await engine.claims.claim(asked)
    assert granted is not None
    await engine.claims.register(ClaimId(granted.claim), BOOT)
    assert not turn.done(), "the first installation has still not answered"
    engine.github.release("delete_runner")
    await turn


async def test_a_404_for_one_runner_stalls_no_other(engine: Engine):
    theirs = queued_job(1, repository="gone", age=10)
    await engine.ledger.record([theirs, queued_job(2), queued_job(3)])
    claims = [await claimed(engine.ledger, f"m{number}") for number in (1, 2, 3)]
    engine.github.fail_before("mint", NOT_FOUND)
    asking = (engine.claims.register(claim.id, claim.boot) for claim in claims)
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(answer) for answer in answers] == [GitHubRefused, Registered, Registered]
    await engine.ledger.record([queued_job(4)])
    next_claim = await claimed(engine.ledger, "m4")
    assert next_claim.group == queued_job(4).group, "its own group waits, the others do not"


# Nobody is left in the dark, and no secret is let out


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("admitted", [True, False])
async def test_no_job_is_left_without_an_explanation(
    engine: Engine, state: JobState, admitted: bool
):
    job = queued_job(1) if admitted else refused(queued_job(1))
    await engine.ledger.record([job])
    await engine.intake.submit(event(1, state=state))
    answer = await engine.explanations.explain(1)
    assert len(answer.summary.split()) >= 3
    assert answer.summary.startswith("refused: ") is not admitted
    assert answer.facts


async def test_a_version_is_told_before_github_refuses_it_and_named_when_a_job_waits(
    engine: Engine,
):
    await engine.reconciler.turn()
    await engine.ledger.offered(Version(2, 336, 0))
    engine.github.newest = Version(2, 336, 0)
    engine.clock.advance(25 * 24 * HOUR)
    await engine.ledger.record([queued_job(1)])
    _, name = await registered(engine, "board-1")
    engine.github.connect(name, Version(2, 330, 0))
    await engine.ledger.record([running_job(1, runner=name)])
    await turns(engine, 1)
    assert "runner.outdated" in await engine.heard()
    await engine.ledger.record([queued_job(2)])
    answer = await engine.explanations.explain(2)
    (told,) = [fact for fact in answer.facts if "board-1" in fact]
    assert "no jobs after 5 more day(s)" in told
    engine.clock.advance(5 * 24 * HOUR)
    assert told.partition(",")[0] in (await engine.explanations.explain(2)).summary


def test_no_program_on_a_runners_machine_has_a_use_for_the_apps_key():
    program = (
        "import sys, mayfly.executor, mayfly.drivers.process, mayfly.drivers.keeper\n"
        "print([name for name in sys.modules if name in ('jwt', 'cryptography', 'gidgethub')\n"
        "    or name.startswith('mayfly.github')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
