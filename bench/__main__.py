"""`make bench`, or `python -m bench webhooks latency starts`."""

import sys

from bench import latency, machines, starts, webhooks

PARTS = {"webhooks": webhooks.measure, "latency": latency.measure, "starts": starts.measure}


def main() -> None:
    """All parts, or those named."""
    print(machines.named())
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()


main()
