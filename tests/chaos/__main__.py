"""`make chaos`, or `python -m tests.chaos --help`: kills real processes and counts what is lost."""

import argparse
import asyncio
import random
import sys

from tests.chaos import reports
from tests.chaos.plans import EXECUTORS, SHORTENED
from tests.chaos.runs import BETWEEN_KILLS, run


def main() -> int:
    """The exit code: 1 when any promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--jobs", type=int, default=500)
    options = parser.parse_args()
    print(
        f"seed {options.seed}: {options.jobs} jobs, one control plane, {EXECUTORS} executors, a "
        f"SIGKILL every {BETWEEN_KILLS:.0f} s; all deadlines are 1/{SHORTENED} of the defaults\n"
        "left out: a `queued` that is neither delivered nor logged, for which the sweep takes "
        "15 minutes",
        flush=True,
    )
    report = asyncio.run(run(options.seed, options.jobs))
    print(*reports.lines(report), sep="\n")
    return int(bool(report.violations))


if __name__ == "__main__":
    sys.exit(main())
