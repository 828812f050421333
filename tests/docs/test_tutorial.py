"""The second part of the tutorial, typed as it stands, on free ports."""

import asyncio
import os
import re
import shutil
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, fenced, sections
from tests.e2e.programs import until

SECTIONS = sections((ROOT / "docs" / "tutorial.md").read_text())
PATIENCE_SECONDS = 30.0
JOB = "41000001"


class Terminals:
    """A directory and shells in it; addresses of the tutorial become free ones."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = {"8070": _free_port(), "8080": _free_port()}
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "MAYFLY_URL": f"http://127.0.0.1:{self.ports['8080']}",
            "MAYFLY_TOKEN_FILE": "operator-token",
        }

    def block(self, section: str, place: int, language: str = "sh") -> list[str]:
        """The lines of a code block."""
        text = fenced(SECTIONS[section], language)[place]
        return re.sub("|".join(self.ports), lambda found: self.ports[found[0]], text).splitlines()

    async def ran(self, lines: list[str]) -> str:
        """What a script says; it must succeed."""
        script = "\n".join(lines)
        shell = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-e", "-c", script),
            cwd=self.directory,
            env=self._environment,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            said, complaints = await shell.communicate()
        assert shell.returncode == 0, f"{script}: {complaints.decode()}"
        return said.decode()

    @asynccontextmanager
    async def running(self, line: str, ready: str) -> AsyncIterator[None]:
        """A program that keeps running, from when it has said `ready`."""
        log = self.directory / f"{ready.split(maxsplit=1)[0]}.log"
        with log.open("wb") as output:
            program = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", f"exec {line}"),
                cwd=self.directory,
                env=self._environment,
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            await until(
                lambda: program.returncode is not None or ready in log.read_text(),
                f"{line}: {ready}",
            )
            assert program.returncode is None, log.read_text()
            yield
        finally:
            if program.returncode is None:
                program.terminate()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await program.wait()


@pytest.fixture
def terminals() -> Iterator[Terminals]:
    # Not tmp_path, which is closed to the user that jobs get when the tests run as root.
    directory = Path(tempfile.mkdtemp(prefix="mayfly-tutorial-"))
    directory.chmod(0o755)
    try:
        yield Terminals(directory)
    finally:
        shutil.rmtree(directory)


async def test_the_second_part_of_the_tutorial_works_as_it_is_typed(terminals):
    async with AsyncExitStack() as stack:
        (simulate,) = terminals.block("A simulated GitHub", 0)
        simulate += f" --port {terminals.ports['8070']}"
        await stack.enter_async_context(terminals.running(simulate, "simulated GitHub at"))
        await _control_plane(terminals, stack)
        await _job(terminals)
        await _executor(terminals)


async def _control_plane(terminals: Terminals, stack: AsyncExitStack) -> None:
    section = "The control plane"
    await terminals.ran(terminals.block(section, 0))
    settings = terminals.block(section, 0, "toml")
    settings += ["[server]", f"port = {terminals.ports['8080']}", ""]
    (terminals.directory / "mayfly.toml").write_text("\n".join(settings))
    *check, serve = terminals.block(section, 1)
    assert "mayfly.toml is good: pools linux; 0 declared" in await terminals.ran(check)
    await stack.enter_async_context(terminals.running(serve, "server.started"))


async def _job(terminals: Terminals) -> None:
    section = "A job, and who may run it"
    assert JOB in await terminals.ran(terminals.block(section, 0))
    await until(lambda: _listed(terminals, JOB), "the job in the ledger")
    for place in (0, 1):
        said = await terminals.ran(terminals.block(section, place + 1))
        for line in terminals.block(section, place, "text"):
            assert line in said


async def _executor(terminals: Terminals) -> None:
    section = "An executor"
    *prepare, execute = terminals.block(section, 0)
    await terminals.ran(prepare)
    await terminals.ran([f"{execute} --once --state-dir {terminals.directory}/state"])
    await until(lambda: _listed(terminals, "completed"), "the end of the job in the ledger")
    said = await terminals.ran(terminals.block(section, 1))
    assert "ended (success) on mayfly-" in said
    assert "hello from mayfly-" in said


async def _listed(terminals, word):
    said = await terminals.ran(["mayfly jobs list"])
    return said if word in said else None


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])
