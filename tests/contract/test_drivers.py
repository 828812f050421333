"""What every driver promises, run over the entry points `mayfly.drivers`."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest

from mayfly.model.errors import MayflyError
from mayfly.model.protocol import Outcome, StartedAnswer
from mayfly.ports import Driver
from tests.fakes.driven import DRIVERS, executor, installed, machine, opened
from tests.fakes.runner_programs import (
    ALLOWED,
    REFUSED,
    Admission,
    Stage,
    alive,
    claim,
    jit_config,
    outside,
    processes_with,
    stage,
    until,
)

Open = Callable[..., AbstractAsyncContextManager[Driver]]

SEEN_BY_THE_NEXT = {
    "command": set(),
    "container": set(),
    "process": {"/tmp", "/dev/shm", "network"},
    "sandbox": set(),
}
"""What of a job its successor finds; a fresh directory is not a machine of its own."""


@pytest.fixture
def place(driver_name: str) -> Iterator[Stage]:
    with stage() as made, machine(driver_name, made):
        yield made


@pytest.fixture(params=DRIVERS)
def driver_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "command" and "guarded" in request.keywords:
        pytest.skip("a board has no way to the job-start guard; the heartbeat stops a refused job")
    installed(name)
    return name


@pytest.fixture
def open_driver(driver_name: str, place: Stage) -> Open:
    return partial(opened, driver_name, place)


def nothing_left(place: Stage) -> bool:
    return not list(place.home.iterdir()) and not processes_with(str(place.traces))


async def test_a_runner_that_ends_is_done(open_driver: Open):
    async with open_driver("ends") as driver:
        await driver.prepare(claim())
        finished = await driver.run("r", jit_config())
    assert (finished.outcome, finished.exit_code) == (Outcome.DONE, 0)


async def test_a_runner_that_fails_before_a_job_says_why(open_driver: Open):
    async with open_driver("fails") as driver:
        await driver.prepare(claim())
        finished = await driver.run("r", jit_config())
    assert (finished.outcome, finished.exit_code) == (Outcome.FAILED, 3)
    assert "the registration is gone" in finished.detail


async def test_one_driver_serves_one_claim_after_another(open_driver: Open, place: Stage):
    async with open_driver("probes") as driver:
        for name in ("c1", "c2"):
            await driver.prepare(claim(name=name))
            assert (await driver.run(name, jit_config())).outcome is Outcome.DONE
            await driver.cleanup()
            assert place.trace("stdin") == jit_config()
            (place.traces / "stdin").unlink()


async def test_the_config_is_in_no_argument_and_no_environment(open_driver: Open, place: Stage):
    config = jit_config()
    async with open_driver("hangs") as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", config))
        await place.traced("pid")
        assert processes_with(config[:60]) == []
        assert processes_with(str(place.traces)) != [], "the probe can see the runner"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("script", ["hangs", "stubborn", "polite", "runaway"])
async def test_cancelling_stops_the_runner(open_driver: Open, place: Stage, script: str):
    async with open_driver(script) as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        pid = int(await place.traced("pid"))
        # A runaway is another process before we can look it up.
        found = 0 if script == "runaway" else outside(pid, str(place.traces))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not alive(found)
        assert processes_with(str(place.traces)) == []


async def test_a_run_that_takes_too_long_is_over_with_all_it_started(
    open_driver: Open, place: Stage
):
    async with open_driver("daemons", THEN="exec sleep 300") as driver:
        await driver.prepare(claim())

        async def limited() -> None:
            async with asyncio.timeout(30) as limit:
                running = asyncio.create_task(driver.run("r", jit_config()))
                for number in (1, 2, 3):
                    await place.traced(f"daemon.{number}")
                limit.reschedule(asyncio.get_running_loop().time())
                await running

        with pytest.raises(TimeoutError):
            await limited()
        assert processes_with(str(place.traces)) == []


@pytest.mark.parametrize("then", ["exit 0", "exec sleep 300"], ids=["ended", "cancelled"])
async def test_daemons_end_with_the_runner(open_driver: Open, place: Stage, then: str):
    async with open_driver("daemons", THEN=then) as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        daemons = [int(await place.traced(f"daemon.{number}")) for number in (1, 2, 3)]
        if then != "exit 0":
            assert all(alive(outside(pid, str(place.traces))) for pid in daemons)
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert processes_with(str(place.traces)) == []


@pytest.mark.parametrize("script", ["litters", "deep"])
async def test_cleanup_removes_what_a_job_left(open_driver: Open, place: Stage, script: str):
    async with open_driver(script) as driver:
        await driver.prepare(claim())
        await driver.run("r", jit_config())
        await driver.cleanup()
        assert nothing_left(place)
        await driver.cleanup()


async def test_cleanup_without_a_run_leaves_nothing(open_driver: Open, place: Stage):
    async with open_driver("ends") as driver:
        await driver.cleanup()
        await driver.prepare(claim(guard=True))
        await driver.cleanup()
        assert nothing_left(place)


async def test_leaving_the_context_cleans_up(open_driver: Open, place: Stage):
    async with open_driver("hangs") as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        await place.traced("pid")
    await asyncio.gather(running, return_exceptions=True)
    assert nothing_left(place)


async def test_nothing_is_left_of_a_killed_executor(
    driver_name: str, open_driver: Open, place: Stage
):
    with executor(driver_name, place, "stubborn") as killed:
        pid = outside(int(await place.traced("pid")), str(place.traces))
        killed.kill()
    async with open_driver("ends") as driver:
        await driver.cleanup()
        assert not alive(pid)
        assert nothing_left(place)
        await driver.prepare(claim())
        assert (await driver.run("r", jit_config())).outcome is Outcome.DONE


async def test_a_job_finds_nothing_of_the_one_before(
    driver_name: str, open_driver: Open, place: Stage
):
    mark = place.home.parents[1].name
    async with open_driver("neighbours", MARK=mark) as driver:
        for _ in range(2):
            await driver.prepare(claim())
            assert (await driver.run("r", jit_config())).exit_code == 0
            await driver.cleanup()
    found = set(place.trace("found").split())
    if place.trace("network") == os.readlink("/proc/self/ns/net"):  # noqa: PTH115 - Path's blocks no less
        found.add("network")
    for left in (f"/tmp/left-{mark}", f"/dev/shm/left-{mark}"):
        if left.rpartition("/")[0] in found:
            os.unlink(left)  # noqa: PTH108 - as above
    assert found == SEEN_BY_THE_NEXT[driver_name]


async def test_a_job_that_fills_its_disk_is_the_only_one_to_suffer(
    driver_name: str, open_driver: Open, place: Stage
):
    if driver_name == "process":  # it limits no disk, so the machine's own has to be full
        if os.geteuid() != 0:
            pytest.skip("needs root, to mount a small disk")
        subprocess.run(  # noqa: ASYNC221 - short, and nothing else runs in this test
            ["mount", "-t", "tmpfs", "-o", "size=8m,mode=711", "tmpfs", place.home], check=True
        )
    try:
        async with open_driver("fills") as driver:
            for _ in range(2):
                await driver.prepare(claim())
                assert (await driver.run("r", jit_config())).exit_code == 0
                assert "No space left" in place.trace("said")
                await driver.cleanup()
                assert nothing_left(place)
    finally:
        if driver_name == "process":
            subprocess.run(["umount", place.home], check=True)  # noqa: ASYNC221 - as above


async def test_a_fork_bomb_stays_within_its_limits(
    driver_name: str, open_driver: Open, place: Stage
):
    if driver_name in {"command", "process"}:
        pytest.skip("this driver limits nothing; a bomb would be the board's or the machine's")
    if os.geteuid() != 0:
        pytest.skip("needs root, to limit by cgroups")
    async with open_driver("bomb") as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        most = 0
        async with asyncio.timeout(20):
            while most < 50:
                most = max(most, len(processes_with(str(place.traces))))
                await asyncio.sleep(0.01)
        for _ in range(20):  # it never ends trying: without a limit there would soon be more
            most = max(most, len(processes_with(str(place.traces))))
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert most <= 64
        assert processes_with(str(place.traces)) == []
        await driver.cleanup()
        assert nothing_left(place)


async def test_running_without_preparing_is_an_error_with_a_sentence(open_driver: Open):
    async with open_driver("ends") as driver:
        with pytest.raises(MayflyError, match="not prepared"):
            await driver.run("r", jit_config())


@pytest.mark.guarded
async def test_an_admitted_job_runs(open_driver: Open, place: Stage):
    admission = Admission(ALLOWED)
    async with open_driver("job", admission, THEN="exit 4") as driver:
        await driver.prepare(claim(guard=True))
        finished = await driver.run("r", jit_config())
    assert place.trace("code") == "0"
    assert admission.questions == [("octo/demo", 77, 2)]
    assert (finished.outcome, finished.exit_code) == (Outcome.DONE, 4), "a job had begun"


@pytest.mark.guarded
async def test_a_refused_job_fails_before_its_first_step(open_driver: Open, place: Stage):
    async with open_driver("job", Admission(REFUSED)) as driver:
        await driver.prepare(claim(guard=True))
        finished = await driver.run("r", jit_config())
    assert place.trace("code") == "1"
    assert "octo/demo is not admitted" in place.trace("said")
    assert "::" not in place.trace("said"), "a reason is no command for the runner"
    assert (finished.outcome, "refused" in finished.detail) == (Outcome.DONE, True)


@pytest.mark.guarded
async def test_no_answer_means_no(open_driver: Open, place: Stage):
    async with open_driver("job", Admission(None)) as driver:
        await driver.prepare(claim(guard=True))
        await driver.run("r", jit_config())
    assert place.trace("code") == "1"
    assert "did not answer" in place.trace("said")


@pytest.mark.guarded
@pytest.mark.parametrize("answer", [ALLOWED, REFUSED, None])
async def test_without_a_guard_a_job_is_told_of_and_held_up_by_nothing(
    open_driver: Open, place: Stage, answer: StartedAnswer | None
):
    admission = Admission(answer)
    async with open_driver("job", admission, THEN="exit 4") as driver:
        await driver.prepare(claim(guard=False))
        finished = await driver.run("r", jit_config())
    assert (place.trace("code"), place.trace("said")) == ("0", "")
    assert admission.questions == [("octo/demo", 77, 2)]
    assert (finished.outcome, finished.exit_code) == (Outcome.DONE, 4), "a job had begun"


@pytest.mark.guarded
async def test_a_name_that_is_none_is_refused_unasked(open_driver: Open, place: Stage):
    admission = Admission(ALLOWED)
    async with open_driver("job", admission, REPO="octo/demo$(id) 77 2\nallowed") as driver:
        await driver.prepare(claim(guard=True))
        await driver.run("r", jit_config())
    assert place.trace("code") == "1"
    assert admission.questions == []


@pytest.mark.guarded
async def test_a_runner_that_goes_on_with_a_refused_job_is_stopped(open_driver: Open, place: Stage):
    async with open_driver("job", Admission(REFUSED), THEN="exec sleep 300") as driver:
        await driver.prepare(claim(guard=True))
        async with asyncio.timeout(20):
            finished = await driver.run("r", jit_config())
    assert "refused" in finished.detail
    await until(lambda: processes_with(str(place.traces)) == [])
