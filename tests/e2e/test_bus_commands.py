"""`mayfly bus`: the bus of mayfly.toml itself, and a control plane's from afar."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mayfly.model.requests import LARGEST_DELIVERIES
from tests.e2e.programs import Ran, command
from tests.e2e.stage import Stage

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

GPU = ("--pool", "gpu")
"""A pool no executor serves here: what is rung stays."""


@pytest_asyncio.fixture(loop_scope="module")
async def empty(stage: Stage) -> AsyncIterator[Stage]:
    """A stage on whose bus nothing waits for the pool, before and after."""
    yield stage
    await stage.call("POST", "/v1/pools/gpu/requeue")
    await stage.call("POST", "/v1/pools/gpu/drain")


async def both(stage: Stage, *arguments: str) -> tuple[Ran, Ran]:
    """The same command on the bus itself and from afar."""
    config = str(stage.directory / "secrets" / "plane.toml")
    return await asyncio.gather(
        command("bus", *arguments, "--config", config, environment={}),
        stage.mayfly("bus", *arguments, "--url", stage.urls[0]),
    )


async def ring(stage: Stage, times: int) -> None:
    await stage.call("POST", "/v1/pools/gpu/ring", json={"times": times})


async def kill_one(stage: Stage) -> None:
    """Lease and abandon what waits until it is dead."""
    await ring(stage, 1)
    for _ in range(LARGEST_DELIVERIES):
        leased = await stage.call(
            "POST", "/v1/pools/gpu/lease", token=stage.executor_token, json={}
        )
        await stage.call(
            "POST", "/v1/leases/abandon", token=stage.executor_token, json=leased.json()
        )


async def test_what_waits_is_counted_and_seen_on_the_bus_and_from_afar(empty: Stage):
    await ring(empty, 3)
    for depth in await both(empty, "depth", "--json"):
        assert depth.json() == [
            {"pool": "linux", "messages": 0},
            {"pool": "gpu", "messages": 3},
        ], depth.err
    for table in await both(empty, "depth"):
        assert "WAITING" in table.out
    for seen in await both(empty, "peek", "--limit", "2", "--json", "--pool", "GPU"):
        assert [one["pool"] for one in seen.json()] == ["gpu", "gpu"]
        assert '"type":"runner_request"' in seen.json()[0]["text"]
    for nothing in await both(empty, "peek", "--pool", "linux"):
        assert nothing.out == "nothing waits\n"


async def test_draining_asks_first(empty: Stage):
    await ring(empty, 2)
    for asked in await both(empty, "drain", *GPU):
        assert asked.code == 1, "nobody says yes"
        assert "remove 2 messages of gpu?" in asked.out
    config = str(empty.directory / "secrets" / "plane.toml")
    direct = await command(
        "bus", "drain", *GPU, "--yes", "--json", "--config", config, environment={}
    )
    assert direct.json() == [{"pool": "gpu", "messages": 2}]
    await ring(empty, 1)
    afar = await empty.mayfly("bus", "drain", *GPU, "--yes")
    assert (afar.code, afar.err) == (0, "")
    assert "REMOVED" in afar.out
    for depth in await both(empty, "depth", *GPU, "--json"):
        assert depth.json() == [{"pool": "gpu", "messages": 0}]


async def test_dead_messages_are_listed_and_wait_again(empty: Stage):
    for nothing in await both(empty, "dead", "list"):
        assert nothing.out == "no message is dead\n"
    await kill_one(empty)
    for dead in await both(empty, "dead", "list", "--json"):
        (one,) = dead.json()
        assert (one["pool"], "never completed" in one["reason"]) == ("gpu", True)
    requeued = await empty.mayfly("bus", "dead", "requeue", *GPU)
    assert "REQUEUED" in requeued.out
    for depth in await both(empty, "depth", *GPU, "--json"):
        assert depth.json() == [{"pool": "gpu", "messages": 1}]


async def test_a_bus_in_memory_is_asked_of_its_control_plane(empty: Stage):
    await ring(empty, 1)
    kept = (empty.directory / "secrets" / "plane.toml").read_text()
    assert 'backend = "sql"' in kept
    config = empty.secret("memory.toml", kept.replace('backend = "sql"', 'backend = "memory"'))
    depth = await empty.mayfly("bus", "depth", *GPU, "--json", "--config", str(config))
    assert depth.json() == [{"pool": "gpu", "messages": 1}], depth.err


async def test_a_bus_is_declared(empty: Stage):
    config = str(empty.directory / "secrets" / "plane.toml")
    declared = await command("bus", "declare", "--config", config, environment={})
    assert (declared.code, declared.err) == (0, "")
    assert "the bus is a table of the database" in declared.out


async def test_mistakes_are_one_sentence(empty: Stage):
    unknown = await both(empty, "depth", "--pool", "gpo")
    executor = await empty.mayfly("bus", "depth", token="executor-token")
    nowhere = {"MAYFLY_URL": "http://127.0.0.1:1", "MAYFLY_TOKEN": "mf_nothing"}
    away = await command("bus", "depth", environment=nowhere)
    for answer in (*unknown, executor, away):
        assert answer.code == 1
        assert answer.err.startswith("mayfly: ")
        assert len(answer.err.splitlines()) == 1
        assert "mf_nothing" not in answer.err
    assert all("known pools: linux, gpu" in answer.err for answer in unknown)
    assert "role" in executor.err
    assert "http://127.0.0.1:1 is unreachable" in away.err
