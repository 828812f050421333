"""A control plane that is killed, told to stop, or has a twin: nothing lost, nothing doubled."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import httpx
import msgspec
import pytest

from mayfly.simulator import ApiRule, Faults
from tests.e2e.deliveries import PATH, headers, published
from tests.e2e.endings import check_books, rows
from tests.e2e.programs import Program, until
from tests.e2e.splitter import splitter
from tests.e2e.stage import Stage

pytestmark = pytest.mark.timeout(60)


async def test_a_job_nobody_has_claimed_survives_a_killed_control_plane(own_stage: Stage):
    plane = await own_stage.plane()
    job = own_stage.dispatch("octo-repo")
    await own_stage.known(job, "queued")
    await plane.killed()
    await own_stage.plane()
    assert (await own_stage.known(job, "queued"))["decision"] == "admitted"
    await own_stage.executor()
    await own_stage.ends(job)
    assert own_stage.github.mints() == 1


async def test_a_job_at_work_outlives_its_control_plane(own_stage: Stage):
    plane = await own_stage.plane()
    executor = await own_stage.executor()
    job = own_stage.dispatch("octo-repo", "echo at work; while [ ! -e go ]; do sleep 0.05; done")
    await until(lambda: "at work" in own_stage.simulator.log(job), "the job at work")
    await plane.killed()
    assert executor.running
    (go,) = own_stage.directory.glob("state/slots/0/work-*/_work/octo-repo/octo-repo")
    (go / "go").touch()
    await own_stage.ends(job)
    await own_stage.plane()
    await executor.logged("claim.finished")
    # Its `completed` was lost with the control plane, so GitHub has to be asked.
    await until(lambda: not rows(own_stage, "SELECT name FROM registration"), "proven gone")
    following = own_stage.dispatch("octo-repo")
    await own_stage.ends(following)


async def test_a_control_plane_killed_while_github_mints_costs_one_generation(own_stage: Stage):
    plane = await own_stage.plane()
    own_stage.simulator.faults = Faults(
        api=(ApiRule(path="*/generate-jitconfig", only_latency=True, latency_ms=1000, count=1),)
    )
    await own_stage.executor()
    job = own_stage.dispatch("octo-repo")
    await until(lambda: own_stage.github.mints() == 1, "the first call")
    await plane.killed()
    assert own_stage.github.runners() == [], "GitHub has still to do it"
    await own_stage.plane()
    await own_stage.ends(job)
    assert str(own_stage.runner_of(job)).endswith("-2")


class Sender:
    """Sends as many deliveries at a time as GitHub might, and remembers which were accepted."""

    def __init__(self, stage: Stage, client: httpx.AsyncClient) -> None:
        self._stage = stage
        self._client = client
        self._example = msgspec.json.decode(published("workflow_job.queued"))
        self.accepted: set[int] = set()
        self.refused: set[int] = set()

    async def send(self, job_id: int) -> None:
        job = {**self._example["workflow_job"], "id": job_id}
        body = msgspec.json.encode({**self._example, "workflow_job": job})
        try:
            answer = await self._client.post(PATH, content=body, headers=headers(self._stage, body))
        except httpx.TransportError:
            self.refused.add(job_id)  # GitHub would call it a failed delivery
            return
        (self.accepted if answer.status_code == 202 else self.refused).add(job_id)

    def missing(self) -> set[int]:
        """Deliveries that were accepted, and are not in the ledger."""
        return self.accepted - {job_id for (job_id,) in rows(self._stage, "SELECT id FROM job")}


@asynccontextmanager
async def sender(stage: Stage) -> AsyncIterator[Sender]:
    limits = httpx.Limits(max_connections=16)
    async with httpx.AsyncClient(
        base_url=stage.urls[0], limits=limits, trust_env=False, timeout=30
    ) as client:
        yield Sender(stage, client)


async def test_every_delivery_accepted_before_a_shutdown_is_in_the_ledger(own_stage: Stage):
    plane = await own_stage.plane()
    async with sender(own_stage) as github:
        sending = asyncio.gather(*(github.send(job_id) for job_id in range(1, 401)))
        await until(lambda: len(github.accepted) >= 60, "60 deliveries")
        plane.send(signal.SIGTERM)
        await sending
    assert await plane.ended() == 0
    assert github.refused, "it ended in the middle"
    assert github.missing() == set()
    check_books(own_stage)


async def test_no_delivery_is_accepted_before_it_is_durable(own_stage: Stage):
    plane = await own_stage.plane()
    async with sender(own_stage) as github:
        await asyncio.gather(*(github.send(job_id) for job_id in range(1, 21)))
        with closing(sqlite3.connect(own_stage.database, isolation_level=None)) as elsewhere:
            elsewhere.execute("BEGIN IMMEDIATE")  # so nothing can be written
            sending = asyncio.gather(*(github.send(job_id) for job_id in range(21, 37)))
            for _ in range(20):  # answered after the deliveries on other connections arrived
                await own_stage.call("GET", "/healthz")
            await plane.killed()
            await sending
    assert (len(github.accepted), len(github.refused)) == (20, 16)
    assert github.missing() == set()
    check_books(own_stage)


async def test_two_control_planes_on_one_file_double_nothing(own_stage: Stage):
    planes: list[Program] = [await own_stage.plane("one"), await own_stage.plane("two")]
    async with splitter(own_stage.urls) as url:
        own_stage.simulator.set_webhook(url + PATH)
        for number in (0, 1, 0, 1):
            await own_stage.executor(plane=number)
        jobs = [own_stage.dispatch("octo-repo", f"echo job {number}") for number in range(20)]
        for job in jobs:
            await own_stage.ends(job, seconds=45)
        assert await own_stage.simulator.wait_deliveries()
        await own_stage.end_executors()
    assert len({own_stage.runner_of(job) for job in jobs}) == 20
    assert own_stage.github.mints() <= 22, "20, and what was made for a job just taken"
    for plane in planes:
        assert any("runner.registered" in line for line in plane.lines()), "both have worked"
        assert not any('"level": "error"' in line for line in plane.lines())
