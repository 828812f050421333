"""The table a run ends with."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.chaos.kills import Kill

_MOST = 40
"""Sentences on what was broken."""


class Report(NamedTuple):
    """What happened, and what was broken by it."""

    seed: int
    jobs: int
    conclusions: Counter[str]
    kills: Counter[Kill]
    faults: Mapping[str, int]
    calls: Mapping[str, int]
    seconds: float
    violations: list[str]


def lines(report: Report) -> Iterator[str]:
    """The report, to be printed."""
    yield f"seed {report.seed}, {report.seconds:.0f} s"
    served = report.conclusions.total()
    yield f"jobs    {served} of {report.jobs} served, {report.jobs - served} lost"
    yield from _counted("ended", report.conclusions)
    yield f"kills   {report.kills.total()}"
    yield from _counted("killed", report.kills)
    yield f"faults  {sum(report.faults.values())}"
    yield from _counted("struck", report.faults)
    mints = sum(n for name, n in report.calls.items() if name.endswith("/generate-jitconfig"))
    yield f"calls   {sum(report.calls.values())} of GitHub's API, of them {mints} mints"
    yield f"broken  {len(report.violations)} promises"
    yield from (f"  {sentence}" for sentence in report.violations[:_MOST])


def _counted(what: str, counts: Counter[Kill] | Mapping[str, int]) -> Iterator[str]:
    for name, number in sorted(counts.items(), key=lambda each: -each[1]):
        yield f"  {number:5} {what}: {name}"
