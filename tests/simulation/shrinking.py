"""Shrinking: a smaller world that breaks a promise, too, and the lines of its journal that tell."""

import re
from collections.abc import Iterator

import msgspec

from tests.simulation.plans import Plan
from tests.simulation.running import Verdict, run

MOST_RUNS = 60
MOST_LINES = 60
_IDS = re.compile(r"\b\d{4}\.\d\b|[0-9a-f]{8}|(?<=on )[a-z0-9]+-\d+")
"""Jobs, claims and machines, as sentences name them."""
_ALWAYS = ("VIOLATION", "plane.", "faults.ended", "FAULT plane", "FAULT installation")


def shrunken(failed: Verdict, most_runs: int = MOST_RUNS) -> Verdict:
    """The smallest failing world found in a bounded number of runs."""
    smallest, runs = failed, 0
    shrinks = True
    while shrinks:
        shrinks = False
        for plan in _smaller(smallest.plan):
            if runs == most_runs:
                return smallest
            runs += 1
            verdict = run(plan)
            if verdict.violations:
                smallest, shrinks = verdict, True
                break
    return smallest


def telling(verdict: Verdict) -> list[str]:
    """The journal's lines about those the violations name, not too many."""
    named = dict.fromkeys(_IDS.findall(" ".join(verdict.violations[:3])))
    lines = [line for line in verdict.lines if any(word in line for word in (*named, *_ALWAYS))]
    if len(lines) <= MOST_LINES:
        return lines
    half = MOST_LINES // 2
    return [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with less in them, the most daring first."""
    change = msgspec.structs.replace
    for jobs in (plan.jobs // 2, plan.jobs * 3 // 4):
        if 0 < jobs < plan.jobs:
            yield change(plan, jobs=jobs)
    names = list(plan.faults)
    for start in range(0, len(names), max(1, len(names) // 4)):
        dropped = names[start : start + max(1, len(names) // 4)]
        kept = {name: rate for name, rate in plan.faults.items() if name not in dropped}
        yield change(plan, faults=kept)
    if plan.minutes > 10:
        yield change(plan, minutes=plan.minutes / 2)
    if len(plan.pools) > 1:
        yield change(plan, pools=plan.pools[:1])
    if len(plan.skews) > 1:
        yield change(plan, skews=(0.0,))
    if plan.removed:
        yield change(plan, removed=False)
    for name in names:
        yield change(plan, faults={n: rate for n, rate in plan.faults.items() if n != name})
