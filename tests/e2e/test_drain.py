"""Eight parked executors, half of them at work: draining loses no job, and says which machines."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import Ran, until
from tests.e2e.stage import TOLD_TO_STOP, Stage

pytestmark = pytest.mark.timeout(180)

EXECUTORS, BUSY = 8, 4


def machines(answer: list[dict[str, Any]]) -> set[str]:
    return {one["machine"] for one in answer}


async def told(stage: Stage, verb: str, *options: str, wait: int) -> Ran:
    """All executors are told, by the command."""
    return await stage.mayfly("executors", verb, "--all", "--wait", str(wait), "--json", *options)


async def post(stage: Stage, verb: str, **order: str) -> list[dict[str, Any]]:
    """Executors are told, by the API."""
    answer = await stage.call("POST", f"/v1/executors/{verb}", json=order)
    chosen: list[dict[str, Any]] = answer.json()
    return chosen


async def begun(stage: Stage, repository: str, signal: Path) -> list[int]:
    """As many jobs as the pool runs at once, all at work until the signal."""
    waits = f"echo at work; while [ ! -e {shlex.quote(str(signal))} ]; do sleep 0.05; done"
    jobs = [stage.dispatch(repository, waits, "echo to the end") for _ in range(BUSY)]
    for job in jobs:
        await until(lambda job=job: "at work" in stage.simulator.log(job), "the jobs at work")
    return jobs


async def test_drain_all_and_shutdown_all_lose_no_job(own_stage: Stage):
    stage = own_stage
    await stage.plane()
    executors = [await stage.executor() for _ in range(EXECUTORS)]
    repository, signal = stage.repository(), stage.directory / "go-on"
    jobs = await begun(stage, repository, signal)
    following = stage.dispatch(repository)
    await stage.known(following, "queued")

    ran = await told(stage, "drain", "--reason", "a new disk", wait=0)
    answer = ran.json()
    assert ran.code == 3, "four jobs still run"
    assert len(machines(answer)) == EXECUTORS
    assert Counter(one["state"] for one in answer) == {"busy": BUSY, "idle": EXECUTORS - BUSY}
    assert {one["service"] for one in answer if one["state"] == "busy"} == {"draining"}
    assert {one["reason"] for one in answer} == {"drained by e2e-operator: a new disk"}
    for executor in executors:
        await executor.logged("executor.rested")
    signal.touch()
    ran = await told(stage, "drain", wait=20)
    assert ran.code == 0
    assert {(one["state"], one["service"]) for one in ran.json()} == {("idle", "out of service")}
    for job in jobs:
        await stage.ends(job)
        assert "to the end" in stage.simulator.log(job)
    assert all(executor.running for executor in executors)
    assert stage.simulator.job(following)["status"] == "queued", "nobody takes it"

    (returned,) = await post(stage, "return", pool="linux")
    await stage.ends(following)
    assert (await stage.claim_in("done"))["machine"] == returned["machine"]

    ran = await told(stage, "shutdown", wait=20)
    assert ran.code == 0
    assert machines(ran.json()) == machines(answer)
    for executor in executors:
        assert await executor.ended() == TOLD_TO_STOP
    others = machines(answer) - {returned["machine"]}
    assert machines(await stage.get("/v1/executors")) == others, "out of service until returned"
    host = returned["machine"].partition("/")[0]
    assert machines(await post(stage, "return", machine=host)) == others
    assert await stage.get("/v1/executors") == []
