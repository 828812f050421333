"""The server: a real socket, streams that flow, and an end that does not wait."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest

from mayfly.model.errors import InvalidSettings
from mayfly.model.requests import RunnerRequest
from mayfly.web.server import serve
from tests.fakes.web import World, payload, signed, world

DEADLINE = 10


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def test_a_free_port_is_taken_and_both_halves_answer(here: World):
    async with serve(here.app, "127.0.0.1", 0) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        assert (await client.head("/healthz")).content == b""
        body = payload("workflow_job.queued")
        answer = await client.post("/webhooks/github", content=body, headers=signed(body))
        assert answer.status_code == 202
        assert "server" not in answer.headers


async def test_an_upload_over_the_limit_is_cut_off(here: World):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1024 * 1024)

    async with serve(here.app, "127.0.0.1", 0) as url, httpx.AsyncClient() as client:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(httpx.NetworkError):
                await client.post(f"{url}/webhooks/github", content=endless())
    assert here.figure("mayfly_webhook_answered_total", result="too_large") == 1


async def test_an_address_in_use_is_said_in_a_sentence(here: World):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSettings, match=f"cannot listen on 127.0.0.1 port {port}"):
            async with serve(here.app, "127.0.0.1", port):
                pass


class Stream:
    """Reads server-sent events one by one."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any]:
        event = ""
        async with asyncio.timeout(DEADLINE):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                if name == "data":
                    item: dict[str, Any] = msgspec.json.decode(value)
                    assert item["event"] == event
                    return item
        raise AssertionError("the stream has ended")

    async def ended(self) -> bool:
        async with asyncio.timeout(DEADLINE):
            return [line async for line in self._lines if line] == []


async def test_events_flow_from_the_past_into_the_present(here: World):
    here.plane.news.publish("claim.made", claim="1")
    async with (
        serve(here.app, "127.0.0.1", 0) as url,
        httpx.AsyncClient(headers=here.bearer("operator")) as client,
        client.stream("GET", f"{url}/v1/events") as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = Stream(response)
        assert (await stream.next())["fields"] == {"claim": "1"}
        here.plane.news.publish("claim.ended", claim="1", job=7, detail=None)
        item = await stream.next()
        assert item["event"] == "claim.ended"
        assert item["fields"] == {"claim": "1", "job": 7, "detail": None}


async def test_a_stream_ends_when_the_server_stops(here: World):
    here.plane.news.publish("claim.made", claim="1")
    async with httpx.AsyncClient(headers=here.bearer("operator")) as client:
        server = serve(here.app, "127.0.0.1", 0)
        url = await server.__aenter__()
        async with client.stream("GET", f"{url}/v1/events") as response:
            stream = Stream(response)
            await stream.next()
            stopping = asyncio.create_task(server.__aexit__(None, None, None))
            assert await stream.ended()
            await asyncio.wait_for(stopping, DEADLINE)


async def test_a_long_poll_ends_when_the_server_stops_and_no_lease_is_lost(here: World):
    async with httpx.AsyncClient(headers=here.bearer("executor"), timeout=60) as client:
        async with serve(here.app, "127.0.0.1", 0, patience=timedelta(seconds=30)) as url:
            polling = asyncio.create_task(
                client.post(f"{url}/v1/pools/linux/lease", json={"wait_seconds": 30})
            )
            await client.post(f"{url}/v1/pools/linux/lease", json={"wait_seconds": 0})
        answer = await asyncio.wait_for(polling, DEADLINE)
    assert answer.status_code == 204
    await here.plane.bus.publish([RunnerRequest(pool="linux")])
    assert await here.plane.bus.depth("linux") == 1


async def test_an_executor_that_hangs_up_does_not_take_the_next_ring(here: World):
    async with serve(here.app, "127.0.0.1", 0) as url:
        async with httpx.AsyncClient(headers=here.bearer("executor")) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(
                    f"{url}/v1/pools/linux/lease", json={"wait_seconds": 30}, timeout=0.2
                )
        async with httpx.AsyncClient() as client:
            await client.get(f"{url}/healthz")
        await here.plane.bus.publish([RunnerRequest(pool="linux")])
        assert await here.plane.bus.depth("linux") == 1
