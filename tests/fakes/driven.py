"""Every driver told to run the same shell scripts; as a program, an executor that can be killed."""

import asyncio
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mayfly.drivers import command, container, process, sandbox
from mayfly.drivers.accounts import chosen
from mayfly.drivers.jitconfig import JitDelivery
from mayfly.executor.loop import _close_to_others
from mayfly.ports import Driver
from tests.fakes import board
from tests.fakes.runner_programs import Admission, Stage, claim, jit_config
from tests.servers import podman
from tests.servers.absent import absent

ROOT = Path(__file__).parents[2]
DRIVERS = sorted(entry.name for entry in entry_points(group="mayfly.drivers"))
_QUICK: dict[str, Any] = {"grace_seconds": 0.5, "guard_seconds": 0.3, "refused_seconds": 0.3}


def _process(program: str, environment: dict[str, str], _: Stage) -> process.Settings:
    return process.Settings(
        command=(program,), jit=JitDelivery.STDIN, environment=environment, **_QUICK
    )


def _sandbox(
    program: str, environment: dict[str, str], place: Stage, network: str = "none"
) -> sandbox.Settings:
    return sandbox.Settings(
        command=(program,),
        jit=JitDelivery.STDIN,
        environment=environment,
        network=network,
        disk_mb=8,
        memory_mb=256,
        processes=64,
        limits_required=os.geteuid() == 0,
        read_only=(place.programs,),
        read_write=(place.traces,),
        **_QUICK,
    )


def _container(
    program: str, environment: dict[str, str], place: Stage, network: str = "none"
) -> container.Settings:
    account = chosen(None, place.home.name)
    return container.Settings(
        image=podman.IMAGE,
        # As a runner that reads its config from its standard input.
        command=("/bin/sh", "-c", 'exec "$0" <"$1"', program, "{jitconfig}"),
        engine=_engine(place),
        user=f"{account.uid}:{account.gid}",
        environment=environment,
        network=network,
        disk_mb=8,
        memory_mb=256,
        processes=64,
        read_only_root=True,
        in_memory=("/home/runner", "/tmp"),
        read_only=(place.programs,),
        read_write=(place.traces,),
        **_QUICK,
    )


def _engine(place: Stage) -> Path:
    return place.home.parents[1] / "engine"


def _command(
    program: str, environment: dict[str, str], place: Stage, idle_seconds: float = 0
) -> command.Settings:
    directory = _board(place)
    return command.Settings(
        prepare=board.words("boot", directory),
        remote=board.words("ssh", directory),
        run=("env", *(f"{name}={value}" for name, value in environment.items()), program),
        power_off=board.words("off", directory),
        idle_seconds=idle_seconds,
        grace_seconds=_QUICK["grace_seconds"],
    )


def _board(place: Stage) -> Path:
    return place.home.parents[1] / "board"


def machine(name: str, place: Stage) -> AbstractContextManager[object]:
    """What a driver needs beside this machine."""
    if name == "command":
        return board.plugged_in(_board(place), place.programs, place.traces)
    if name.startswith("container"):
        _engine(place).symlink_to(podman.shared().socket)
    return nullcontext()


def installed(name: str) -> None:
    """Ends the test where the machine lacks what a driver needs."""
    if name.startswith("container"):
        podman.needed()
    elif name != "process" and shutil.which("bwrap") is None:
        absent("bubblewrap is not installed; tests/servers/install does it")


# How each driver is told to run a program with a few variables, and to be quick about it.
SETTINGS: dict[str, Callable[[str, dict[str, str], Stage], Any]] = {
    "command": _command,
    "container": _container,
    'container, network = "host"': partial(_container, network="host"),
    "process": _process,
    "sandbox": _sandbox,
    'sandbox, network = "host"': partial(_sandbox, network="host"),
}


def opened(
    name: str,
    place: Stage,
    script: str,
    admission: Admission | None = None,
    **environment: str,
) -> AbstractAsyncContextManager[Driver]:
    """A driver told to run a script of `runner_programs`; `name` is one of SETTINGS."""
    (entry,) = entry_points(group="mayfly.drivers", name=name.partition(",")[0])
    variables = {"TRACES": str(place.traces), "THEN": "exit 0"} | environment
    settings = SETTINGS[name](place.program(script), variables, place)
    driver: AbstractAsyncContextManager[Driver] = entry.load().open_driver(
        settings, place.home, admission or Admission(None)
    )
    return driver


def executor(
    name: str,
    place: Stage,
    script: str,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Another process that runs it once, to be killed or to be attacked."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.driven", name, script, *map(str, place)],
        cwd=ROOT,
        env=environment,
    )


def hold_a_key() -> None:
    """The token in the session keyring, where the kernel has any: no job may inherit it."""
    join, add = {"x86_64": (250, 248), "aarch64": (219, 217)}[os.uname().machine]
    token = os.environ.get("MAYFLY_TOKEN", "none").encode()
    libc = ctypes.CDLL(None)
    libc.syscall(join, 1, None)
    libc.syscall(add, b"user", b"mayfly-test", token, len(token), -3)


async def _run(name: str, script: str, *place: str) -> None:
    _close_to_others()
    hold_a_key()
    async with opened(name, Stage(*map(Path, place)), script) as driver:
        await driver.prepare(claim(guard=True))
        await driver.run("r", jit_config())


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
