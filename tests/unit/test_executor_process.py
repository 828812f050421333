"""The executor and the process driver together, as the command line puts them together."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from mayfly import executor
from mayfly.drivers import process
from mayfly.model.protocol import Outcome
from tests.fakes.control_plane import (
    SILENCE,
    TOKEN,
    ControlPlane,
    Reply,
    control_plane,
    granted,
    registered,
)
from tests.fakes.runner_programs import Stage, alive, jit_config, processes_with, stage, until


@pytest.fixture
def place() -> Iterator[Stage]:
    with stage() as made:
        yield made


@pytest.fixture
async def plane() -> AsyncIterator[ControlPlane]:
    async with control_plane() as plane:
        plane.usual["registration"] = registered(jit_config())
        yield plane


def ran(plane: ControlPlane, place: Stage, script: str, **environment: str) -> asyncio.Task[int]:
    settings = executor.Settings(
        server=plane.url,
        pool="linux",
        token=executor.Token(TOKEN),
        state_dir=place.home.parents[1],
        once=True,
    )
    runner = process.Settings(
        command=(place.program(script),),
        environment={"TRACES": str(place.traces), "THEN": "exit 0"} | environment,
        grace_seconds=0.5,
        guard_seconds=10.0,
    )
    work = executor.run(settings, partial(process.open_driver, runner))
    return asyncio.create_task(work)


async def test_a_job_runs_after_the_control_plane_admitted_it(plane: ControlPlane, place: Stage):
    plane.will("claims", granted(guard=True))
    plane.will("started", SILENCE, Reply(200, {"allowed": True, "reason": ""}))
    async with asyncio.timeout(20):
        assert await ran(plane, place, "job") == 0
    assert place.trace("code") == "0"
    (asked,) = {(each.repository, each.run_id) for each in plane.heard["started"]}
    assert asked == ("octo/demo", 77)
    (finish,) = plane.heard["finish"]
    assert (finish.outcome, finish.detail) == (Outcome.DONE, "ran a job of octo/demo")
    assert list(place.home.iterdir()) == []


async def test_stop_ends_the_whole_tree_before_finish_is_said(plane: ControlPlane, place: Stage):
    stopped = asyncio.Event()

    async def stop_once(_: object) -> Reply:
        return Reply(200, {"order": "stop" if stopped.is_set() else "continue"})

    plane.usual["heartbeat"] = stop_once
    plane.will("claims", granted())
    task = ran(plane, place, "daemons", THEN="exec sleep 300")
    async with asyncio.timeout(20):
        daemons = [int(await place.traced(f"daemon.{number}")) for number in (1, 2, 3)]
        stopped.set()
        (finish,) = await plane.until("finish")
        assert not any(map(alive, daemons))
        assert finish.outcome is Outcome.STOPPED
        assert await task == 0
    assert list(place.home.iterdir()) == []


ENVIRONMENT = {
    "MAYFLY_TOKEN": TOKEN,
    "PATH": "/usr/bin:/bin",
    "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
}
PROGRAM = """
import asyncio, os, sys
from functools import partial
from pathlib import Path
from mayfly import executor
from mayfly.drivers import process
server, state, program, traces = sys.argv[1:]
settings = executor.Settings(server=server, pool="linux", state_dir=Path(state), once=True,
    token=executor.Token(os.environ["MAYFLY_TOKEN"]))
runner = process.Settings(command=(program,), environment={"TRACES": traces}, grace_seconds=0.5)
sys.exit(asyncio.run(executor.run(settings, partial(process.open_driver, runner))))
"""


async def test_secrets_are_in_no_process_below_the_executor(plane: ControlPlane, place: Stage):
    plane.will("claims", granted())
    with subprocess.Popen(  # noqa: ASYNC220 - waited for below, with the loop running
        [
            *(sys.executable, "-c", PROGRAM, plane.url, place.home.parents[1]),
            *(place.program("hangs"), place.traces),
        ],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
    ) as program:
        await place.traced("pid")
        assert processes_with(TOKEN) == [program.pid], "root can see the executor's own"
        assert processes_with(jit_config()[:60]) == []
        program.send_signal(signal.SIGTERM)
        program.send_signal(signal.SIGINT)
        await until(lambda: program.poll() is not None or not alive(program.pid))
        assert program.wait(20) == 42
        assert program.stderr is not None
        log = program.stderr.read().decode()
    assert "claim.granted" in log
    assert TOKEN not in log
    assert jit_config()[:40] not in log
    assert "PRIVATE-KEY" not in log


@pytest.mark.root
async def test_a_killed_executor_leaves_its_slot_to_a_clean_successor(
    plane: ControlPlane, place: Stage
):
    if os.geteuid() != 0:
        pytest.skip("needs root, because it runs jobs as another user")
    plane.will("claims", granted("c1"), granted("c2"))
    state: Path = place.home.parents[1]
    arguments = [sys.executable, "-c", PROGRAM, plane.url, str(state)]
    first = await asyncio.create_subprocess_exec(
        *arguments, place.program("stubborn"), str(place.traces), env=ENVIRONMENT
    )
    pid = int(await place.traced("pid"))
    first.kill()
    await first.wait()
    second = await asyncio.create_subprocess_exec(
        *arguments, place.program("ends"), str(place.traces), env=ENVIRONMENT
    )
    async with asyncio.timeout(20):
        assert await second.wait() == 0
    assert not alive(pid)
    machines = {each.machine for each in plane.heard["claims"]}
    boots = {each.boot for each in plane.heard["claims"]}
    assert (len(machines), len(boots)) == (1, 2), "so the ledger knows the predecessor is dead"
    assert list(place.home.iterdir()) == []
