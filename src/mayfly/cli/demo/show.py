"""The demo from start to end: set up, dispatch, watch, check, clean up."""

import asyncio
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import httpx
import msgspec
from rich.console import Console

from mayfly.cli.demo import servers, stage
from mayfly.cli.demo.launched import all_over
from mayfly.cli.demo.screen import Screen, closing_table, screen, status
from mayfly.cli.demo.script import FROM_ZERO, SCRIPT, Part
from mayfly.cli.demo.stage import Stage
from mayfly.cli.environment import ENVIRONMENT
from mayfly.model.errors import InvalidSettings, MayflyError, Transient
from mayfly.web.views import JobView

LONGEST_SECONDS = 120.0
LOOK_SECONDS = 0.2
INTERRUPTED = 130
PARKED, ZERO = SCALES = ("parked", "zero")
"""What there is when the first job is queued."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Wanted(NamedTuple):
    """What the command was told."""

    store: str
    bus: str
    keep: bool
    scale: str = PARKED

    @property
    def script(self) -> Sequence[Part]:
        """The jobs to run."""
        return FROM_ZERO if self.scale == ZERO else SCRIPT


def run_demo(wanted: Wanted) -> int:
    """0 when every job ended as scripted and nothing is left; 130 when a signal ended it."""
    servers.checked(wanted.store, wanted.bus)
    if wanted.scale not in SCALES:
        raise InvalidSettings(f"--scale {wanted.scale!r} is unknown; choose {', '.join(SCALES)}")
    console, left = Console(), list[str]()
    executors = "no executor" if wanted.scale == ZERO else "2 parked executors"
    console.print(f"Mayfly demo: a simulated GitHub, a control plane and {executors}, here.")
    try:
        jobs = asyncio.run(_played(console, wanted, left))
    except asyncio.CancelledError:
        end = f"left behind: {'; '.join(left)}" if left else "and has cleaned up."
        return _told(f"the demo was told to stop, {end}", INTERRUPTED)
    except MayflyError as error:
        if left:
            raise type(error)(f"{error}; left behind: {'; '.join(left)}") from error
        raise
    closing_table(console, jobs)
    wrong = _unlike_script(wanted.script, jobs) + [f"left behind: {what}" for what in left]
    for sentence in wrong:
        console.print(f"not as it should be: {sentence}")
    if not wrong:
        console.print(
            f"{sum(job.runner is not None for job in jobs)} jobs ran, each on its own runner; "
            f"{sum(job.decision != 'admitted' for job in jobs)} were refused; nothing is left.\n"
            "Next: docs/tutorial.md takes you to your own GitHub App; "
            "`mayfly config example` prints the settings."
        )
    return 1 if wrong else 0


async def _played(console: Console, wanted: Wanted, left: list[str]) -> list[JobView]:
    """The jobs; what is left of the demo goes to `left`, however it ends."""
    with _cancelled_by_signals(), stage.directory(keep=wanted.keep) as made:
        places = servers.chosen(
            wanted.store,
            wanted.bus,
            made=made,
            name=f"mayfly_demo_{token_hex(4)}",
            environment=ENVIRONMENT,
        )
        where = f"Ledger: {places.store.shown}. Bus: {places.bus.shown}."
        console.print(where, markup=False, highlight=False, soft_wrap=True)
        if wanted.keep:
            console.print(f"kept: {made}")
        async with servers.borrowed(places.store, left), servers.borrowed(places.bus, left):
            jobs = await _play(made, places, console, left, wanted)
        left += stage.leftovers(made)
        return jobs


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """The first signal cancels this task; later ones do not disturb it while it cleans up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def cancel() -> None:
        if task is not None and not task.cancelling():
            task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, cancel)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def _play(
    made: Path, places: servers.Places, console: Console, left: list[str], wanted: Wanted
) -> list[JobView]:
    from_zero = wanted.scale == ZERO
    async with stage.set_up(made, places, from_zero=from_zero) as ready:
        order: dict[int, int] = {}
        for place, part in enumerate(wanted.script):
            dispatched = ready.simulator.dispatch(part.owner, part.repository, part.workflow)
            order.update(dict.fromkeys(dispatched.job_ids, place))
        with screen(console) as shown:
            jobs = await _watched(ready, shown, order)
        left += await _runners_left(ready)
        if from_zero:
            left += await _told_of_launches(ready, console, jobs)
    return jobs


async def _told_of_launches(ready: Stage, console: Console, jobs: Sequence[JobView]) -> list[str]:
    """How many were started and how long the jobs waited; what is not as it should be."""
    async with _asking(ready) as client:
        try:
            launches = await all_over(client)
        except TimeoutError:
            return ["an executor that was started, although nothing is to be done"]
    waits = sorted(job.waited_seconds for job in jobs)
    console.print(
        f"{len(launches)} executors were started, at most 4 at once, and none runs any more. "
        f"From the webhook to the runner at work: {waits[0]:.1f} s for the first job, "
        f"{waits[-1]:.1f} s for the last."
    )
    return [] if len(launches) == len(jobs) else [f"{len(launches)} launches, for {len(jobs)} jobs"]


async def _watched(ready: Stage, shown: Screen, order: dict[int, int]) -> list[JobView]:
    """The jobs, once every admitted one has ended and every other one is refused."""
    try:
        async with asyncio.timeout(LONGEST_SECONDS), _asking(ready) as client:
            while True:
                answer = (await client.get("/v1/jobs")).raise_for_status()
                jobs = msgspec.json.decode(answer.content, type=list[JobView])
                jobs.sort(key=lambda job: order.get(job.id, len(order)))
                shown.show(jobs)
                if len(jobs) == len(order) and all(_ended(job) for job in jobs):
                    return jobs
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError as error:
        raise Transient(f"the jobs did not end within {LONGEST_SECONDS:.0f} s") from error


def _asking(ready: Stage) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {ready.operator_token}"}
    return httpx.AsyncClient(base_url=ready.url, headers=headers)


def _ended(job: JobView) -> bool:
    return job.decision != "admitted" or job.state == "completed"


async def _runners_left(ready: Stage) -> list[str]:
    """Names of runners the simulated GitHub still has, after a moment for the last to leave."""
    async with httpx.AsyncClient(base_url=ready.simulator.url) as client:
        for _ in range(20):
            answer = (await client.get("/_simulator/state")).raise_for_status()
            names = [str(runner["name"]) for runner in answer.json()["runners"]]
            if not names:
                return []
            await asyncio.sleep(LOOK_SECONDS)
    return [f"runner {name} at the simulator" for name in names]


def _told(sentence: str, code: int) -> int:
    print(f"mayfly: {sentence}", file=sys.stderr)  # noqa: T201 - as every command speaks
    return code


def _unlike_script(script: Sequence[Part], jobs: Sequence[JobView]) -> list[str]:
    """What ended otherwise than scripted."""
    by_name = {(job.repository, job.name): job for job in jobs}
    return [
        f"{part.job} of {part.owner}/{part.repository}: {_found(by_name, part)}"
        for part in script
        if not _as_scripted(by_name.get((f"{part.owner}/{part.repository}", part.job)), part)
    ]


def _as_scripted(job: JobView | None, part: Part) -> bool:
    return job is not None and (job.decision, job.conclusion) == (part.decision, part.result)


def _found(by_name: dict[tuple[str, str], JobView], part: Part) -> str:
    job = by_name.get((f"{part.owner}/{part.repository}", part.job))
    return f"expected {part.result or part.decision}, got {status(job) if job else 'nothing'}"
