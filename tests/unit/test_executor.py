"""The executor against a real HTTP server that answers, refuses and falls silent."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import msgspec
import pytest

from mayfly import executor
from mayfly.bus.memory import MemoryBus
from mayfly.executor import Settings, Timing, Token
from mayfly.model.errors import Permanent
from mayfly.model.protocol import AttendOrder, ClaimOrder, Duty, Finished, FinishOrder, Outcome
from mayfly.model.requests import LEASE_TIME, RunnerRequest
from tests.fakes.clocks import ManualClock
from tests.fakes.control_plane import (
    NOTHING,
    SILENCE,
    TOKEN,
    ControlPlane,
    Reply,
    control_plane,
    granted,
    problem,
    registered,
)
from tests.fakes.drivers import ScriptedDriver, opening

QUICK = Timing(
    lease_wait=0.3, attend_wait=0.3, unrung=0.5, shortest=0.002, longest=0.02, farewell=0.3
)


@pytest.fixture
async def plane() -> AsyncIterator[ControlPlane]:
    async with control_plane() as plane:
        yield plane


@pytest.fixture
async def driver() -> ScriptedDriver:
    return ScriptedDriver()


@pytest.fixture
def settings(plane: ControlPlane, tmp_path: Path) -> Settings:
    return Settings(
        server=plane.url,
        pool="linux",
        token=Token(TOKEN),
        state_dir=tmp_path,
        machine="board",
        once=True,
        prepare_timeout_seconds=20.0,
    )


Run = Callable[..., asyncio.Task[int]]


@pytest.fixture
async def start(settings: Settings, driver: ScriptedDriver) -> AsyncIterator[Run]:
    tasks: list[asyncio.Task[int]] = []

    def start(
        timing: Timing = QUICK, open_bus: executor.OwnBus = nullcontext, **changes: object
    ) -> asyncio.Task[int]:
        changed = msgspec.structs.replace(settings, **changes)
        work = executor.run(changed, opening(driver), timing, open_bus=open_bus)
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def within(seconds: float = 20.0) -> AsyncIterator[None]:
    async with asyncio.timeout(seconds):
        yield


def finish_of(plane: ControlPlane) -> FinishOrder:
    (order,) = plane.heard["finish"]
    assert isinstance(order, FinishOrder)
    return order


async def test_one_job_goes_from_claim_to_finish(plane, driver, start):
    plane.will("claims", granted())
    plane.will("registration", registered("SECRET-CONFIG"))
    async with within():
        assert await start() == 0
    assert driver.calls == [
        "cleanup",  # of what a predecessor left
        "prepare c1",
        "run mayfly-c1-1",
        "cleanup",
    ]
    assert driver.configs == ["SECRET-CONFIG"]
    assert finish_of(plane).outcome is Outcome.DONE
    assert plane.paths[0] == "/v1/claims", "work may be waiting although nobody rings"
    assert plane.paths[-1] == "/v1/claims/c1/finish"


async def test_it_parks_when_nothing_is_needed_and_names_the_lease_it_was_given(plane, start):
    plane.will("claims", NOTHING, granted())
    plane.will("lease", NOTHING, Reply(200, {"lease": "L7"}))
    async with within():
        assert await start() == 0
    first, second = plane.heard["claims"]
    assert (first.lease, second.lease) == (None, "L7")
    assert not first.own_bus
    assert first.key != second.key
    assert first.boot == second.boot


@pytest.mark.parametrize("claim", [granted(), NOTHING], ids=["granted", "nothing-needed"])
async def test_a_lease_of_its_own_bus_is_completed_once_the_claim_is_answered(plane, start, claim):
    clock = ManualClock()
    bus = MemoryBus(clock)
    await bus.publish([RunnerRequest(pool="linux")])
    plane.will("claims", NOTHING, claim, granted())
    async with within():
        assert await start(open_bus=lambda: nullcontext(bus)) == 0
    clock.advance(LEASE_TIME.total_seconds())
    assert await bus.depth("linux") == 0
    assert [order.lease for order in plane.heard["claims"][:2]] == [None, None]
    assert all(order.own_bus for order in plane.heard["claims"])
    assert "lease" not in plane.heard, "the control plane is not asked for one"


async def test_a_lease_of_its_own_bus_is_given_back_when_the_control_plane_is_silent(plane, start):
    bus = MemoryBus(ManualClock())
    await bus.publish([RunnerRequest(pool="linux")])
    plane.will("claims", NOTHING, SILENCE, SILENCE, SILENCE, granted())
    never_unrung = QUICK._replace(unrung=60.0)
    async with within():
        assert await start(never_unrung, open_bus=lambda: nullcontext(bus)) == 0
    keys = [order.key for order in plane.heard["claims"]]
    assert keys[1] == keys[3] != keys[4], "it was rung for again at once"


async def test_it_asks_again_unrung(plane, start):
    plane.will("claims", NOTHING, granted())
    async with within():
        assert await start(QUICK._replace(unrung=0.05)) == 0
    assert [order.lease for order in plane.heard["claims"]] == [None, None]


async def test_a_parked_executor_claims_again_after_a_job_before_it_parks(plane, start):
    plane.will("claims", granted("c1"), granted("c2"))
    task = start(once=False)
    async with within():
        await plane.until("lease")
    assert [path for path in plane.paths if path.endswith(("claims", "finish"))] == [
        "/v1/claims",
        "/v1/claims/c1/finish",
        "/v1/claims",
        "/v1/claims/c2/finish",
        "/v1/claims",
    ]
    assert not task.done()


async def test_a_lost_claim_reply_is_asked_for_with_the_same_key(plane, start):
    plane.will("claims", SILENCE, problem(503, "restarting"), granted())
    async with within():
        assert await start() == 0
    assert len({order.key for order in plane.heard["claims"]}) == 1


async def test_after_three_silent_tries_a_new_key_is_used(plane, start):
    plane.will("claims", SILENCE, SILENCE, SILENCE, granted())
    async with within():
        assert await start(QUICK._replace(unrung=0.01)) == 0
    keys = [order.key for order in plane.heard["claims"]]
    assert keys[0] == keys[2] != keys[3]


async def test_registration_is_asked_for_until_the_control_plane_answers(plane, driver, start):
    silences = [SILENCE, problem(503, "busy", "Retry-After: 0"), Reply(502), SILENCE, SILENCE]
    plane.will("claims", granted())
    plane.will("registration", *silences, registered("J"))
    async with within():
        assert await start() == 0
    assert driver.configs == ["J"]


async def test_a_silent_control_plane_is_given_up_only_when_preparing_took_too_long(
    plane, driver, start
):
    plane.will("claims", granted())
    plane.usual["registration"] = SILENCE
    async with within():
        assert await start(prepare_timeout_seconds=0.3) == 0
    assert finish_of(plane).outcome is Outcome.STOPPED, "which blames no machine"
    assert "no runner was registered" in finish_of(plane).detail
    assert driver.configs == []


async def test_a_refusal_by_github_fails_the_claim_with_its_sentence(plane, start):
    plane.will("claims", granted())
    plane.will("registration", problem(502, "self-hosted runners are disabled in octo"))
    async with within():
        assert await start() == 1
    assert finish_of(plane).outcome is Outcome.FAILED
    assert finish_of(plane).detail == "self-hosted runners are disabled in octo"


async def test_a_claim_that_is_gone_at_registration_is_dropped(plane, driver, start):
    plane.will("claims", granted())
    plane.will("registration", problem(410, "not needed any more"))
    async with within():
        assert await start() == 0
    assert finish_of(plane).outcome is Outcome.STOPPED
    assert driver.calls[-1] == "cleanup"


async def test_heartbeats_begin_while_the_driver_prepares(plane, driver, start):
    driver.prepares_for_ever = True
    plane.will("claims", granted())
    task = start()
    async with within():
        beats = await plane.until("heartbeat", 3)
    assert {beat.boot for beat in beats} == {plane.heard["claims"][0].boot}
    assert not task.done()


@pytest.mark.parametrize(
    "answer",
    [Reply(200, {"order": "stop", "reason": "withdrawn"}), problem(410, "withdrawn")],
    ids=["stop", "gone"],
)
async def test_a_heartbeat_can_stop_the_runner(plane, driver, start, answer):
    driver.runs_at_once = False
    plane.will("claims", granted())
    plane.will("heartbeat", SILENCE, Reply(500), answer)
    async with within():
        assert await start() == 0
    assert driver.calls[-2:] == ["stopped", "cleanup"]
    assert (finish_of(plane).outcome, finish_of(plane).detail) == (Outcome.STOPPED, "withdrawn")


async def test_a_refused_heartbeat_does_not_end_a_running_job(plane, driver, start):
    driver.runs_at_once = False
    plane.will("claims", granted())
    plane.will("heartbeat", problem(403, "token revoked"), problem(404, "who?"))
    task = start()
    async with within():
        await plane.until("heartbeat", 4)
        driver.finish.set()
        assert await task == 0
    assert finish_of(plane).outcome is Outcome.DONE


async def test_finish_is_said_until_it_is_heard(plane, start):
    plane.will("claims", granted())
    plane.will("finish", *[SILENCE] * 6)
    async with within():
        assert await start() == 0
    assert len(plane.heard["finish"]) == 7


async def test_a_failed_preparation_fails_the_claim(plane, driver, start):
    driver.prepare_fails = Permanent("no disk")
    plane.will("claims", granted())
    async with within():
        assert await start() == 1
    assert (finish_of(plane).outcome, finish_of(plane).detail) == (Outcome.FAILED, "no disk")
    assert "registration" not in plane.heard, "nothing was minted for it"


async def test_a_broken_driver_fails_the_claim_and_the_executor_goes_on(plane, driver, start):
    driver.prepare_fails = ZeroDivisionError("a bug")
    plane.will("claims", granted())
    task = start(once=False)
    async with within():
        await plane.until("lease")
    assert finish_of(plane).detail == "internal error: ZeroDivisionError"
    assert not task.done()


async def test_a_failed_cleanup_does_not_hide_how_the_job_went(plane, driver, start):
    driver.cleanup_fails = Permanent("something is still mounted")
    plane.will("claims", granted())
    async with within():
        assert await start() == 0
    assert finish_of(plane).outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("finished", "code"),
    [
        (Finished(Outcome.DONE, 7, ""), 7),
        (Finished(Outcome.DONE, -9, ""), 137),
        (Finished(Outcome.FAILED, None, "not found"), 1),
        (Finished(Outcome.FAILED, 3, "bad config"), 3),
    ],
)
async def test_once_ends_with_the_runners_own_exit_code(plane, driver, start, finished, code):
    driver.finished = finished
    plane.will("claims", granted())
    async with within():
        assert await start() == code


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_one_clear_sentence(plane, start, caplog, status):
    plane.will("claims", problem(status, "not yours"))
    async with within():
        assert await start() == 1
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "token" in record.message or "forbids" in record.message
    assert TOKEN not in caplog.text


async def test_an_unknown_pool_is_an_error_and_not_a_loop(plane, start, caplog):
    plane.will("claims", problem(404, 'no pool is named "linux"; known pools: arm64'))
    async with within():
        assert await start(once=False) == 1
    assert "known pools: arm64" in caplog.text


async def test_sigterm_ends_a_parked_executor_at_once(plane, start):
    task = start(Timing(lease_wait=60.0), once=False)
    async with within(5.0):
        await plane.until("lease")
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == 42


async def test_sigterm_at_work_finishes_the_job_first(plane, driver, start):
    driver.runs_at_once = False
    plane.will("claims", granted(), granted("never"))
    task = start(once=False)
    async with within():
        await driver.running.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await plane.until("heartbeat", len(plane.heard["heartbeat"]) + 2)
        assert not task.done()
        driver.finish.set()
        assert await task == 42
    assert finish_of(plane).outcome is Outcome.DONE
    assert len(plane.heard["claims"]) == 1


async def test_a_second_signal_gives_the_job_back(plane, driver, start):
    driver.runs_at_once = False
    plane.will("claims", granted())
    task = start()
    async with within():
        await driver.running.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert await task == 42
    assert driver.calls[-2:] == ["stopped", "cleanup"]
    assert finish_of(plane).outcome is Outcome.STOPPED


async def test_a_second_signal_does_not_wait_for_a_silent_control_plane(plane, driver, start):
    driver.runs_at_once = False
    plane.will("claims", granted())
    plane.usual["finish"] = SILENCE
    task = start()
    async with within(5.0):
        await driver.running.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == 42


async def test_a_claim_granted_during_shutdown_is_given_back_unbegun(plane, driver, start):
    async def late(order: ClaimOrder) -> Reply:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        return granted()

    plane.will("claims", late)
    async with within():
        assert await start() == 42
    assert finish_of(plane).outcome is Outcome.STOPPED
    assert "prepare c1" not in driver.calls


async def test_an_executor_that_costs_ends_when_nothing_comes(plane, start):
    async with within():
        assert await start(once=False, idle_seconds=0.4) == 0
    assert len(plane.heard["claims"]) == 2, "it asks once more before it leaves"


async def test_a_lease_that_does_not_wait_is_not_asked_in_a_storm(plane, start):
    plane.usual["lease"] = NOTHING
    timing = QUICK._replace(lease_wait=25.0, shortest=0.05, longest=0.1, unrung=30.0)
    start(timing, once=False, idle_seconds=1.0)
    async with within():
        await plane.until("claims", 2)
    assert len(plane.heard["lease"]) < 40


async def test_the_job_start_question_is_asked_until_answered(plane, driver, start):
    driver.runs_at_once = False
    plane.will("claims", granted())
    plane.will("started", SILENCE, Reply(200, {"allowed": False, "reason": "not admitted"}))
    task = start()
    async with within():
        await driver.running.wait()
        assert driver.started is not None
        answer = await driver.started(repository="octo/demo", run_id=7, run_attempt=2)
        driver.finish.set()
        await task
    assert (answer.allowed, answer.reason) == (False, "not admitted")
    asked = plane.heard["started"][-1]
    assert (asked.repository, asked.run_id, asked.run_attempt) == ("octo/demo", 7, 2)
    assert asked.boot == plane.heard["claims"][0].boot


async def test_secrets_are_in_no_log_line(plane, start, caplog):
    caplog.set_level(logging.DEBUG, logger="mayfly")
    plane.will("claims", SILENCE, granted())
    plane.will("registration", SILENCE, registered("SECRET-CONFIG"))
    async with within():
        await start()
    assert "claim.finished" in caplog.text
    assert TOKEN not in caplog.text
    assert "SECRET-CONFIG" not in caplog.text


async def test_two_executors_of_one_host_are_two_machines(plane, start):
    first, second = start(once=False), start(once=False)
    async with within():
        await plane.until("lease", 2)
    machines = sorted(order.machine for order in plane.heard["claims"])
    assert len(set(machines)) == 2
    assert [machine.rsplit("/", 1)[1] for machine in machines] == ["0", "1"]
    assert not first.done()
    assert not second.done()


# Attendance


async def test_it_says_that_it_is_there_from_its_start_to_its_end(plane, start):
    task = start(once=False)
    async with within():
        await plane.until("attend", 2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == 42
    first, *_, gone = plane.heard["attend"]
    assert (first.boot, first.ending, first.gone) == (plane.heard["claims"][0].boot, False, False)
    assert first.machine == plane.heard["claims"][0].machine
    assert gone.gone


async def test_one_that_drains_by_a_signal_says_so(plane, driver, start):
    driver.runs_at_once = False
    plane.will("claims", granted())
    task = start(Timing(attend_wait=60.0), once=False)
    async with within(5.0):
        await driver.running.wait()
        await plane.until("attend")
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await plane.until("attend", 2))[-1].ending
        driver.finish.set()
        assert await task == 42


async def test_a_parked_executor_that_is_told_to_rest_leases_nothing_until_it_is_returned(
    plane, start
):
    task = start(once=False)
    async with within():
        await plane.until("lease")
        await plane.tell(Duty.REST)
        told = await plane.until("attend", len(plane.heard["attend"]) + 2)
        assert told[-1].duty is Duty.REST
        leases, claims = len(plane.heard["lease"]), len(plane.heard["claims"])
        await plane.until("attend", len(told) + 2)
        assert (len(plane.heard["lease"]), len(plane.heard["claims"])) == (leases, claims)
        await plane.tell(Duty.SERVE)
        await plane.until("claims", claims + 1)
    assert not task.done()


async def test_one_at_work_that_is_told_to_rest_finishes_its_job_and_takes_no_other(
    plane, driver, start
):
    driver.runs_at_once = False
    plane.will("claims", granted(), granted("never"))
    start(once=False)
    async with within():
        await driver.running.wait()
        await plane.tell(Duty.REST)
        told = await plane.until("attend", len(plane.heard["attend"]) + 2)
        driver.finish.set()
        await plane.until("finish")
        await plane.until("attend", len(told) + 2)
    assert finish_of(plane).outcome is Outcome.DONE
    assert len(plane.heard["claims"]) == 1


async def test_one_that_rests_ends_at_once_when_told(plane, start):
    plane.duty = Duty.REST
    task = start(once=False)
    async with within(5.0):
        await plane.until("attend", 2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == 42


async def test_one_that_rests_and_costs_ends_when_its_time_is_over(plane, start):
    plane.duty = Duty.REST
    async with within():
        assert await start(once=False, idle_seconds=0.4) == 0


async def test_an_operator_ends_a_parked_executor(plane, start):
    task = start(Timing(lease_wait=60.0), once=False)
    async with within(5.0):
        await plane.until("lease")
        await plane.tell(Duty.END)
        assert await task == 42
    assert plane.heard["attend"][-1].gone


async def test_an_operator_ends_one_at_work_after_its_job_and_one_signal_does_not_hurry_it(
    plane, driver, start
):
    driver.runs_at_once = False
    plane.will("claims", granted(), granted("never"))
    task = start(once=False)
    async with within():
        await driver.running.wait()
        await plane.tell(Duty.END)
        await plane.until("attend", len(plane.heard["attend"]) + 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await plane.until("heartbeat", len(plane.heard["heartbeat"]) + 2)
        assert not task.done()
        driver.finish.set()
        assert await task == 42
    assert finish_of(plane).outcome is Outcome.DONE
    assert len(plane.heard["claims"]) == 1


async def test_a_lease_of_its_own_bus_goes_back_when_it_is_told_to_rest(plane, start):
    bus = MemoryBus(ManualClock())

    async def late(order: ClaimOrder) -> Reply:
        await plane.tell(Duty.REST)
        await plane.until("attend", len(plane.heard["attend"]) + 2)
        return NOTHING

    plane.will("claims", NOTHING, late)
    start(once=False, open_bus=lambda: nullcontext(bus))
    async with within():
        await plane.until("claims")
        await bus.publish([RunnerRequest(pool="linux")])
        await plane.until("claims", 2)
        told = await plane.until("attend", 4)
        await plane.until("attend", len(told) + 1)
    assert await bus.depth("linux") == 1, "another executor hears it"


@pytest.mark.parametrize(
    "answer", [SILENCE, Reply(500), problem(404, "an older control plane"), problem(403, "no")]
)
async def test_trouble_with_its_attendance_is_never_the_jobs(plane, driver, start, answer):
    plane.usual["attend"] = answer
    plane.will("claims", granted())
    driver.runs_at_once = False
    task = start()
    async with within():
        await plane.until("attend", 3)
        driver.finish.set()
        assert await task == 0
    assert finish_of(plane).outcome is Outcome.DONE


async def test_an_attendance_that_does_not_wait_is_not_asked_in_a_storm(plane, start):
    body = {"duty": "serve", "waited_seconds": 25.0}
    plane.usual["attend"] = Reply(200, body)
    timing = QUICK._replace(attend_wait=25.0, shortest=0.05, longest=0.1)
    async with within():
        assert await start(timing, once=False, idle_seconds=1.0) == 0
    assert 3 <= len(plane.heard["attend"]) < 40


async def test_a_silent_control_plane_does_not_hold_up_the_end(plane, start):
    async def never(order: AttendOrder) -> Reply:
        await asyncio.Event().wait()
        return NOTHING

    plane.usual["attend"] = never
    task = start(once=False)
    async with within(5.0):
        await plane.until("attend")
        await plane.until("lease")
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == 42


async def test_a_prepare_that_takes_too_long_fails_the_claim(plane, driver, start):
    driver.prepares_for_ever = True
    plane.will("claims", granted())
    async with within():
        assert await start(prepare_timeout_seconds=0.1) == 1
    assert finish_of(plane).outcome is Outcome.FAILED
