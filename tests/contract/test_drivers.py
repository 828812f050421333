"""What every driver promises, run over the entry points `mayfly.drivers`."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points
from typing import Any

import pytest

from mayfly.drivers.jitconfig import JitDelivery
from mayfly.model.errors import MayflyError
from mayfly.model.protocol import Outcome
from mayfly.ports import Driver
from tests.fakes.runner_programs import (
    ALLOWED,
    REFUSED,
    Admission,
    Stage,
    alive,
    claim,
    jit_config,
    processes_with,
    stage,
    until,
)

Open = Callable[..., AbstractAsyncContextManager[Driver]]

# How each driver is told to run a shell script with a few variables, and to be quick about it.
SETTINGS: dict[str, Callable[[Any, str, dict[str, str]], Any]] = {
    "process": lambda module, program, environment: module.Settings(
        command=(program,),
        jit=JitDelivery.STDIN,
        environment=environment,
        grace_seconds=0.5,
        guard_seconds=0.3,
        refused_seconds=0.3,
    ),
}


@pytest.fixture
def place() -> Iterator[Stage]:
    with stage() as made:
        yield made


@pytest.fixture(params=sorted(entry_points(group="mayfly.drivers")), ids=lambda entry: entry.name)
def open_driver(request: pytest.FixtureRequest, place: Stage) -> Open:
    module = request.param.load()

    def opened(
        script: str, admission: Admission | None = None, **environment: str
    ) -> AbstractAsyncContextManager[Driver]:
        variables = {"TRACES": str(place.traces), "THEN": "exit 0"} | environment
        settings = SETTINGS[request.param.name](module, place.program(script), variables)
        driver: AbstractAsyncContextManager[Driver] = module.open_driver(
            settings, place.home, admission or Admission(None)
        )
        return driver

    return opened


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
        seen = []
        for name in ("c1", "c2"):
            await driver.prepare(claim(name=name))
            assert (await driver.run(name, jit_config())).outcome is Outcome.DONE
            await driver.cleanup()
            seen.append(place.trace("pwd"))
    assert seen[0] != seen[1]


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
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not alive(pid)
        assert processes_with(str(place.traces)) == []


@pytest.mark.parametrize("then", ["exit 0", "exec sleep 300"], ids=["ended", "cancelled"])
async def test_daemons_end_with_the_runner(open_driver: Open, place: Stage, then: str):
    async with open_driver("daemons", THEN=then) as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        daemons = [int(await place.traced(f"daemon.{number}")) for number in (1, 2, 3)]
        if then != "exit 0":
            assert all(alive(pid) for pid in daemons)
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not any(alive(pid) for pid in daemons)


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


async def test_running_without_preparing_is_an_error_with_a_sentence(open_driver: Open):
    async with open_driver("ends") as driver:
        with pytest.raises(MayflyError, match="not prepared"):
            await driver.run("r", jit_config())


async def test_an_admitted_job_runs(open_driver: Open, place: Stage):
    admission = Admission(ALLOWED)
    async with open_driver("job", admission, THEN="exit 4") as driver:
        await driver.prepare(claim(guard=True))
        finished = await driver.run("r", jit_config())
    assert place.trace("code") == "0"
    assert admission.questions == [("octo/demo", 77, 2)]
    assert (finished.outcome, finished.exit_code) == (Outcome.DONE, 4), "a job had begun"


async def test_a_refused_job_fails_before_its_first_step(open_driver: Open, place: Stage):
    async with open_driver("job", Admission(REFUSED)) as driver:
        await driver.prepare(claim(guard=True))
        finished = await driver.run("r", jit_config())
    assert place.trace("code") == "1"
    assert "octo/demo is not admitted" in place.trace("said")
    assert "::" not in place.trace("said"), "a reason is no command for the runner"
    assert (finished.outcome, "refused" in finished.detail) == (Outcome.DONE, True)


async def test_no_answer_means_no(open_driver: Open, place: Stage):
    async with open_driver("job", Admission(None)) as driver:
        await driver.prepare(claim(guard=True))
        await driver.run("r", jit_config())
    assert place.trace("code") == "1"
    assert "did not answer" in place.trace("said")


async def test_a_name_that_is_none_is_refused_unasked(open_driver: Open, place: Stage):
    admission = Admission(ALLOWED)
    async with open_driver("job", admission, REPO="octo/demo$(id) 77 2\nallowed") as driver:
        await driver.prepare(claim(guard=True))
        await driver.run("r", jit_config())
    assert place.trace("code") == "1"
    assert admission.questions == []


async def test_a_runner_that_goes_on_with_a_refused_job_is_stopped(open_driver: Open, place: Stage):
    async with open_driver("job", Admission(REFUSED), THEN="exec sleep 300") as driver:
        await driver.prepare(claim(guard=True))
        async with asyncio.timeout(20):
            finished = await driver.run("r", jit_config())
    assert "refused" in finished.detail
    await until(lambda: processes_with(str(place.traces)) == [])
