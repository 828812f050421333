"""A container engine: what a container is given, what is left of it, and what refusals mean."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mayfly.launchers.podman import Settings
from mayfly.model.errors import InvalidSettings, Permanent, Transient
from mayfly.model.launches import Launch, LaunchId, LaunchState, Ticket
from mayfly.ports import Launcher
from tests.fakes.clocks import NOON
from tests.fakes.stand_ins import Podman, in_podman, launcher_of
from tests.servers import podman as engines

TICKET = Ticket("mft_of-the-tests")
PATIENCE_SECONDS = 60.0


def launch(number: int = 1) -> Launch:
    return Launch(id=LaunchId(f"01kbq{number:021d}"), pool="linux", wanted_at=NOON)


NAME = f"mayfly-{launch().id}"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Podman]:
    async with in_podman(tmp_path) as platform:
        yield platform


def with_changes(engine: Podman, **changes: Any) -> Any:
    settings = msgspec.structs.replace(engine.settings, **changes)
    return launcher_of("podman", settings, engine.clock)


async def listed(launcher: Launcher, state: LaunchState) -> str:
    """The detail of the only launch, once it is in that state."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            (one,) = await launcher.launched("linux")
            if one.state is state:
                return one.detail
            await asyncio.sleep(0.02)


async def said(engine: Podman) -> str:
    """What the only executor has written so far."""
    return await asyncio.to_thread(engine.engine.told, "logs", NAME)


async def test_an_executor_has_its_limits_and_no_inspection_shows_its_ticket(
    engine: Podman, tmp_path: Path
):
    (tmp_path / "executor.toml").write_text("[runner]\n")
    changes: dict[str, Any] = {
        "memory_mb": 64,
        "cpus": 0.5,
        "processes": 100,
        "read_only": {"/etc/executor.toml": tmp_path / "executor.toml"},
        "environment": {"PROXY": "http://proxy.example"},
    }
    async with with_changes(engine, **changes) as launcher:
        await launcher.start(launch(), TICKET)
        await listed(launcher, LaunchState.RUNNING)
    shown = await asyncio.to_thread(engine.engine.told, "inspect", NAME)
    assert TICKET.reveal() not in shown
    (container,) = json.loads(shown)
    host = container["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 100)
    assert container["EffectiveCaps"] in ([], None)
    assert "no-new-privileges" in host["SecurityOpt"]
    assert "PROXY=http://proxy.example" in container["Config"]["Env"]
    (bind,) = [each for each in container["Mounts"] if each["Destination"] == "/etc/executor.toml"]
    assert bind["RW"] is False


async def test_a_start_that_was_cut_off_before_the_ticket_goes_on(engine: Podman):
    labels = (f"--label=mayfly.launch={launch().id}", "--label=mayfly.pool=linux")
    limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--network=none")
    speaks = 'cat "/run/mayfly-ticket"; sleep 600'
    command = (*labels, *limits, engines.IMAGE, "sh", "-c", speaks)
    await asyncio.to_thread(engine.engine.told, "create", "--name", NAME, *command)
    async with engine.opened() as launcher:
        await listed(launcher, LaunchState.STARTING)
        await launcher.start(launch(), TICKET)
        await listed(launcher, LaunchState.RUNNING)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await said(engine) != TICKET.reveal():  # noqa: ASYNC110 - an engine rings no bell we hear
                await asyncio.sleep(0.02)


async def test_one_that_never_began_is_stopped_by_removing_it(engine: Podman):
    labels = (f"--label=mayfly.launch={launch().id}", "--label=mayfly.pool=linux")
    await asyncio.to_thread(
        engine.engine.told, "create", "--name", NAME, *labels, engines.IMAGE, "true"
    )
    async with engine.opened() as launcher:
        await launcher.stop("linux", launch().id)
        assert await launcher.launched("linux") == []


async def test_an_executor_that_was_asked_to_end_has_not_failed_and_is_kept_for_a_while(
    engine: Podman,
):
    async with engine.opened() as launcher:
        await launcher.start(launch(), TICKET)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await engine.begun():  # noqa: ASYNC110 - an engine rings no bell we hear
                await asyncio.sleep(0.02)
        await launcher.stop("linux", launch().id)
        assert "Exited (42)" in await listed(launcher, LaunchState.ENDED)
        engine.clock.advance(engine.settings.keep_seconds + 60)
        assert await launcher.launched("another pool") == []
    assert await asyncio.to_thread(engine.engine.told, "ps", "--all", "--quiet") == ""


async def test_an_image_that_is_not_there_needs_a_person(engine: Podman):
    async with with_changes(engine, image="localhost/no-such-image:1") as launcher:
        with pytest.raises(Permanent, match="no-such-image"):
            await launcher.start(launch(), TICKET)


@asynccontextmanager
async def answering(folder: Path, status: int, message: str) -> AsyncIterator[Path]:
    """An engine that has one answer to everything."""
    body = json.dumps({"message": message, "cause": message}).encode()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        version = head.startswith(b"get /version")
        text = b'{"ApiVersion": "1.41"}' if version else body
        code = 200 if version else status
        writer.write(
            f"HTTP/1.1 {code} X\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()
            + text
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(talk, folder / "engine"):
        yield folder / "engine"


@pytest.mark.parametrize(
    ("status", "message", "kind", "said"),
    [
        (500, "write /var/lib: no space left on device", Transient, "no room: .*no space left"),
        (500, "fork/exec: cannot allocate memory", Transient, "no room"),
        (503, "starting", Transient, "failed: starting"),
        (403, "denied by authorization plugin", Permanent, "let Mayfly's user use the engine"),
        (400, "invalid capability", Permanent, "refused: invalid capability"),
    ],
)
async def test_what_an_engine_refuses_says_who_has_to_act(
    tmp_path: Path, status: int, message: str, kind: type[Exception], said: str
):
    async with (
        answering(tmp_path, status, message) as socket,
        launcher_of("podman", Settings(image="i", engine=socket)) as launcher,
    ):
        with pytest.raises(kind, match=said) as caught:
            await launcher.start(launch(), TICKET)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"memory_mb": 0}, "memory_mb is 0"),
        ({"keep_seconds": -1}, "keep_seconds is -1"),
        ({"environment": {"MAYFLY_TICKET": "x"}}, "sets MAYFLY_TICKET, which the launcher sets"),
        ({"environment": {"A=B": "x"}}, "sets 'A=B', which is no name"),
        ({"read_only": {"etc": Path("/etc")}}, "both are whole paths"),
        ({"read_only": {"/etc": Path("/etc:rw")}}, "without a colon"),
    ],
)
async def test_settings_that_can_never_work_are_refused(changes: dict[str, Any], said: str):
    with pytest.raises(InvalidSettings, match=said):
        async with launcher_of("podman", Settings(image="i", engine=Path("/run/x"), **changes)):
            pass
