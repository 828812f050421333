"""An operator's own program or URL: what it is told, and what it may answer."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mayfly.launchers.webhook import LARGEST_ANSWER, Settings
from mayfly.model.errors import InvalidSettings, Permanent, Transient
from mayfly.model.launches import Launch, LaunchId, Ticket
from mayfly.ports import Launcher
from tests.fakes.clocks import NOON
from tests.fakes.stand_ins import Url, behind_a_url, launcher_of
from tests.servers.hooks import PATH, SECRET
from tests.servers.platforms import Reply

TICKET = Ticket("mft_of-the-tests")
LAUNCH = Launch(id=LaunchId(f"01kbq{1:021d}"), pool="linux", wanted_at=NOON)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[Url]:
    async with behind_a_url(tmp_path) as platform:
        yield platform


def program(code: str, *arguments: str, **changes: Any) -> AbstractAsyncContextManager[Launcher]:
    command = (sys.executable, "-S", "-E", "-c", code, *arguments)
    return launcher_of("webhook", Settings(command=command, **changes))


# A program


async def test_a_program_finds_the_ticket_on_its_standard_input_alone(tmp_path: Path):
    seen = tmp_path / "seen"
    code = f"""
import json, sys
told = {{
    "order": json.load(sys.stdin),
    "environment": open("/proc/self/environ").read(),
    "arguments": open("/proc/self/cmdline").read(),
}}
open({str(seen)!r}, "w").write(json.dumps(told))
"""
    async with program(code, environment={"BOARDS": "/srv/boards"}) as launcher:
        await launcher.start(LAUNCH, TICKET)
    told = json.loads(seen.read_text())
    assert told["order"] == {
        "verb": "start",
        "pool": "linux",
        "launch": LAUNCH.id,
        "server": "https://mayfly.example.org",
        "ticket": TICKET.reveal(),
    }
    variables = {line.partition("=")[0] for line in told["environment"].split("\0") if line}
    assert variables == {"PATH", "HOME", "LANG", "BOARDS"}
    assert TICKET.reveal() not in told["environment"] + told["arguments"]


async def test_no_shell_sees_what_a_program_is_told(tmp_path: Path):
    trap = tmp_path / "trap"
    code = "import json, sys; json.load(sys.stdin); print('{\"launches\": []}')"
    async with program(code, f"$(touch {trap})", f"; touch {trap}") as launcher:
        assert await launcher.launched(f"$(touch {trap})") == []
    assert not trap.exists()


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("sys.exit(75)", Transient, "exit code 75, and no word why"),
        ("print('all boards are in use', file=sys.stderr); sys.exit(75)", Transient, "in use"),
        ("print('no such pool', file=sys.stderr); sys.exit(3)", Permanent, ": no such pool"),
        ("import os; os.kill(os.getpid(), 9)", Permanent, "exit code -9"),
    ],
)
async def test_a_program_s_exit_code_says_who_has_to_act(
    code: str, kind: type[Exception], said: str
):
    async with program(f"import sys; {code}") as launcher:
        with pytest.raises(kind, match=said) as caught:
            await launcher.start(LAUNCH, TICKET)
    assert type(caught.value) is kind


async def test_what_a_program_says_is_told_without_the_ticket():
    code = "import sys; sys.exit('refused: ' + sys.stdin.read())"
    async with program(code) as launcher:
        with pytest.raises(Permanent, match=r'refused: .*"ticket":"…"'):
            await launcher.start(LAUNCH, TICKET)


async def test_what_a_program_says_is_a_line_that_can_be_kept_and_shown():
    code = r"import sys; sys.exit('no\0 boards\x1b[2J\nleft')"
    async with program(code) as launcher:
        with pytest.raises(Permanent, match=r": no boards \[2J left$"):
            await launcher.start(LAUNCH, TICKET)


async def test_a_program_that_takes_too_long_is_killed_with_what_it_started(tmp_path: Path):
    alive = tmp_path / "alive"
    code = f"""
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
open({str(alive)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
time.sleep(600)
"""
    async with program(code, timeout_seconds=3) as launcher:
        with pytest.raises(Transient, match="was killed: after 3 s"):
            await launcher.start(LAUNCH, TICKET)
    async with asyncio.timeout(60):
        for each in alive.read_text().split():
            while _runs(int(each)):  # noqa: ASYNC110 - a process that is killed rings no bell
                await asyncio.sleep(0.02)


async def test_a_program_that_leaves_its_output_to_an_executor_is_not_waited_for_for_ever():
    code = 'import subprocess; subprocess.Popen(["sleep", "600"])'
    async with program(code, timeout_seconds=2) as launcher:
        with pytest.raises(Transient, match="still had its output open"):
            await launcher.start(LAUNCH, TICKET)


async def test_a_program_need_not_read_what_it_is_told():
    async with program("pass") as launcher:
        await launcher.start(LAUNCH, TICKET)
        await launcher.stop("linux", LAUNCH.id)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (f"print('x' * {LARGEST_ANSWER + 1})", "more than 1000000 bytes"),
        ("pass", "launcher-protocol.md"),
        ('print(\'{"launches": [{"id": "a", "state": "gone"}]}\')', "launcher-protocol.md"),
        (r"""print('{"launches": [{"id": "a\\u0000", "state": "ended"}]}')""", "protocol.md"),
    ],
)
async def test_an_answer_that_is_none_is_refused(code: str, said: str):
    async with program(code) as launcher:
        with pytest.raises(Permanent, match=said):
            await launcher.launched("linux")


def _runs(process: int) -> bool:
    """Whether it does anything; a dead one may wait for its burial."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# A URL


async def test_a_url_is_told_nothing_else_and_signed(url: Url):
    async with url.opened() as launcher:
        await launcher.start(LAUNCH, TICKET)
        await launcher.start(LAUNCH, TICKET)
    assert url.server.orders[0] == {
        "verb": "start",
        "pool": "linux",
        "launch": LAUNCH.id,
        "server": "https://mayfly.example.org",
        "ticket": TICKET.reveal(),
    }
    first, second = url.server.endpoint.told("POST", PATH)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == f"start-{LAUNCH.id}"


async def test_another_key_is_no_key(url: Url, tmp_path: Path):
    (tmp_path / "secret").write_text(SECRET.replace("MDEy", "OTk5"))
    async with url.opened() as launcher:
        with pytest.raises(Permanent, match="the signature is not right"):
            await launcher.start(LAUNCH, TICKET)
    assert url.server.orders == []


async def test_no_room_behind_a_url_is_for_another_time(url: Url):
    url.server.most = 0
    async with url.opened() as launcher:
        with pytest.raises(Transient, match=r"127\.0\.0\.1: all 2 boards are in use"):
            await launcher.start(LAUNCH, TICKET)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, Permanent),
        (400, Permanent),
        (404, Permanent),
        (408, Transient),
        (429, Transient),
        (502, Transient),
    ],
)
async def test_the_status_of_a_url_says_who_has_to_act(
    url: Url, status: int, kind: type[Exception]
):
    headers = {"Location": url.server.url, "Retry-After": "5"}
    url.server.endpoint.instead("POST", PATH, Reply(status, b"<p>who knows</p>", headers))
    launcher_at_noon = launcher_of("webhook", url.settings)
    async with launcher_at_noon as launcher:
        with pytest.raises(kind, match=rf"127\.0\.0\.1 answered HTTP {status}") as caught:
            await launcher.start(LAUNCH, TICKET)
    assert len(url.server.endpoint.heard) == 1
    if isinstance(caught.value, Transient):
        assert caught.value.retry_at == NOON + timedelta(seconds=5)


async def test_what_a_url_says_is_told_without_the_ticket(url: Url):
    said = {"detail": f"{TICKET.reveal()} is not for us"}
    url.server.endpoint.instead("POST", PATH, Reply(400, said))
    async with url.opened() as launcher:
        with pytest.raises(Permanent, match=r"127\.0\.0\.1: … is not for us"):
            await launcher.start(LAUNCH, TICKET)


async def test_an_answer_of_a_url_that_has_no_end_is_cut_off(url: Url):
    url.server.endpoint.instead("POST", PATH, Reply(200, b" " * (LARGEST_ANSWER + 1)))
    async with url.opened() as launcher:
        with pytest.raises(Permanent, match="more than 1000000 bytes"):
            await launcher.launched("linux")


async def test_a_url_that_trickles_is_not_waited_for(url: Url):
    hung_up = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
            hung_up.set()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    where = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    settings = msgspec.structs.replace(url.settings, url=where, timeout_seconds=0.5)
    async with server, launcher_of("webhook", settings) as launcher:
        with pytest.raises(Transient, match="cannot be reached: TimeoutError"):
            await launcher.start(LAUNCH, TICKET)
        async with asyncio.timeout(60):
            await hung_up.wait()


# Settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "set either command or url"),
        ({"command": ("true",), "url": "https://h"}, "set either command or url"),
        ({"command": ("/no/such/program",)}, "there is no program '/no/such/program'"),
        ({"command": ("true",), "timeout_seconds": 0}, "timeout_seconds is 0"),
        ({"command": ("true",), "timeout_seconds": 61}, "timeout_seconds is 61; .* at most 60"),
        ({"command": ("true",), "environment": {"": "x"}}, "sets '', which is no name"),
        ({"url": "https://h"}, "secret_file is not set; .*openssl rand"),
        ({"url": "http://boards.example"}, "unencrypted"),
        ({"url": "https://user:password@h"}, "holds a user name or password"),
        ({"url": "https://h", "secret_file": "absent"}, "cannot be read"),
        ({"url": "https://h", "secret_file": "short"}, "has 3 bytes; at least 24"),
        ({"url": "https://h", "secret_file": "odd"}, "is not whsec_ and base64"),
        ({"url": "https://h", "secret_file": "good", "ca_file": "absent"}, "does not exist"),
    ],
)
async def test_settings_that_can_never_work_are_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
):
    for name, text in (("short", "whsec_YWJj"), ("odd", "whsec_?"), ("good", SECRET)):
        (tmp_path / name).write_text(text)
    paths = {
        name: tmp_path / changes[name] for name in ("secret_file", "ca_file") if name in changes
    }
    with pytest.raises(InvalidSettings, match=said):
        async with launcher_of("webhook", Settings(**(changes | paths))):
            pass
