"""From a claim to its runner's process, by driver."""

import asyncio
import os
import statistics
import time

from mayfly.drivers import command, process, sandbox
from mayfly.ports import Driver
from tests.fakes.runner_programs import ALLOWED, Admission, Stage, claim, jit_config, stage

ROUNDS = 20
NOTHING = ("/bin/true",)
SAYS_WHEN = ("/bin/sh", "-c", "date +%s%N >$TRACES/at")


def measure() -> None:
    """Medians of 20 interleaved rounds, each with a guard where it can be; limits where we may.

    The board of `command` is this machine, and its `prepare` does nothing.
    """
    medians = asyncio.run(_medians())
    print(f"from a claim to its runner's process, median of {ROUNDS}")
    for name, seconds in medians.items():
        print(f"  {name:36} {seconds * 1000:8.1f} ms")
    print(f"  sandbox / process                    {medians['sandbox'] / medians['process']:8.2f}")


async def _medians() -> dict[str, float]:
    with stage() as ours, stage() as theirs, stage() as boards:
        plain = process.Settings(command=SAYS_WHEN, environment={"TRACES": str(ours.traces)})
        walled = sandbox.Settings(
            command=SAYS_WHEN,
            environment={"TRACES": str(theirs.traces)},
            read_write=(theirs.traces,),
            memory_mb=1024,
            cpus=2.0,
            limits_required=os.geteuid() == 0,
        )
        board = command.Settings(
            prepare=NOTHING,
            remote=("env", f"TRACES={boards.traces}"),
            run=SAYS_WHEN,
            power_off=NOTHING,
        )
        async with (
            command.open_driver(board, boards.home, Admission(ALLOWED)) as far,
            process.open_driver(plain, ours.home, Admission(ALLOWED)) as one,
            sandbox.open_driver(walled, theirs.home, Admission(ALLOWED)) as other,
        ):
            found: dict[str, list[float]] = {"command": [], "process": [], "sandbox": []}
            for _ in range(ROUNDS):
                found["command"].append(await _started(far, boards))
                found["process"].append(await _started(one, ours))
                found["sandbox"].append(await _started(other, theirs))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


async def _started(driver: Driver, place: Stage) -> float:
    """Seconds to the runner's own first word, which costs it the start of `date`."""
    began = time.time_ns()
    await driver.prepare(claim(guard=True))
    await driver.run("bench", jit_config())
    at = int(place.trace("at"))
    await driver.cleanup()
    await asyncio.sleep(0.2)  # the next keeper imports meanwhile, as it does between two jobs
    return (at - began) / 1e9
