"""Claims: from an executor's first question to its last word, with a GitHub that misbehaves."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from mayfly.bus.memory import MemoryBus
from mayfly.model.access import AccessRule
from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    NotFound,
    RateLimited,
    RefusalKind,
    StaleClaim,
    Transient,
)
from mayfly.model.jobs import JobState
from mayfly.model.protocol import (
    FinishOrder,
    Granted,
    Order,
    Outcome,
    Registered,
    StartedOrder,
)
from mayfly.model.requests import RunnerRequest
from mayfly.model.runners import ClaimId, ClaimState, RunKey
from tests.fakes.clocks import ManualClock
from tests.fakes.engine import ANYBODY, POOLS, Engine, opened_engine
from tests.fakes.factories import (
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
AT_ONCE = timedelta(0)


async def granted(engine: Engine, key: str | None = None, pool: str = "linux") -> Granted:
    """A claim, asked for over the API, for job 1."""
    await engine.ledger.record([queued_job(1)])
    answer = await engine.claims.claim(order(key=key, pool=pool))
    assert answer is not None
    return answer


async def registered(engine: Engine) -> tuple[ClaimId, Registered]:
    claim = ClaimId((await granted(engine)).claim)
    return claim, await engine.claims.register(claim, BOOT)


class DeafBus(MemoryBus):
    """Hands out, and hears of nothing afterwards."""

    async def complete(self, lease_id: str) -> None:
        raise Transient("the bus does not answer")


async def test_a_claim_is_answered_although_the_bus_does_not_hear_of_it():
    bus = DeafBus(ManualClock())
    async with opened_engine(bus=bus) as engine:
        await engine.ledger.record([queued_job(1)])
        await bus.publish([RunnerRequest(pool="linux")])
        lease = await bus.lease("linux", AT_ONCE)
        assert lease is not None
        asked = msgspec.structs.replace(order(), lease=lease.id)
        assert await engine.claims.claim(asked) is not None


async def unproven(engine: Engine) -> list[str]:
    return [registration.name for registration in await engine.ledger.unproven()]


# Claim


async def test_a_claim_says_all_an_executor_needs(engine: Engine):
    answer = await granted(engine, pool="LINUX")
    assert answer.pool == "linux"
    assert answer.labels == ("linux", "self-hosted")
    assert (answer.scope, answer.guard, answer.variant) == ("repos/octo/hello", True, None)
    assert answer.heartbeat_seconds == 30


async def test_an_executor_with_a_bus_of_its_own_is_told_how_the_pool_is_written(engine: Engine):
    asked = msgspec.structs.replace(order(pool="LINUX"), own_bus=True)
    with pytest.raises(NotFound, match=r"'LINUX' is 'linux' in mayfly.toml.* --pool linux$"):
        await engine.claims.claim(asked)
    await engine.claims.claim(msgspec.structs.replace(asked, pool="linux"))


async def test_nothing_to_do_is_no_claim(engine: Engine):
    assert await engine.claims.claim(order()) is None


async def test_an_unknown_pool_is_named_with_the_known_ones(engine: Engine):
    with pytest.raises(NotFound, match="known pools: linux, arm64"):
        await engine.claims.claim(order(pool="windows"))


async def test_the_lease_is_settled_once_the_claim_is_durable(engine: Engine):
    await engine.ledger.record([queued_job(1)])
    await engine.bus.publish([RunnerRequest(pool="linux")])
    lease = await engine.bus.lease("linux", AT_ONCE)
    assert lease is not None
    assert await engine.claims.claim(order(lease=lease.id)) is not None
    engine.clock.advance(60)
    assert await engine.bus.depth("linux") == 0


async def test_a_lease_whose_claim_failed_comes_back(engine: Engine):
    await engine.bus.publish([RunnerRequest(pool="linux")])
    lease = await engine.bus.lease("linux", AT_ONCE)
    assert lease is not None
    with pytest.raises(NotFound):
        await engine.claims.claim(order(pool="windows", lease=lease.id))
    engine.clock.advance(60)
    assert await engine.bus.depth("linux") == 1


async def test_an_executor_that_asks_again_with_its_key_gets_the_same_claim(engine: Engine):
    first = await granted(engine, key="once")
    assert await engine.claims.claim(order(key="once")) == first


# Register


async def test_a_runner_is_minted_with_the_jobs_labels(engine: Engine):
    claim, answer = await registered(engine)
    assert answer.jit_config == f"jit-config-of-{answer.name}"
    assert answer.generation == 1
    assert engine.github.registered[answer.name].labels == ("linux", "self-hosted")
    assert (await now_of(engine.ledger, claim)).state is ClaimState.REGISTERED
    assert await engine.heard() == ["claim.made", "runner.registered"]


async def test_the_name_is_in_the_ledger_before_github_is_asked(engine: Engine):
    claim = ClaimId((await granted(engine)).claim)
    engine.github.hold("mint")
    asking = asyncio.create_task(engine.claims.register(claim, BOOT))
    await engine.github.held("mint")
    assert await unproven(engine) == [f"mayfly-{claim}-1"]
    engine.github.release("mint")
    await asking


async def test_after_a_lost_reply_the_older_runner_is_deleted_first(engine: Engine):
    claim, first = await registered(engine)
    second = await engine.claims.register(claim, BOOT)
    assert second.generation == 2
    assert list(engine.github.registered) == [second.name]
    assert engine.github.verbs("delete_runner", "mint") == ["mint", "delete_runner", "mint"]
    assert await unproven(engine) == [second.name]
    assert first.name != second.name


async def test_an_older_runner_at_work_ends_the_asking(engine: Engine):
    claim, first = await registered(engine)
    engine.github.start_job_on(first.name)
    with pytest.raises(StaleClaim, match="at work already"):
        await engine.claims.register(claim, BOOT)
    assert (await now_of(engine.ledger, claim)).state is ClaimState.BUSY
    assert list(engine.github.registered) == [first.name]


async def test_a_refusal_reaches_the_person_and_the_name_stays(engine: Engine):
    claim = ClaimId((await granted(engine)).claim)
    no = GitHubRefused(RefusalKind.RUNNERS_DISABLED, "octo has disabled repository runners")
    engine.github.fail_before("mint", no)
    with pytest.raises(GitHubRefused, match="octo has disabled"):
        await engine.claims.register(claim, BOOT)
    assert await unproven(engine) == [f"mayfly-{claim}-1"]
    assert "registration.refused" in await engine.heard()
    scraped = engine.telemetry.scrape().decode()
    assert 'mayfly_github_refused_total{kind="self_hosted_runners_disabled"} 1.0' in scraped


async def test_a_name_that_is_taken_is_answered_by_the_next_one(engine: Engine):
    claim = ClaimId((await granted(engine)).claim)
    engine.github.fail_before("mint", GitHubRefused(RefusalKind.NAME_EXISTS, "it exists"))
    with pytest.raises(Transient, match="the next one will do"):
        await engine.claims.register(claim, BOOT)
    assert (await engine.claims.register(claim, BOOT)).generation == 2


@pytest.mark.parametrize("error", [GitHubUnreachable("no answer"), RateLimited("too many")])
async def test_a_mint_that_did_not_happen_is_tried_again(engine: Engine, error: Transient):
    claim = ClaimId((await granted(engine)).claim)
    engine.github.fail_before("mint", error)
    with pytest.raises(type(error)):
        await engine.claims.register(claim, BOOT)
    again = await engine.claims.register(claim, BOOT)
    assert list(engine.github.registered) == [again.name]


async def test_a_mint_that_happened_after_its_time_out_leaves_no_runner(engine: Engine):
    claim = ClaimId((await granted(engine)).claim)
    engine.github.fail_after("mint")
    with pytest.raises(GitHubUnreachable):
        await engine.claims.register(claim, BOOT)
    assert list(engine.github.registered) == [f"mayfly-{claim}-1"]
    again = await engine.claims.register(claim, BOOT)
    assert list(engine.github.registered) == [again.name]
    assert await unproven(engine) == [again.name]


async def test_a_name_github_does_not_have_stays_until_the_second_look(engine: Engine):
    claim = ClaimId((await granted(engine)).claim)
    for _ in range(3):
        engine.github.fail_before("mint")
        with pytest.raises(GitHubUnreachable):
            await engine.claims.register(claim, BOOT)
    assert len(await unproven(engine)) == 3, "asked three times within a minute"


async def test_a_claim_is_withdrawn_when_its_job_was_cancelled(engine: Engine):
    claim = ClaimId((await granted(engine)).claim)
    await engine.ledger.record([completed_job(1)])
    with pytest.raises(StaleClaim, match="not needed any more"):
        await engine.claims.register(claim, BOOT)
    assert engine.github.calls == []


async def test_a_runner_minted_too_late_is_taken_back(engine: Engine):
    claim = ClaimId((await granted(engine)).claim)
    engine.github.hold("mint")
    asking = asyncio.create_task(engine.claims.register(claim, BOOT))
    await engine.github.held("mint")
    await engine.ledger.finish(claim, BOOT, Outcome.STOPPED, "")
    engine.github.release("mint")
    with pytest.raises(StaleClaim):
        await asking
    assert engine.github.registered == {}
    assert await unproven(engine) == []


async def test_taking_back_may_fail_and_is_left_to_the_worklist(engine: Engine):
    claim = ClaimId((await granted(engine)).claim)
    engine.github.hold("mint")
    engine.github.fail_before("delete_runner")
    asking = asyncio.create_task(engine.claims.register(claim, BOOT))
    await engine.github.held("mint")
    await engine.ledger.finish(claim, BOOT, Outcome.STOPPED, "")
    engine.github.release("mint")
    with pytest.raises(StaleClaim):
        await asking
    (left,) = await engine.ledger.unproven()
    assert left.github_id is not None
    assert left.next_look_at is not None


async def test_a_jit_config_is_never_shown(engine: Engine):
    _, answer = await registered(engine)
    assert answer.jit_config not in repr(answer)


# Heartbeat and finish


async def test_a_heartbeat_says_why_to_stop(engine: Engine):
    claim = ClaimId((await granted(engine)).claim)
    assert (await engine.claims.heartbeat(claim, BOOT)).order is Order.CONTINUE
    await engine.ledger.record([completed_job(1)])
    await engine.ledger.relieve(claim)
    answer = await engine.claims.heartbeat(claim, BOOT)
    assert (answer.order, answer.reason) == (Order.STOP, "this runner is not needed any more")


async def test_finish_frees_the_slot_and_rings_for_the_next(engine: Engine):
    await engine.ledger.record([queued_job(number) for number in range(2, 5)])
    claim, _ = await registered(engine)
    await engine.claims.finish(claim, FinishOrder(boot=BOOT, outcome=Outcome.FAILED, detail="x"))
    assert await engine.rings() >= 1
    assert "claim.ended" in await engine.heard()
    scraped = engine.telemetry.scrape().decode()
    assert 'mayfly_claim_ended_total{end="failed",pool="linux"} 1.0' in scraped


async def test_the_last_word_said_twice_counts_once(engine: Engine):
    claim, _ = await registered(engine)
    for _ in range(2):
        await engine.claims.finish(claim, FinishOrder(boot=BOOT, outcome=Outcome.DONE))
    assert (await engine.heard()).count("claim.ended") == 1


# The guard's question


def started(repository: str = "octo/hello", boot: str = BOOT) -> StartedOrder:
    return StartedOrder(boot=boot, repository=repository, run_id=900, run_attempt=1)


async def test_a_job_the_ledger_knows_and_admits_may_run(engine: Engine):
    claim, runner = await registered(engine)
    await engine.ledger.record([running_job(1, runner=runner.name)])
    answer = await engine.claims.started(claim, started())
    assert answer.allowed
    assert engine.github.verbs("run_jobs") == []


async def test_a_job_only_github_knows_is_looked_up_and_recorded(engine: Engine):
    claim, runner = await registered(engine)
    engine.github.jobs[900, 1] = [
        event(5, state=JobState.IN_PROGRESS, runner="another"),
        event(1, state=JobState.IN_PROGRESS, runner=runner.name),
    ]
    assert (await engine.claims.started(claim, started())).allowed
    after = await now_of(engine.ledger, claim)
    assert (after.state, after.job) == (ClaimState.BUSY, event(1).key)


async def test_a_job_github_does_not_name_yet_is_asked_again(engine: Engine):
    claim, _ = await registered(engine)
    with pytest.raises(Transient, match="does not say yet"):
        await engine.claims.started(claim, started())


async def test_a_refused_job_that_took_our_runner_is_denied(engine: Engine):
    claim, runner = await registered(engine)
    stolen = refused(running_job(2, runner=runner.name, labels=("self-hosted",)))
    await engine.ledger.record([stolen])
    answer = await engine.claims.started(claim, started())
    assert not answer.allowed
    assert "second label must name a pool" in answer.reason
    assert "job.guarded" in await engine.heard()


async def test_a_claim_that_makes_room_for_others_is_told_so(engine: Engine):
    await engine.ledger.record([queued_job(1, age=9)])
    made = await claimed(engine.ledger)
    await engine.ledger.record([queued_job(2, owner="mona", installation=8)])
    for _ in range(7):
        engine.github.fail_before("mint")
        with pytest.raises(Transient):
            await engine.claims.register(made.id, made.boot)
        await engine.turns()
    engine.github.fail_before("mint")
    with pytest.raises(StaleClaim, match="makes room for others: GitHub did not answer"):
        await engine.claims.register(made.id, made.boot)
    assert "claim.ended" in await engine.heard()


async def test_a_job_of_another_pool_is_denied(engine: Engine):
    claim, runner = await registered(engine)
    await engine.ledger.record(
        [running_job(2, runner=runner.name, labels=("self-hosted", "arm64"))]
    )
    answer = await engine.claims.started(claim, started())
    assert not answer.allowed
    assert "another pool than linux" in answer.reason


async def test_a_rule_revoked_since_denies_the_job(engine: Engine):
    claim, runner = await registered(engine)
    await engine.ledger.record([running_job(1, runner=runner.name)])
    await engine.access.revoke(ANYBODY[0])
    assert not (await engine.claims.started(claim, started())).allowed
    await engine.access.grant(AccessRule(owner="octo", repository="hello", label="linux"))
    assert (await engine.claims.started(claim, started())).allowed


async def test_a_claim_without_a_runner_has_no_job(engine: Engine):
    claim = ClaimId((await granted(engine)).claim)
    with pytest.raises(StaleClaim, match="has no runner at work"):
        await engine.claims.started(claim, started())
    with pytest.raises(StaleClaim, match="not of this run"):
        await engine.claims.started(claim, started(boot="boot-2"))


async def test_a_machine_that_came_back_can_work_again(engine: Engine):
    claim, _ = await registered(engine)
    assert await engine.claims.claim(order(boot="boot-2")) is None
    assert await engine.reconciler.turn()
    with pytest.raises(StaleClaim):
        await engine.claims.register(claim, BOOT)
    assert await engine.claims.claim(order(boot="boot-2")) is not None


# What the ledger learns of it at once


async def test_a_runner_is_busy_from_the_guards_question_on(engine: Engine):
    claim, _ = await registered(engine)
    with pytest.raises(Transient):
        await engine.claims.started(claim, started())
    after = await now_of(engine.ledger, claim)
    assert (after.state, after.unattributed) == (ClaimState.BUSY, True)
    assert after.run == RunKey("octo/hello", 900, 1)
    with pytest.raises(StaleClaim):
        await engine.claims.register(claim, BOOT)


async def test_without_a_guard_a_runner_is_busy_once_told_and_github_is_not_asked():
    pools = (msgspec.structs.replace(POOLS[0], guard=False), *POOLS[1:])
    async with opened_engine(pools=pools) as engine:
        claim, _ = await registered(engine)
        assert (await engine.claims.started(claim, started())).allowed
        after = await now_of(engine.ledger, claim)
        assert (after.state, after.run) == (ClaimState.BUSY, RunKey("octo/hello", 900, 1))
        assert engine.github.verbs("run_jobs") == []


async def test_an_executor_that_asks_twice_is_answered_twice(engine: Engine):
    claim, runner = await registered(engine)
    engine.github.jobs[900, 1] = [event(1, state=JobState.IN_PROGRESS, runner=runner.name)]
    for _ in range(2):
        assert (await engine.claims.started(claim, started())).allowed
    assert engine.github.verbs("run_jobs") == ["run_jobs"]


async def test_refusals_that_go_on_stall_the_group_and_are_told(engine: Engine):
    await engine.reconciler.turn()
    engine.github.jobs[900, 1] = [event(1)]
    no = GitHubRefused(RefusalKind.SUSPENDED, "the installation is suspended")
    for _ in range(5):
        claim = ClaimId((await granted(engine)).claim)
        engine.github.fail_before("mint", no)
        with pytest.raises(GitHubRefused):
            await engine.claims.register(claim, BOOT)
        for _ in range(5):
            engine.clock.advance(20)
            await engine.reconciler.turn()
    assert (await engine.heard()).count("group.stalled") == 1
    assert await engine.claims.claim(order()) is None
    assert [group.trouble for group in await engine.ledger.stalled(10)] == [str(no)]


async def test_failures_on_two_machines_stall_the_group_and_are_told(engine: Engine):
    await engine.ledger.record([queued_job(number) for number in range(1, 6)])
    for machine in ("m1", "m2", "m3", "m4", "m5"):
        answer = await engine.claims.claim(order(machine))
        assert answer is not None
        failed = FinishOrder(boot=BOOT, outcome=Outcome.FAILED, detail="no disk")
        await engine.claims.finish(ClaimId(answer.claim), failed)
    assert (await engine.heard())[-1] == "group.stalled"
