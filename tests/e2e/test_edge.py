"""From GitHub through an edge reflector and a real bus to a control plane that takes no webhook."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from mayfly.model.requests import EVENTS, KEPT_FOR, LARGEST_DELIVERIES, LEASE_TIME
from tests.e2e.declared import Places
from tests.e2e.deliveries import post, published
from tests.e2e.edges import POOLS, address, reflector
from tests.e2e.endings import check_nothing_is_left
from tests.e2e.programs import Program, until
from tests.e2e.stage import Stage, opened
from tests.fakes.consumer import HELD, Place
from tests.servers import rabbitmq
from tests.servers.servicebus import opened_service_bus

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def edged(server: rabbitmq.RabbitMQServer) -> AsyncIterator[Stage]:
    """A stage whose webhooks go to an edge reflector, which is not started yet."""
    url = server.url()
    async with opened(POOLS, places=lambda file: Places(file, "rabbitmq", url), intake="bus") as it:
        it.address = address()
        yield it


async def reflecting(
    stage: Stage, server: rabbitmq.RabbitMQServer, user: str = rabbitmq.EVERYTHING
) -> Program:
    assert stage.address is not None
    return await reflector(stage, stage.address, "rabbitmq", server.url(user))


async def killed_while_it_holds(url: str) -> None:
    """A consumer of the events that dies after the lease and before anything is recorded."""
    place = Place(backend="rabbitmq", url=url, now=datetime.now(UTC), subject=EVENTS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.consumer"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(place) + b"\n")
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == HELD
    process.kill()
    await process.wait()


async def test_a_job_runs_though_the_control_plane_takes_no_webhook():
    server = rabbitmq.shared()
    await server.clear("linux", EVENTS)
    async with edged(server) as stage:
        plane = await stage.plane()
        edge = await reflecting(stage, server, rabbitmq.EDGE)
        await stage.executor()
        job = stage.dispatch("octo-repo")
        await stage.ends(job)
        assert (await stage.known(job, "completed"))["runner"].startswith("e2e-")
        assert (await post(stage, published("ping"), "ping")).status_code == 404

        refused = stage.dispatch("tools", owner="mona")
        await stage.known(refused, "queued")
        why = (await stage.mayfly("jobs", "explain", str(refused))).out
        assert "refused: no access rule lets mona/tools use pool 'linux'" in why
        await edge.logged('"event": "job.refused"')

        # What the control plane has leased and not recorded is nobody's, once it is killed.
        await plane.killed()
        waiting = stage.dispatch("octo-repo")
        assert await stage.simulator.wait_deliveries(20)
        await killed_while_it_holds(server.url())
        await stage.plane()
        await stage.ends(waiting)
        for program in (edge, plane):
            text = program.log.read_text()
            assert stage.webhook_secret not in text
            assert "may-do-everything" not in text
            assert "may-publish-events" not in text
        assert await edge.stopped() == 0
        await check_nothing_is_left(stage)


async def test_a_bus_that_is_away_shows_in_the_delivery_log_and_costs_no_job():
    rabbitmq.needed()
    server = rabbitmq.RabbitMQServer()
    try:
        await asyncio.to_thread(server.start)
        async with edged(server) as stage:
            edge = await reflecting(stage, server)
            await stage.plane()
            await stage.executor()
            await stage.ends(stage.dispatch("octo-repo"))
            await asyncio.to_thread(server.kill)
            job = stage.dispatch("octo-repo")
            assert await stage.simulator.wait_deliveries(30)
            failed = [
                one
                for one in stage.simulator.world.deliveries.log.values()
                if one.status_code == 503
            ]
            assert failed, "GitHub's log shows that the bus did not take it"
            # The log is read as with webhooks, so the ledger knows the job though the bus is away.
            await stage.known(job, "queued")
            await asyncio.to_thread(server.start)
            await stage.ends(job, seconds=60)
            second = stage.dispatch("octo-repo")
            await stage.ends(second, seconds=60)
            assert await edge.stopped() == 0
            await check_nothing_is_left(stage)
    finally:
        await asyncio.to_thread(server.remove)


async def test_the_way_over_service_bus():
    async with opened_service_bus() as stand_in:
        topic = stand_in.namespace.make_topic("mayfly", detects_duplicates=True)
        for subject in ("linux", EVENTS):
            made = topic.subscribe(
                subject,
                lock_time=LEASE_TIME,
                most_deliveries=LARGEST_DELIVERIES,
                time_to_live=KEPT_FOR,
            )
            made.rules = {"subject": subject}
        url = stand_in.url()
        async with opened(
            POOLS, places=lambda file: Places(file, "servicebus", url), intake="bus"
        ) as stage:
            stage.address = address()
            edge = await reflector(stage, stage.address, "servicebus", url)
            await stage.plane()
            await stage.executor()
            await stage.ends(stage.dispatch("octo-repo"), seconds=60)
            assert await edge.stopped() == 0
            await check_nothing_is_left(stage)


async def test_an_edge_reflector_starts_while_its_bus_is_away_and_works_once_it_is_there():
    rabbitmq.needed()
    server = rabbitmq.RabbitMQServer()
    try:
        async with edged(server) as stage:
            assert stage.address is not None
            edge = await reflecting(stage, server)
            await edge.logged("reflector.waiting")
            stage.urls.append(stage.address)
            body = published("workflow_job.queued")
            assert (await post(stage, body)).status_code == 503
            await asyncio.to_thread(server.start)

            async def taken() -> str | None:
                return "taken" if (await post(stage, body)).status_code == 202 else None

            found: str = await until(taken, "the edge reflector finds its bus")
            assert found
            assert await edge.stopped() == 0
    finally:
        await asyncio.to_thread(server.remove)
