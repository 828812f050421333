"""Running one plan on virtual time, to its verdict."""

import asyncio
import gc
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import async_solipsism  # type: ignore[import-untyped] # it has no types
import structlog

from tests.simulation.endings import Unfinished, broken_promises, undiscovered, unfinished
from tests.simulation.figures import Figures, figures_of
from tests.simulation.journal import Journal
from tests.simulation.overdue import Overdue
from tests.simulation.plans import Plan
from tests.simulation.processes import task_factory
from tests.simulation.world import World

LOOK_SECONDS = 60.0
SWEEP_SECONDS = 12_500.0
"""Until a control plane that has just started has swept every idle repository once (R11): 9 steps
of listing and a round and a step of 6 repositories, each of 520 s and twice that."""
LOOKS_AT_REST = 2
"""Nothing may be left over in so many looks in a row before a world counts as at rest."""


@dataclass
class Verdict:
    """How a world ended."""

    plan: Plan
    violations: list[str]
    digest: str
    lines: list[str] = field(repr=False)
    figures: Figures = field(repr=False)


Scene = Callable[[World], Awaitable[None]]
"""What happens in a world instead of what its operators would do."""


def run(plan: Plan, scene: Scene | None = None, *, kept: int | None = 400) -> Verdict:
    """The world of a plan, from its first second until it is at rest or out of time."""
    random.seed(plan.seed)  # an executor's patience uses it
    gc.disable()
    try:
        with _silence(), asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
            return runner.run(_lived(plan, scene or _usual, kept))
    finally:
        gc.enable()


async def _usual(world: World) -> None:
    world.operators.start()
    await asyncio.sleep(60.0 * world.plan.minutes)


async def _lived(plan: Plan, scene: Scene, kept: int | None) -> Verdict:
    asyncio.get_running_loop().set_task_factory(task_factory)  # type: ignore[arg-type] # takes any options
    world = World(plan, Journal(kept))
    structlog.configure(processors=[_Stumbles(world)])
    await world.start()
    await scene(world)
    world.end_faults()
    ended_at = world.clock.seconds()
    left = await _settled(world)
    verdict = await _judged(world, left, calm_seconds=world.clock.seconds() - ended_at)
    world.stop()
    return verdict


async def _judged(world: World, left: list[Unfinished], calm_seconds: float) -> Verdict:
    violations = [*world.around.troubles, *(each.sentence for each in left)]
    violations += await broken_promises(world)
    figures = figures_of(world, [each.kind for each in left])
    figures.calms.append(calm_seconds)
    return Verdict(
        plan=world.plan,
        violations=violations,
        digest=world.journal.digest(),
        lines=world.journal.lines,
        figures=figures,
    )


async def _settled(world: World) -> list[Unfinished]:
    """What is left over when the world is at rest, or when its time is over."""
    deadline = world.clock.seconds() + 60.0 * world.plan.calm_minutes + _backlog(world)
    if any(undiscovered(world, job) for job in world.jobs.queued):
        deadline += SWEEP_SECONDS
    left, looks, overdue = unfinished(world), 0, Overdue(world)
    while looks < LOOKS_AT_REST and world.clock.seconds() < deadline:
        await asyncio.sleep(LOOK_SECONDS)
        left = unfinished(world)
        overdue.look(left)
        looks = 0 if left else looks + 1
    return left


def _backlog(world: World) -> float:
    """Seconds that honest work still takes after the last fault."""
    waiting = {each.pool.name: 0.0 for each in world.plan.pools}
    for job in world.jobs.queued:
        if job.work.pool is not None:
            waiting[job.work.pool] += job.work.seconds + 60.0
    return max(
        seconds / max(1, min(each.pool.max, len(world.good_machines(each.pool.name))))
        for each, seconds in zip(world.plan.pools, waiting.values(), strict=True)
    )


class _Stumbles:
    """Of all that the engine logs, only what it calls an error matters here."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(
        self, _logger: object, method: str, entry: MutableMapping[str, Any]
    ) -> Mapping[str, Any]:
        if method in ("error", "exception", "critical"):
            self._world.complain(f"the engine logged {entry}")
        raise structlog.DropEvent


@contextmanager
def _silence() -> Iterator[None]:
    """Thousands of lines nobody reads; what was configured before is restored."""
    before, level = structlog.get_config(), logging.getLogger("mayfly").level
    logging.getLogger("mayfly").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        structlog.configure(**before)
        logging.getLogger("mayfly").setLevel(level)
