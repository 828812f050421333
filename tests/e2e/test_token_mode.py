"""Token mode on a board: a program beside the executor registers, and the token stays with it.

The board shows a job the whole machine, read-only, as a real one shows its root file system. Its
own are the directories the job can write, its processes and what came over `remote`.
"""

import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.e2e.declared import DEADLINES
from tests.e2e.endings import at_github, check_nothing_is_left, rows
from tests.e2e.planted import contents, watched_processes
from tests.e2e.programs import until
from tests.e2e.stage import Stage, interpreter, opened
from tests.fakes import board, configure_program
from tests.servers.absent import absent
from tests.simulator.runner_client.crypto import key_number, public_numbers

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
SEE = """
echo "## environments"; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'
echo "## arguments"; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '
echo planted-canary >"$HOME/mine"
echo "## files"; find /mnt /tmp /dev/shm -xdev -type f -size -400k -exec cat {} + 2>/dev/null
echo "## the end"
"""


class Farm:
    """One board and the programs of its operator."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.directory = stage.directory / "board"
        self.hold = stage.directory / "hold"
        self.came = stage.directory / "came"
        """All that ever went to the board."""
        self.key = stage.directory / "key.json"
        self.program = stage.directory / "configure.py"
        shutil.copy(configure_program.__file__, self.program)
        exponent, modulus = public_numbers(key_number(0))
        pem = key_number(0).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        key = {"exponent": exponent, "modulus": modulus, "pem": pem.decode()}
        self.key.write_bytes(msgspec.json.encode(key))
        for readable in (self.key, self.program):
            readable.chmod(0o644)
        self.tee = stage.directory / "remote"
        self.tee.write_text(f'#!/bin/sh\ntee -a {self.came} | "$@"\n')
        self.tee.chmod(0o755)

    def settings(self, *configure: str) -> str:
        """The executor's file; `configure` in place of the program that works."""
        usual = (
            *(interpreter(), str(self.program)),
            *("{url}", "{name}", "{labels}", str(self.key), str(self.hold)),
        )
        runner = {
            "prepare": board.words("boot", self.directory),
            "remote": (str(self.tee), *board.words("ssh", self.directory)),
            "run": (
                *("env", f"PYTHONPATH={ROOT}"),
                *(sys.executable, "-m", "tests.fakes.configured_runner"),
            ),
            "power_off": board.words("off", self.directory),
            "grace_seconds": 1.0,
            "idle_seconds": 0.0,
        }
        program = {
            "command": configure or usual,
            "files": ("settings.json",),
            "seconds": 20.0,
        }
        return "\n".join(
            [
                *("[executor]", 'driver = "command"'),
                *("[runner]", *_lines(runner)),
                *("[runner.configure]", *_lines(program)),
            ]
        )


def _lines(table: dict[str, object]) -> list[str]:
    return [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in table.items()]


@contextmanager
def plugged_in(stage: Stage) -> Iterator[Farm]:
    if shutil.which("bwrap") is None:
        absent("bubblewrap is not installed; tests/servers/install does it")
    farm = Farm(stage)
    with board.plugged_in(farm.directory, ROOT, Path(sys.prefix)):
        (farm.directory / "online").touch()
        yield farm


@pytest.fixture
async def farm() -> AsyncIterator[Farm]:
    async with opened(deadlines={**DEADLINES, "prepare_seconds": 60}) as stage:
        with plugged_in(stage) as farm:
            await stage.plane()
            yield farm
            await stage.end_executors()
        await check_nothing_is_left(stage)


def tokens(stage: Stage) -> list[bytes]:
    """The registration tokens GitHub has given so far."""
    return [token.encode() for token in stage.github.watched.tokens if token.startswith("SIM")]


async def test_a_job_runs_on_a_board_that_never_sees_the_token(farm: Farm):
    stage = farm.stage
    async with watched_processes() as processes:
        await stage.executor(settings=farm.settings())
        job = stage.dispatch(stage.repository(), SEE)
        await stage.ends(job, seconds=40)
        claim = await stage.claim_in("done")
        await stage.mayfly("jobs", "explain", str(job))
    runner = f"e2e-{claim['claim']}-1"
    assert stage.runner_of(job) == runner
    assert stage.github.mints() == 0
    (token,) = tokens(stage)

    seen = "\n".join(stage.simulator.log(job)).encode()
    for proof in (b"PYTHONPATH", b"configured_runner", b"planted-canary", b"## the end"):
        assert proof in seen, "the job could look around"
    assert token not in seen, "on the board"
    assert farm.came.read_bytes().strip(), "the settings travelled"
    assert token not in farm.came.read_bytes(), "on the way to the board"
    arguments = b"\n".join(processes.arguments)
    assert b"configure.py" in arguments
    assert token not in arguments, "in the arguments of a process"
    environments = b"\n".join(processes.environments)
    assert b"TMPDIR" in environments
    assert token not in environments, "in the environment of a process"
    logs = contents((stage.directory / "logs").iterdir())
    assert b"runner.configured" in logs
    assert b"registration.entrusted" in logs
    assert token not in logs, "in a log"
    database = contents(stage.directory.glob("mayfly.sqlite*"))
    assert runner.encode() in database
    assert token not in database, "in the database"
    left = contents(path for path in stage.directory.rglob("*") if path.is_file())
    assert token not in left, "in a file that is left"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("cat; echo no such host >&2; exit 4", "exit code 4; it said: no such host"),
        ("exit 0", "left no file settings.json"),
        ("echo '{}' >settings.json", "GitHub does not show a runner"),
        ("ln -s /etc/passwd settings.json", "left no file settings.json"),
    ],
)
async def test_a_configure_program_that_fails_gives_the_job_back(
    farm: Farm, script: str, sentence: str
):
    stage = farm.stage
    executor = await stage.executor(settings=farm.settings("/bin/sh", "-c", script))
    job = stage.dispatch(stage.repository())
    claim = await stage.claim_in("failed")
    assert sentence in claim["detail"]
    (token, *_) = tokens(stage)
    assert token.decode() not in str(claim)
    await until(
        lambda: (
            rows(stage, f"SELECT name FROM registration WHERE claim = '{claim['claim']}'") == []
        ),
        "the name is proven gone",
    )
    assert stage.simulator.job(job)["status"] == "queued"
    assert token not in executor.log.read_bytes()
    stage.simulator.cancel_job(job)


async def test_a_job_given_back_is_served_once_the_configure_program_works(farm: Farm):
    stage = farm.stage
    await stage.executor(settings=farm.settings("/bin/sh", "-c", "exit 4"))
    job = stage.dispatch(stage.repository())
    await stage.claim_in("failed")
    await stage.end_executors()
    await stage.executor(settings=farm.settings())
    await stage.ends(job, seconds=60)


async def test_an_executor_killed_after_its_runner_was_registered_leaves_none(farm: Farm):
    stage = farm.stage
    farm.hold.touch()
    executor = await stage.executor(settings=farm.settings())
    job = stage.dispatch(stage.repository())
    await until(lambda: at_github(stage), "a runner that the ledger was not told of")
    (lost,) = at_github(stage)
    claim = await stage.claim_in("minting")
    await executor.killed()
    await until(lambda: executor.survivors() == [], "the configure program ends with its executor")
    farm.hold.unlink()
    await stage.executor(settings=farm.settings())
    await until(lambda: lost not in at_github(stage), "the worklist deletes what was registered")
    await stage.ends(job, seconds=60)
    assert stage.runner_of(job) != lost
    states = {one["claim"]: one["state"] for one in await stage.claims(live=False)}
    assert states[claim["claim"]] == "lost"
