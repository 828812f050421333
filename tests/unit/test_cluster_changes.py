"""How often an API server is asked to be watched when that comes to little, on virtual time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from mayfly.launchers.cluster import Cluster
from tests.fakes.clocks import ManualClock
from tests.pull.planes import on_virtual_time

MINUTES = 20


class Body(httpx.AsyncByteStream):
    """Nothing happens, until the watch is over."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await asyncio.sleep(self._seconds)
        yield b"\n"


class Api(httpx.AsyncBaseTransport):
    """Lists at once, and lets watches last as long as it is told; None: refuses them."""

    def __init__(self, seconds: float | None, retry_after: str = "") -> None:
        self.asked: Counter[str] = Counter()
        self._seconds = seconds
        self._headers = {"Retry-After": retry_after}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if "watch" not in request.url.params:
            self.asked["list"] += 1
            return httpx.Response(200, json={"items": [], "metadata": {"resourceVersion": "7"}})
        self.asked["watch"] += 1
        if self._seconds is None:
            refusal = {"message": "too large resource version"}
            return httpx.Response(504, json=refusal, headers=self._headers)
        return httpx.Response(200, stream=Body(self._seconds))


def asked(api: Api, folder: Path) -> Counter[str]:
    """What for in 20 minutes, and how often it rang."""
    (folder / "token").write_text("a token")

    async def scene() -> None:
        async with httpx.AsyncClient(transport=api, base_url="https://cluster.example") as http:
            cluster = Cluster(http, folder / "token", ManualClock())
            with suppress(TimeoutError):
                async with asyncio.timeout(MINUTES * 60):
                    async for _ in cluster.changes("/jobs", "mayfly/pool=linux"):
                        api.asked["ring"] += 1

    on_virtual_time(scene)
    return api.asked


@pytest.mark.parametrize("seconds", [100.0, 300.0])
def test_one_watch_follows_the_other_at_once(seconds: float, tmp_path: Path):
    watches = MINUTES * 60 / seconds
    assert asked(Api(seconds), tmp_path) == {"list": 1, "ring": 1, "watch": watches}


def test_one_that_ends_at_once_is_not_asked_for_on_and_on(tmp_path: Path):
    counted = asked(Api(0.0), tmp_path)
    assert 40 <= counted["watch"] <= 100
    assert (counted["list"], counted["ring"]) == (1, 1)


def test_one_that_is_refused_again_and_again_is_begun_anew_and_not_often(tmp_path: Path):
    counted = asked(Api(None), tmp_path)
    assert 40 <= counted["watch"] <= 100
    assert counted["watch"] - 6 <= counted["list"] <= counted["watch"]


def test_one_is_asked_for_no_earlier_than_the_api_server_has_named(tmp_path: Path):
    assert 8 <= asked(Api(None, "120"), tmp_path)["watch"] <= 10
