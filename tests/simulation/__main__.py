"""Simulates many worlds and says what it found: `python -m tests.simulation --help`."""

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from typing import NamedTuple

from tests.simulation import reports
from tests.simulation.figures import Figures
from tests.simulation.plans import drawn
from tests.simulation.running import run

CALM_TWINS = 100
"""Worlds that are run without their faults too: enough to compare the waits."""
TOLD_EVERY = 500
"""Worlds between two words to whoever watches."""


class Result(NamedTuple):
    """One seed, with its faults and, where it has a twin, without."""

    seed: int
    violations: list[str]
    calm_violations: list[str]
    faulty: Figures
    calm: Figures


def main() -> int:
    """The exit code: 1 when any world broke a promise."""
    options = _options()
    if options.seed is not None:
        return _replay(options.seed, calm=options.calm)
    began = time.monotonic()
    faulty, calm, twinned = Figures(), Figures(), Figures()
    found: list[reports.Failure] = []
    for result in _results(options):
        faulty.add(result.faulty)
        calm.add(result.calm)
        if result.calm.worlds:
            twinned.add(result.faulty)
        if faulty.worlds and not faulty.worlds % TOLD_EVERY:
            told = f"{faulty.worlds:,} worlds, {faulty.jobs:,} jobs, {len(found)} failed"
            print(told, file=sys.stderr, flush=True)
        for sentences, quiet in ((result.violations, False), (result.calm_violations, True)):
            if sentences:
                found.append(reports.Failure(result.seed, quiet, sentences))
                told = f"seed {result.seed} broke a promise: {sentences[0]}"
                print(told, file=sys.stderr, flush=True)
    failed = _report(faulty, calm, twinned, found)
    print(f"{time.monotonic() - began:.0f} s")
    if found:
        first = found[0]
        _say(reports.shrunken_trace(run(drawn(first.seed, calm=first.calm))))
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=_some, help="at least so many worlds")
    parser.add_argument("--jobs", type=_some, help="at least so many jobs")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--calm", action="store_true", help="without faults only")
    parser.add_argument("--seed", type=int, help="replay this one and print its journal")
    parser.add_argument("--processes", type=_some, default=2, help="worlds at the same time")
    return parser.parse_args()


def _some(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def _replay(seed: int, *, calm: bool) -> int:
    verdict = run(drawn(seed, calm=calm), kept=None)
    _say(verdict.lines)
    print(f"digest {verdict.digest}")
    _say(verdict.violations)
    return int(bool(verdict.violations))


def _results(options: argparse.Namespace) -> Iterator[Result]:
    seeds = list(_seeds(options))
    work = [_Work(seed, options.calm, index < CALM_TWINS) for index, seed in enumerate(seeds)]
    processes = ProcessPoolExecutor(options.processes)
    try:
        yield from processes.map(_both, work, chunksize=4)
    except KeyboardInterrupt:
        print("interrupted; this is what was found so far", file=sys.stderr)
    finally:
        processes.shutdown(cancel_futures=True)


def _seeds(options: argparse.Namespace) -> Iterator[int]:
    """Until there are enough of what was asked for; of both, when nothing was."""
    usual = options.seeds is None and options.jobs is None
    least_worlds = 300 if usual else options.seeds or 0
    least_jobs = 30_000 if usual else options.jobs or 0
    jobs = 0
    for seed in count(options.first):
        if seed - options.first >= least_worlds and jobs >= least_jobs:
            return
        jobs += drawn(seed).jobs
        yield seed


class _Work(NamedTuple):
    seed: int
    only_calm: bool
    has_twin: bool


def _both(work: _Work) -> Result:
    calm_found, calm = list[str](), Figures()
    if work.only_calm or work.has_twin:
        verdict = run(drawn(work.seed, calm=True))
        calm_found, calm = verdict.violations, verdict.figures
    if work.only_calm:
        return Result(work.seed, [], calm_found, Figures(), calm)
    faulty = run(drawn(work.seed))
    return Result(work.seed, faulty.violations, calm_found, faulty.figures, calm)


def _report(faulty: Figures, calm: Figures, twinned: Figures, found: list[reports.Failure]) -> bool:
    failed = bool(found)
    if faulty.worlds:
        _say(reports.struck(faulty))
        _say(reports.totals(faulty, calm=False))
        failed |= reports.too_many_mints(faulty, calm=False)
    _say(reports.totals(calm, calm=True))
    failed |= reports.too_many_mints(calm, calm=True)
    if faulty.worlds:
        print(reports.extra_wait(twinned, calm))
    if found:
        _say(reports.failures(found))
    return failed


def _say(lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        print(line)


if __name__ == "__main__":
    sys.exit(main())
