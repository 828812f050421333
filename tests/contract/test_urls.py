"""Urls with odd passwords: no error, no cause of it and no log shows a piece of one."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from mayfly.backends import OpenBus
from mayfly.bus import rabbitmq, remote, sql
from mayfly.bus.servicebus_links import parsed
from mayfly.engine.clock import SystemClock
from mayfly.model.errors import MayflyError

PIECES = ("hush", "quiet", "still")
PASSWORDS = (
    *(f"hush{mark}quiet" for mark in "@/:#?%[];&=,\\ \n'\"|+\u2100"),
    *(f"12{mark}quiet" for mark in "@/#?"),
    *(f"{mark}hush" for mark in ("@", "/", "//", "#", "?")),
    *("hush%zzquiet", "hush@quiet/still", "hush@quiet:still", "hush@quiet:42", "hush@[quiet"),
    *(
        "hush@quiet#still",
        "hush@quiet?still=1",
        "hush/quiet@still",
        "hush?heartbeat=quiet",
        "hush@",
    ),
)
SERVER = "127.0.0.1:1"
RABBITMQ = (
    f"amqp://user:{{}}@{SERVER}/host",
    f"amqps://user:{{}}@{SERVER}",
    f"amqp://{{}}@{SERVER}/",
    f"amqp:user:{{}}@{SERVER}/",
    "amqp://user:{}@127.0.0.1:port/",
    f"amqp://user:word@{SERVER}/?heartbeat={{}}",
    "{}",
)
POSTGRES = (
    f"postgresql://user:{{}}@{SERVER}/mayfly",
    f"postgresql+asyncpg://user:{{}}@{SERVER}/mayfly?sslmode=disable",
    f"postgresql://{{}}@{SERVER}/mayfly",
    f"postgresql:user:{{}}@{SERVER}/mayfly",
    "postgresql://user:{}@127.0.0.1:port/mayfly",
    f"postgresql://{SERVER}/mayfly?user=user&password={{}}",
    f"postgresql://user:{{}}@{SERVER}/",
    f"mysql://user:{{}}@{SERVER}/mayfly",
    "{}",
)
SERVICE_BUS = (
    f"Endpoint=sb://{SERVER};SharedAccessKeyName=n;SharedAccessKey={{}};UseDevelopmentEmulator=true;",
    f"Endpoint=sb://{SERVER};SharedAccessKey={{}}",
    "SharedAccessKey={}",
    f"sb://user:{{}}@{SERVER}/mayfly",
    f"Endpoint=sb://user:{{}}@{SERVER};SharedAccessKeyName=n;SharedAccessKey=k",
    "{}",
)
REMOTE = (f"https://:{{}}@{SERVER}", f"https://{{}}@{SERVER}", "{}")


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """All that was logged, by whomever."""
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        yield lambda: f"{caplog.text}\n{logs}"


@pytest.mark.parametrize("form", RABBITMQ)
async def test_of_rabbitmq(form: str, told: Callable[[], str]):
    await shows_nothing(rabbitmq.open_bus, form, told)


@pytest.mark.parametrize("form", POSTGRES)
async def test_of_a_database(form: str, told: Callable[[], str]):
    await shows_nothing(sql.open_bus, form, told)


@pytest.mark.parametrize("form", REMOTE)
async def test_of_a_control_plane(form: str, told: Callable[[], str]):
    await shows_nothing(remote.open_bus, form, told)


@pytest.mark.parametrize("form", SERVICE_BUS)
def test_of_service_bus(form: str, told: Callable[[], str]):
    """What an address shows later are its namespace and its topic."""
    for password in PASSWORDS:
        try:
            found = parsed(form.format(password))
        except MayflyError as error:
            assert_hidden(password, error, told())
        else:
            assert not [piece for piece in PIECES if piece in found.namespace + found.topic]


async def shows_nothing(open_bus: OpenBus, form: str, told: Callable[[], str]) -> None:
    for password in PASSWORDS:
        with pytest.raises(MayflyError) as raised:
            async with (
                asyncio.timeout(20),
                open_bus(form.format(password), SystemClock(), ["linux"]) as bus,
            ):
                await bus.depth("linux")  # some connect only when they have to
        assert_hidden(password, raised.value, told())


def assert_hidden(password: str, error: MayflyError, logged: str) -> None:
    """Neither in the sentence, nor in a trace of it with all its causes, nor in a log."""
    trace = "".join(traceback.format_exception(error))
    shown = [piece for piece in PIECES if piece in f"{error}\n{trace}\n{logged}"]
    assert not shown, f"{password!r} is told as {error}"
