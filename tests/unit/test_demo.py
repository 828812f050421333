"""Where the demo keeps what it needs, and that it cleans up to the end."""

import asyncio
import shutil
from itertools import product
from pathlib import Path

import pytest

from mayfly.cli.demo import servers, stage
from mayfly.cli.demo.endings import to_its_end
from mayfly.model.errors import InvalidSettings, Transient

NAME = "mayfly_demo_0badcafe"
NAMESPACE = "Endpoint=sb://ns.example.net/;SharedAccessKeyName=n;SharedAccessKey=hidden"


def places(store: str, bus: str, **environment: str) -> servers.Places:
    servers.checked(store, bus)
    return servers.chosen(store, bus, made=Path("/d"), name=NAME, environment=environment)


@pytest.mark.parametrize(("store", "bus"), list(product(servers.STORES, servers.BUSES)))
def test_everything_on_a_server_has_the_demos_own_name(store: str, bus: str):
    urls = {"MAYFLY_BUS_URL": NAMESPACE} if bus == "servicebus" else {}
    for place in places(store, bus, **urls):
        if place.own is not None:
            assert NAME in place.shown
            assert NAME in (place.url or "")
            assert "hidden" not in place.shown
        elif place.url is not None:
            assert place.url.startswith("sqlite:////d/")


@pytest.mark.parametrize(
    ("store", "bus", "environment", "own"),
    [
        ("sqlite", "sql", {}, None),
        ("sqlite", "sqlite", {}, None),
        ("postgres", "postgres", {}, None),
        ("postgres", "postgres", {"MAYFLY_STORE_URL": "postgresql://a@b/c"}, None),
        ("postgres", "sqlite", {}, "sqlite:////d/bus.sqlite"),
        (
            "postgres",
            "postgres",
            {"MAYFLY_BUS_URL": "postgresql://a:hidden@b/c"},
            f"postgresql://a:hidden@b/{NAME}_bus",
        ),
        ("sqlite", "memory", {"MAYFLY_BUS_URL": "postgresql://a@b/c"}, None),
        (
            "sqlite",
            "rabbitmq",
            {"MAYFLY_BUS_URL": "amqp://a:hidden@b/v?prefix=live&heartbeat=5"},
            f"amqp://a:hidden@b/v?prefix={NAME}&heartbeat=5",
        ),
    ],
)
def test_a_bus_of_its_own_is_another_than_the_stores(
    store: str, bus: str, environment: dict[str, str], own: str | None
):
    assert places(store, bus, **environment).bus.url == own


def test_a_url_of_another_kind_names_its_variable():
    with pytest.raises(InvalidSettings, match=r"MAYFLY_BUS_URL: .*amqp://USER"):
        places("sqlite", "rabbitmq", MAYFLY_BUS_URL="postgresql://a:hidden@b:5672/c")
    with pytest.raises(InvalidSettings, match=r"MAYFLY_STORE_URL: .*postgresql://USER"):
        places("postgres", "sql", MAYFLY_STORE_URL="sqlite:///x")


def test_a_kept_directory_keeps_no_url_that_may_hold_a_password():
    with stage.directory(keep=True) as made:
        for name in ("store-url", "bus-url", "webhook-secret"):
            (made / "secrets" / name).write_text("hidden")
    assert [path.name for path in (made / "secrets").iterdir()] == ["webhook-secret"]
    shutil.rmtree(made)


async def test_a_cancellation_waits_for_the_work_and_is_heard_then():
    begun, free, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work():
        begun.set()
        await free.wait()
        done.set()

    cleaning = asyncio.create_task(to_its_end(work()))
    await begun.wait()
    cleaning.cancel()
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await cleaning
    assert done.is_set()


async def test_what_went_wrong_comes_before_the_cancellation():
    begun, free = asyncio.Event(), asyncio.Event()

    async def work():
        begun.set()
        await free.wait()
        raise Transient("left behind")

    cleaning = asyncio.create_task(to_its_end(work()))
    await begun.wait()
    cleaning.cancel()
    free.set()
    with pytest.raises(Transient, match="left behind"):
        await cleaning
