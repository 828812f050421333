"""The bus over HTTPS: its address, its patience, and what goes wrong on the way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from mayfly.bus import remote
from mayfly.bus.remote import RemoteBus, open_bus, parsed, with_token
from mayfly.model.errors import InvalidSettings, Permanent, Transient, Unauthentic
from mayfly.model.requests import RunnerRequest
from mayfly.web.server import serve
from tests.fakes.clocks import ManualClock
from tests.fakes.control_plane import (
    NOTHING,
    SILENCE,
    TOKEN,
    ControlPlane,
    Reply,
    control_plane,
    problem,
)
from tests.fakes.web import World, world

CLOCK = ManualClock()
MOMENT = timedelta(milliseconds=50)


@pytest.fixture
async def plane() -> AsyncIterator[ControlPlane]:
    async with control_plane() as plane:
        yield plane


@pytest.fixture
async def bus(plane: ControlPlane) -> AsyncIterator[RemoteBus]:
    async with open_bus(with_token(plane.url, TOKEN), CLOCK, ["linux"]) as bus:
        yield bus


@asynccontextmanager
async def served() -> AsyncIterator[tuple[World, str]]:
    """A whole control plane on loopback, and its address."""
    async with world() as here, serve(here.app, "127.0.0.1", 0) as url:
        yield here, url


@asynccontextmanager
async def called_by(caller: str) -> AsyncIterator[tuple[World, RemoteBus]]:
    """Its bus, as one caller has it."""
    async with (
        served() as (here, url),
        open_bus(with_token(url, here.tokens[caller]), here.clock, []) as bus,
    ):
        yield here, bus


def test_an_address_holds_server_token_and_options(tmp_path: Path):
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    url = with_token(f"https://mayfly.example.org:8443/there?ca_file={ca_file}", "mf_a/b@c")
    found = parsed(url)
    assert found == ("https://mayfly.example.org:8443/there", "mf_a/b@c", ca_file)
    assert "mf_a" not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://:{TOKEN}@host",
        f"https://:{TOKEN}@",
        f"https://:{TOKEN}@host:0",
        f"https://:{TOKEN}@[::1",
        f"http://:{TOKEN}@mayfly.example.org",
        f"https://{TOKEN}@host",
        f"https://:{TOKEN}%0A@host",
        f"https://:{TOKEN}@host?ca_file=/no/such/file",
        f"https://:{TOKEN}@host?user=me",
        "https://host",
    ],
)
def test_an_address_that_cannot_work_is_refused_without_showing_its_token(url: str):
    with pytest.raises(InvalidSettings) as refused:
        parsed(url)
    assert TOKEN not in str(refused.value)


def test_plain_http_to_another_host_is_for_who_asks_for_it():
    url = f"http://:{TOKEN}@mayfly.example.org?plain_http=true"
    assert parsed(url).server == "http://mayfly.example.org"


def test_a_password_beside_the_token_is_refused():
    with pytest.raises(InvalidSettings, match="user name or password"):
        with_token("https://me:secret@host", TOKEN)


async def test_a_long_wait_is_more_than_one_long_poll(plane: ControlPlane, bus: RemoteBus):
    plane.will("lease", NOTHING, Reply(200, {"lease": "linux/L7"}))
    lease = await bus.lease("linux", timedelta(minutes=1))
    assert lease == ("linux/L7", RunnerRequest(pool="linux"))
    waits = [order.wait_seconds for order in plane.heard["lease"]]
    assert waits == [remote.LONGEST_POLL.total_seconds()] * 2


async def test_a_poll_that_does_not_wait_is_not_asked_in_a_storm(
    plane: ControlPlane, bus: RemoteBus
):
    plane.usual["lease"] = NOTHING
    assert await bus.lease("linux", 10 * MOMENT) is None
    assert len(plane.heard["lease"]) <= 3


async def test_silence_and_trouble_are_transient(plane: ControlPlane, bus: RemoteBus):
    plane.will("lease", SILENCE, problem(503, "the bus is away", "Retry-After: 5"), Reply(502))
    with pytest.raises(Transient, match="unreachable"):
        await bus.lease("linux", MOMENT)
    with pytest.raises(Transient, match="the bus is away") as away:
        await bus.lease("linux", MOMENT)
    assert away.value.retry_at is not None
    with pytest.raises(Transient):
        await bus.lease("linux", MOMENT)


async def test_a_control_plane_that_is_away_is_transient():
    url = with_token("http://127.0.0.1:1", TOKEN)
    async with open_bus(url, CLOCK, ["linux"]) as bus:
        with pytest.raises(Transient, match="unreachable"):
            await bus.depth("linux")


async def test_a_wrong_token_is_unauthentic_and_shown_nowhere():
    async with served() as (_, url), open_bus(with_token(url, "mf_wrong"), CLOCK, []) as bus:
        with pytest.raises(Unauthentic) as refused:
            await bus.lease("linux", MOMENT)
    assert "mf_wrong" not in str(refused.value)


async def test_an_executor_s_token_neither_rings_nor_looks():
    async with called_by("executor") as (here, bus):
        with pytest.raises(Unauthentic, match="role"):
            await bus.publish([RunnerRequest(pool="linux")])
        with pytest.raises(Unauthentic, match="role"):
            await bus.drain("linux")
        with pytest.raises(Unauthentic, match="serves linux"):
            await bus.lease("arm64", MOMENT)
        assert await here.plane.bus.depth("linux") == 0


async def test_many_messages_are_rung_for_in_several_orders():
    async with called_by("operator") as (_, bus):
        await bus.publish([RunnerRequest(pool="linux")] * 1001 + [RunnerRequest(pool="arm64")])
        assert (await bus.depth("linux"), await bus.depth("arm64")) == (1001, 1)
        assert await bus.subjects() == ["linux", "arm64"]
        with pytest.raises(Permanent, match="known pools"):
            await bus.depth("gpu")


async def test_it_is_declared_where_the_bus_is_kept():
    (line,) = await remote.declare(with_token("https://host", TOKEN), ["linux"])
    assert "https://host" in line
    assert TOKEN not in line
