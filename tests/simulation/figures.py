"""Figures: what simulated worlds add up to."""

from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.endings import Left
from tests.simulation.world import World


@dataclass
class Figures:
    """Sums of worlds; two can be added."""

    worlds: int = 0
    jobs: int = 0
    hours: float = 0.0
    transactions: int = 0
    lost: int = 0
    leaked: int = 0
    past_the_guard: int = 0
    unguarded: int = 0
    wrongly_denied: int = 0
    mints: int = 0
    surplus_mints: int = 0
    doorbells: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    """Seconds from queued to in progress, of every job that had a right to a runner."""

    calms: list[float] = field(default_factory=list)
    """Seconds from the last fault until a world was at rest."""

    def add(self, other: "Figures") -> None:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, Counter):
                mine.update(value)
            else:
                setattr(self, name, mine + value)

    def per_job(self, number: float) -> float:
        return number / max(1, self.jobs)

    def wait(self, share: float) -> float:
        """The wait that so large a share of the jobs did not exceed."""
        waits = sorted(self.waits)
        return waits[min(len(waits) - 1, int(share * len(waits)))] if waits else 0.0


def figures_of(world: World, kinds: list[Left]) -> Figures:
    """Those of one world; `kinds` of what was unfinished at its end."""
    return Figures(
        worlds=1,
        jobs=len(world.jobs.every),
        hours=world.clock.seconds() / 3600,
        transactions=world.audit.transactions,
        lost=kinds.count(Left.LOST),
        leaked=kinds.count(Left.LEAKED),
        past_the_guard=len(world.verdicts.past_the_guard),
        unguarded=len(world.verdicts.unguarded),
        wrongly_denied=len(world.verdicts.wrongly_denied),
        mints=len(world.runners.minted),
        surplus_mints=sum(name not in world.runners.worked for name in world.runners.minted),
        doorbells=sum(world.around.rung.values()),
        calls=Counter(world.github.calls),
        struck=Counter(world.faults.struck),
        waits=[
            job.began - job.queued_at
            for job in world.jobs.every
            if job.work.pool is not None and job.started_at is not None
        ],
    )
