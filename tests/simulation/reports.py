"""Reports: what a person reads after many worlds."""

from collections.abc import Iterator
from typing import NamedTuple

from tests.simulation.figures import Figures
from tests.simulation.plans import Plan
from tests.simulation.running import Verdict
from tests.simulation.shrinking import shrunken, telling

SURPLUS_ALLOWED = {True: 50.0, False: 200.0}
"""Surplus mints per 1,000 jobs, calm or not (10)."""
SHOWN_FAILURES = 5


class Failure(NamedTuple):
    """A world that broke a promise."""

    seed: int
    calm: bool
    violations: list[str]

    @property
    def command(self) -> str:
        return f"python -m tests.simulation --seed {self.seed}" + (" --calm" if self.calm else "")


def struck(figures: Figures) -> Iterator[str]:
    yield "how often each fault struck"
    for name, times in sorted(figures.struck.items()):
        yield f"  {name:<40} {times:>10,}"


def totals(figures: Figures, *, calm: bool) -> Iterator[str]:
    kind = "without faults" if calm else "with faults"
    yield (
        f"{kind}: {figures.worlds:,} worlds, {figures.jobs:,} jobs, {figures.hours:,.0f} h of "
        f"virtual time, {figures.transactions:,} transactions recounted"
    )
    yield f"  jobs lost                        {figures.lost:>10,}"
    yield f"  registrations leaked             {figures.leaked:>10,}"
    yield f"  refused jobs past the guard      {figures.past_the_guard:>10,}"
    yield f"  admitted jobs the guard held     {figures.wrongly_denied:>10,}"
    per_thousand = 1000 * figures.per_job(figures.surplus_mints)
    yield (
        f"  surplus mints per 1,000 jobs     {per_thousand:>10.1f}"
        f"   (at most {SURPLUS_ALLOWED[calm]:.0f})"
    )
    calls = sum(times for verb, times in figures.calls.items() if "unchanged" not in verb)
    yield f"  API calls per job                {figures.per_job(calls):>10.2f}"
    yield f"  doorbells per job                {figures.per_job(figures.doorbells):>10.2f}"
    yield f"  longest way back to rest         {max(figures.calms) / 60:>10.1f} min"
    median, most = figures.wait(0.5), figures.wait(0.99)
    yield f"  wait for a runner, p50 and p99   {median:>10.1f} s {most:,.1f} s"


def extra_wait(faulty: Figures, calm: Figures) -> str:
    """The same seeds with and without faults; queued to in progress."""
    median, most = (faulty.wait(share) - calm.wait(share) for share in (0.5, 0.99))
    return (
        "extra wait caused by the faults (queued to in progress, the same worlds with and without "
        f"them): p50 {median:+.1f} s, p99 {most:+.1f} s"
    )


def too_many_mints(figures: Figures, *, calm: bool) -> bool:
    return 1000 * figures.per_job(figures.surplus_mints) > SURPLUS_ALLOWED[calm]


def failures(found: list[Failure]) -> Iterator[str]:
    yield f"{len(found)} worlds broke a promise"
    for each in found[:SHOWN_FAILURES]:
        yield f"  seed {each.seed}: {len(each.violations)} violations; replay: {each.command}"
        yield from (f"    {sentence[:200]}" for sentence in each.violations[:3])


def shrunken_trace(verdict: Verdict) -> Iterator[str]:
    """A smaller world that fails, too."""
    small = shrunken(verdict)
    yield "the smallest world found that fails:"
    yield from _described(small.plan)
    yield from (f"  {sentence[:300]}" for sentence in small.violations[:5])
    yield from telling(small)


def _described(plan: Plan) -> Iterator[str]:
    yield f"  seed {plan.seed}, {plan.jobs} jobs in {plan.minutes:.0f} min, skews {plan.skews}"
    for each in plan.pools:
        pool = each.pool
        yield (
            f"  pool {pool.name}: at most {pool.max}, {each.machines} machines, {each.black_holes} "
            f"broken, variant {pool.variant}, scope {pool.scope}, guard {pool.guard}"
        )
    yield f"  faults: {', '.join(plan.faults) or 'none'}"
