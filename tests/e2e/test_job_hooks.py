"""A job that begins or ends without a word of GitHub's: the executor knows, and says so."""

import shlex
from collections.abc import AsyncIterator

import pytest

from mayfly.simulator.faults import Faults, HookRule
from tests.e2e.declared import DEADLINES, POOLS
from tests.e2e.endings import check_nothing_is_left
from tests.e2e.programs import until
from tests.e2e.stage import Stage, opened

pytestmark = pytest.mark.timeout(120)

SOON = 5.0
"""Seconds; GitHub is asked about a running job after half an hour only."""


@pytest.fixture(params=["true", "false"], ids=["guard", "no guard"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    pools = POOLS.replace("max = 4", f"max = 4\nguard = {request.param}")
    async with opened(pools, deadlines={**DEADLINES, "idle_seconds": 60}) as made:
        await made.plane()
        yield made
        await check_nothing_is_left(made)


@pytest.mark.parametrize("driver", ["process", "sandbox"])
async def test_lost_webhooks_hide_neither_a_job_s_beginning_nor_its_end(stage: Stage, driver: str):
    rules = [HookRule(fault="unlogged", action=action) for action in ("in_progress", "completed")]
    stage.simulator.faults = Faults(webhooks=tuple(rules))
    await stage.executor(driver=driver)
    signal = stage.directory / "go-on"
    if driver == "sandbox":
        job = stage.dispatch(stage.repository(), "echo at work; sleep 6")
    else:
        waits = f"while [ ! -e {shlex.quote(str(signal))} ]; do sleep 0.05; done"
        job = stage.dispatch(stage.repository(), f"echo at work; {waits}")
    await until(lambda: "at work" in stage.simulator.log(job), "the job at work", seconds=40)

    async def busy() -> str | None:
        return next((one["claim"] for one in await stage.claims() if one["state"] == "busy"), None)

    claim: str = await until(busy, "a busy claim", seconds=SOON)
    signal.touch()
    await stage.ends(job, seconds=40)
    assert (await stage.known(job, "completed"))["conclusion"] == "success"
    (ended,) = [one for one in await stage.claims(live=False) if one["claim"] == claim]
    assert (ended["state"], "ran a job of" in ended["detail"]) == ("done", True)
    actions = {each.action for each in stage.simulator.world.deliveries.log.values()}
    assert actions <= {"queued", "waiting"}, "GitHub told of nothing else"
