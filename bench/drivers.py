"""From a claim to its runner's process, by driver."""

import asyncio
import os
import shutil
import statistics
import time
from contextlib import AsyncExitStack, ExitStack

from mayfly.drivers import command, container, process, sandbox
from mayfly.ports import Driver
from tests.fakes.runner_programs import ALLOWED, Admission, Stage, claim, jit_config, stage
from tests.servers import podman

ROUNDS = 20
NOTHING = ("/bin/true",)
LONGEST_SECONDS = 60.0
"""For one round; a driver that hangs ends the measurement and not the day."""
SAYS_WHEN = ("/bin/sh", "-c", "date +%s%N >$TRACES/at")


def measure() -> None:
    """Medians of 20 interleaved rounds, each with a guard where it can be; limits where we may.

    The board of `command` is this machine, and its `prepare` does nothing.
    """
    with ExitStack() as stack:
        medians = asyncio.run(_medians(_engine(stack)))
    print(f"from a claim to its runner's process, median of {ROUNDS}")
    for name, seconds in medians.items():
        print(f"  {name:36} {seconds * 1000:8.1f} ms")
    for name, seconds in medians.items():
        if name != "process":
            print(f"  {f'{name} / process':36} {seconds / medians['process']:8.2f}")


def _engine(stack: ExitStack) -> podman.Podman | None:
    """A Podman of our own with its image loaded; None where there cannot be one."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("podman", "runc"))):
        print("container: not measured, because it needs root, podman and runc")
        return None
    server = podman.Podman()
    stack.callback(server.remove)
    server.start()
    server.load()
    return server


async def _medians(engine: podman.Podman | None) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        drivers = {
            name: await _opened(name, engine, stack)
            for name in ("process", "command", "sandbox", "container")
            if engine or name != "container"
        }
        found: dict[str, list[float]] = {name: [] for name in drivers}
        for _ in range(ROUNDS):
            for name, (driver, place) in drivers.items():
                async with asyncio.timeout(LONGEST_SECONDS):
                    found[name].append(await _started(driver, place))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


async def _opened(
    name: str, engine: podman.Podman | None, stack: AsyncExitStack
) -> tuple[Driver, Stage]:
    place = stack.enter_context(stage())
    environment = {"TRACES": str(place.traces)}
    admission = Admission(ALLOWED)
    if name == "process":
        plain = process.Settings(command=SAYS_WHEN, environment=environment)
        opening = process.open_driver(plain, place.home, admission)
    elif name == "sandbox":
        walled = sandbox.Settings(
            command=SAYS_WHEN,
            environment=environment,
            read_write=(place.traces,),
            memory_mb=1024,
            cpus=2.0,
            limits_required=os.geteuid() == 0,
        )
        opening = sandbox.open_driver(walled, place.home, admission)
    elif name == "command":
        board = command.Settings(
            prepare=NOTHING,
            remote=("env", f"TRACES={place.traces}"),
            run=SAYS_WHEN,
            power_off=NOTHING,
        )
        opening = command.open_driver(board, place.home, admission)
    else:
        shipped = container.Settings(
            image=podman.IMAGE,
            command=(*SAYS_WHEN, "{jitconfig}"),
            engine=engine.socket if engine else None,
            environment=environment,
            network="none",
            read_write=(place.traces,),
            memory_mb=1024,
            cpus=2.0,
        )
        opening = container.open_driver(shipped, place.home, admission)
    return await stack.enter_async_context(opening), place


async def _started(driver: Driver, place: Stage) -> float:
    """Seconds to the runner's own first word, which costs it the start of `date`."""
    began = time.time_ns()
    await driver.prepare(claim(guard=True))
    await driver.run("bench", jit_config())
    at = int(place.trace("at"))
    await driver.cleanup()
    await asyncio.sleep(0.2)  # the next keeper imports meanwhile, as it does between two jobs
    return (at - began) / 1e9
