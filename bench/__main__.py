"""`make bench`, or `python -m bench webhooks latency starts drivers`."""

import argparse
import faulthandler

from bench import drivers, latency, machines, starts, webhooks

PARTS = {
    "webhooks": webhooks.measure,
    "latency": latency.measure,
    "starts": starts.measure,
    "drivers": drivers.measure,
}

LONGEST_SECONDS = 1200
"""For one part; the longest takes a few minutes."""


def main() -> None:
    """All parts, or those named."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, with ratios.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    names = parser.parse_args().parts
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part is called {unknown[0]}; there are {', '.join(PARTS)}")
    print(machines.named())
    for name in names or PARTS:
        # A part that hangs says where, instead of waiting for somebody to notice.
        faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
        PARTS[name]()
        faulthandler.cancel_dump_traceback_later()


main()
