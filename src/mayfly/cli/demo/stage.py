"""The demo's processes and files, and nothing of them afterwards."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import msgspec

from mayfly.cli.demo.endings import to_its_end
from mayfly.cli.demo.launched import launched
from mayfly.cli.demo.script import ACCOUNTS, LAUNCHED, LAUNCHERS, RUNNER, SETTINGS
from mayfly.cli.demo.servers import Place, Places
from mayfly.cli.environment import ENVIRONMENT
from mayfly.cli.settings import as_toml
from mayfly.model.errors import InvalidSettings, Transient
from mayfly.simulator import Settings, Simulator, generate_app_key, runner_program, serve
from mayfly.web.tokens import Role, new_token

START_SECONDS = 30.0
STOP_SECONDS = 20.0
TOLD_TO_STOP = 42


class Stage(NamedTuple):
    """What the demo looks at while it runs."""

    simulator: Simulator
    url: str
    operator_token: str


@contextmanager
def directory(*, keep: bool) -> Iterator[Path]:
    """A work directory another user may pass through; removed unless `keep`."""
    made = Path(tempfile.mkdtemp(prefix="mayfly-demo-"))
    made.chmod(0o755)
    (made / "secrets").mkdir(mode=0o700)
    (made / "logs").mkdir(mode=0o700)
    try:
        yield made
    finally:
        if keep:
            for url in (made / "secrets").glob("*-url"):
                url.unlink()  # the simulator's secrets open nothing; these may
        else:
            shutil.rmtree(made)


@asynccontextmanager
async def set_up(made: Path, places: Places, *, from_zero: bool) -> AsyncIterator[Stage]:
    """Simulator, control plane and executors at work; all of them ended afterwards.

    `from_zero`: no executor is there, and the control plane may start some.
    """
    private, public = generate_app_key()
    secret = token_hex(32)
    _secret(made, "app.pem", private)
    _secret(made, "webhook-secret", secret)
    executor_token, executor = new_token("demo-executor", Role.EXECUTOR, ("linux",))
    operator_token, operator = new_token("demo-operator", Role.OPERATOR)
    token_file = _secret(made, "executor-token", executor_token)
    settings = Settings(app_public_key=public, webhook_secret=secret, accounts=ACCOUNTS)
    async with serve(settings) as simulator:
        config = _secret(
            made,
            "mayfly.toml",
            SETTINGS.format(
                directory=made,
                port=_free_port() if from_zero else 0,
                launched=LAUNCHED if from_zero else "",
                app_id=settings.app_id,
                api_url=simulator.url,
                store=_table(made, "store", places.store),
                bus=_table(made, "bus", places.bus),
                tokens="\n\n".join((as_toml(executor), as_toml(operator)))
                + (LAUNCHERS.format(directory=made) if from_zero else ""),
            ),
        )
        runner = made / "executor.toml"
        runner.write_text(RUNNER.format(command=_runner_command(made)))
        serving = _process(made, "control-plane", "serve", "--config", str(config))
        async with launched(made), serving as plane:
            url = await _address(*plane)
            simulator.set_webhook(f"{url}/webhooks/github")
            parked = _executors(made, url, token_file, runner)
            async with nullcontext() if from_zero else parked:
                yield Stage(simulator, url, operator_token)


def _table(made: Path, name: str, place: Place) -> str:
    """`[store]` or `[bus]`; its url may hold a password."""
    table = f'backend = "{place.backend}"'
    if place.url is None:
        return table
    return f'{table}\nurl_file = "{_secret(made, f"{name}-url", place.url)}"'


def _free_port() -> int:
    """Launched executors are told an address before the control plane listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def leftovers(made: Path) -> list[str]:
    """Directories of jobs that are still there."""
    return [str(path) for path in made.glob("**/slots/*/work-*")]


@asynccontextmanager
async def _executors(made: Path, url: str, token: Path, runner: Path) -> AsyncIterator[None]:
    arguments = ("--pool", "linux", "--url", url, "--token-file", str(token))
    more = ("--config", str(runner), "--state-dir", str(made / "state"))
    first = _process(made, "executor-1", "executor", *arguments, *more)
    second = _process(made, "executor-2", "executor", *arguments, *more)
    async with first as one, second as other:
        for log, process in (one, other):
            await _logged(log, process, "executor.ready")
        yield


@asynccontextmanager
async def _process(made: Path, name: str, *arguments: str) -> AsyncIterator[tuple[Path, Process]]:
    """A `mayfly` process and the file of its log; ended politely."""
    log = made / "logs" / f"{name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mayfly", *arguments),
            stdout=output,
            stderr=output,
            env=_without_ours(ENVIRONMENT),
            process_group=0,  # Ctrl-C is for the demo, which then ends its processes in order
        )
    try:
        yield log, process
    finally:
        await to_its_end(_stopped(log, process))


async def _stopped(log: Path, process: Process) -> None:
    """Ended politely, else at once."""
    expected = {0, TOLD_TO_STOP}
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        expected.add(-signal.SIGTERM)  # it had not come so far as to listen
    try:
        async with asyncio.timeout(STOP_SECONDS):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        code = await process.wait()
    if code not in expected:
        last = _lines(log)[-5:]
        raise Transient(f"{log.stem} ended with exit code {code}: " + " | ".join(last))


def _without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """The demo's processes have a file for each setting; a variable would come before it."""
    return {key: value for key, value in environment.items() if not key.startswith("MAYFLY_")}


async def _address(log: Path, process: Process) -> str:
    """The control plane's address, from its own log."""
    return str(msgspec.json.decode(await _logged(log, process, "server.started"))["url"])


async def _logged(log: Path, process: Process, event: str) -> str:
    """The line of the log that tells of `event`."""
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            for line in _lines(log):
                if event in line:
                    return line
            await asyncio.sleep(0.05)
    raise Transient(f"{log.stem} did not start")


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()


def _secret(made: Path, name: str, text: str) -> Path:
    path = made / "secrets" / name
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def _runner_command(made: Path) -> str:
    """The simulated runner under an interpreter that the jobs' user can run."""
    directory = made / "runner"
    directory.mkdir()
    directory.chmod(0o755)  # whatever the umask
    program = runner_program(directory)
    return msgspec.json.encode([interpreter(), str(program)]).decode().strip("[]") + (
        ', "--jitconfig-stdin"'
    )


def interpreter() -> str:
    """A Python the jobs' user can run."""
    candidates = [os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"]
    if os.geteuid() != 0:
        return candidates[0]
    for candidate in candidates:
        try:
            subprocess.run(  # noqa: S603 - our own list of interpreters
                [candidate, "-c", "pass"], user="nobody", check=True, cwd="/", capture_output=True
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    raise InvalidSettings(
        "no Python on this machine can be run by user nobody, as the demo's jobs would; "
        "run the demo as a normal user"
    )
