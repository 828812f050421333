"""The bus over HTTP: what an operator sees of it, and does to it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mayfly.bus.memory import MemoryBus
from tests.fakes.clocks import ManualClock
from tests.fakes.web import World, world


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def ask(here: World, method: str, verb: str, json: Any = None, pool: str = "linux") -> Any:
    path = f"/v1/pools/{pool}/{verb}"
    return await here.client.request(method, path, json=json, headers=here.bearer("operator"))


async def test_what_is_rung_is_counted_seen_and_drained(here: World):
    assert (await ask(here, "POST", "ring", {"times": 3}, "LINUX")).status_code == 204
    assert (await ask(here, "GET", "depth")).json() == {"count": 3}
    (seen,) = (await ask(here, "GET", "peek?limit=1")).json()
    assert seen == {
        "text": '{"type":"runner_request","pool":"linux","version":1}',
        "published_at": "2026-11-22T12:00:00Z",
    }
    assert (await ask(here, "POST", "drain")).json() == {"count": 3}
    assert (await ask(here, "GET", "depth")).json() == {"count": 0}


async def test_a_dead_message_shows_why_and_waits_again():
    bus = MemoryBus(ManualClock())
    async with world(bus=bus) as here:
        await bus.put([("linux", b"?")])
        await here.client.post(
            "/v1/pools/linux/lease", json={"wait_seconds": 0}, headers=here.bearer("executor")
        )
        (dead,) = (await ask(here, "GET", "dead")).json()
        assert dead["text"] == "?"
        assert "not one of ours" in dead["reason"]
        assert (await ask(here, "POST", "requeue")).json() == {"count": 1}
        assert (await ask(here, "GET", "dead")).json() == []


@pytest.mark.parametrize(
    ("method", "verb", "json", "pool", "status"),
    [
        ("GET", "depth", None, "gpu", 404),
        ("POST", "ring", {}, "gpu", 404),
        ("POST", "ring", {"times": 0}, "linux", 400),
        ("POST", "ring", {"times": 1001}, "linux", 400),
        ("POST", "ring", {"message": "hello"}, "linux", 400),
        ("GET", "peek?limit=1001", None, "linux", 400),
    ],
)
async def test_what_makes_no_sense_is_refused(
    here: World, method: str, verb: str, json: Any, pool: str, status: int
):
    assert (await ask(here, method, verb, json, pool)).status_code == status
