"""Executors that crash, are told to stop, or get no answer: no job is lost, nothing stays."""

import os
import shutil
import signal

import pytest

from mayfly.simulator import ApiRule, Faults
from tests.e2e.programs import arguments_of, until
from tests.e2e.stage import TOLD_TO_STOP, Stage
from tests.e2e.templates import slow_template
from tests.servers.absent import absent

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

# A job that leaves processes in sessions of their own behind it.
STRAYS = "setsid sleep 298 </dev/null >/dev/null 2>&1 & echo at work; sleep 297"


async def test_a_lost_reply_of_a_registration_costs_one_generation(stage: Stage):
    repository, mints = stage.repository(), stage.github.mints()
    stage.simulator.faults = Faults(
        api=(ApiRule(path="*/generate-jitconfig", when="after", status=None, count=1),)
    )
    await stage.executor()
    job = stage.dispatch(repository)
    stage.simulator.hold(job)
    runner = await stage.idle_runner()
    assert stage.github.runners() == [runner], "the one of the lost reply was deleted first"
    stage.simulator.release(job)
    await stage.ends(job)
    (claim,) = [each for each in await stage.claims(live=False) if each["job_id"] == job]
    assert stage.runner_of(job) == f"e2e-{claim['claim']}-2"
    assert stage.github.mints() - mints == 2


async def test_the_same_claim_key_gets_the_same_claim(stage: Stage):
    repository = stage.repository()
    job = stage.dispatch(repository)
    await stage.known(job, "queued")
    token = stage.executor_token
    order = {"pool": "linux", "machine": "by-hand", "boot": "b1", "key": "once"}
    first, second = [
        (await stage.call("POST", "/v1/claims", json=order, token=token)).json() for _ in range(2)
    ]
    assert first == second
    assert [claim["claim"] for claim in await stage.claims()] == [first["claim"]]
    finish = {"boot": "b1", "outcome": "stopped"}
    path = f"/v1/claims/{first['claim']}/finish"
    await stage.call("POST", path, json=finish, token=token)
    await stage.executor()
    await stage.ends(job)


async def test_a_job_whose_executor_is_killed_while_preparing_gets_another(stage: Stage):
    repository, mints = stage.repository(), stage.github.mints()
    with slow_template(stage.directory) as template:
        executor = await stage.executor(template=template.path)
        job = stage.dispatch(repository)
        await template.being_copied(executor)
        await executor.killed()
        template.release()
        await stage.executor()
        await stage.ends(job)
    await stage.claim_in("done")
    lost = (await stage.claims(live=False))[1]
    assert (lost["state"], lost["detail"]) == (
        "lost",
        "its machine came back with another boot id",
    )
    assert stage.github.mints() - mints == 1


async def test_a_claim_of_a_machine_that_never_returns_is_lost_in_time(stage: Stage):
    repository = stage.repository()
    with slow_template(stage.directory) as template:
        executor = await stage.executor(template=template.path, state="state-of-another-machine")
        job = stage.dispatch(repository)
        await template.being_copied(executor)
        await executor.killed()
        template.release()
        await stage.executor()
        await stage.ends(job)
        lost = (await stage.claims(live=False))[1]
        assert (lost["state"], lost["detail"]) == ("lost", "its executor went silent")
    # The machine comes back, as it must to clean up what it left.
    await stage.executor(state="state-of-another-machine")


async def test_a_killed_executor_fails_its_job_and_leaves_no_process(stage: Stage):
    repository = stage.repository()
    executor = await stage.executor()
    job = stage.dispatch(repository, STRAYS)
    await until(lambda: "at work" in stage.simulator.log(job), "the job at work")
    assert len([pid for pid in executor.children() if "sleep 29" in arguments_of(pid)]) == 2
    await executor.killed()
    assert await stage.simulator.wait_job(job, "completed", timeout=20)
    assert stage.simulator.job(job)["conclusion"] in {"failure", "cancelled"}
    await until(lambda: not executor.survivors(), f"{executor.survivors()} gone")
    following = stage.dispatch(repository)
    await stage.executor()
    await stage.ends(following)


async def test_a_successor_ends_what_a_killed_keeper_could_not(stage: Stage):
    repository = stage.repository()
    executor = await stage.executor()
    job = stage.dispatch(repository, STRAYS)
    await until(lambda: "at work" in stage.simulator.log(job), "the job at work")
    keepers = [pid for pid in executor.children() if "keeper.py" in arguments_of(pid)]
    await executor.killed()
    for pid in keepers:
        os.kill(pid, signal.SIGKILL)
    await stage.executor()
    await until(lambda: not executor.survivors(), f"{executor.survivors()} gone")
    assert await stage.simulator.wait_job(job, "completed", timeout=20)
    following = stage.dispatch(repository)
    await stage.ends(following)


async def test_an_idle_executor_ends_with_42_when_told(stage: Stage):
    executor = await stage.executor()
    assert await executor.stopped() == TOLD_TO_STOP


async def test_an_executor_at_work_finishes_its_job_and_ends_with_42(stage: Stage):
    repository = stage.repository()
    executor = await stage.executor()
    job = stage.dispatch(repository, "echo at work; sleep 1; echo to the end")
    following = stage.dispatch(repository)
    await until(lambda: "at work" in stage.simulator.log(job), "the job at work")
    executor.send(signal.SIGTERM)
    assert await executor.ended() == TOLD_TO_STOP
    await stage.ends(job)
    assert "to the end" in stage.simulator.log(job)
    assert stage.simulator.job(following)["status"] == "queued"


async def test_an_executor_for_one_job_ends_with_0_after_it(stage: Stage):
    repository = stage.repository()
    executor = await stage.executor(once=True)
    job, other = stage.dispatch(repository), stage.dispatch(repository)
    assert await executor.ended() == 0
    done = [stage.simulator.job(each)["status"] for each in (job, other)]
    assert done == ["completed", "queued"]


async def test_a_job_runs_in_a_sandbox_when_the_executors_file_says_so(stage: Stage):
    if shutil.which("bwrap") is None:
        absent("bubblewrap is not installed; tests/servers/install does it")
    repository = stage.repository()
    executor = await stage.executor(driver="sandbox")
    job = stage.dispatch(repository, "uname -n; pwd; ls / | tr '\\n' ' '")
    await stage.ends(job)
    executor.send(signal.SIGTERM)
    assert await executor.ended() == TOLD_TO_STOP
    name, work, root = stage.simulator.log(job)
    assert name == "mayfly"
    assert work.startswith("/home/runner/")
    assert "root" not in root.split(), "the machine has this directory, the sandbox has not"
