"""The runner's own process: the signals it hears and the lines it says."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress


class Stopped(Exception):
    """Told to stop while idle."""


class Signals:
    """Remembers SIGTERM; an idle runner stops at once, a busy one when its loop looks."""

    def __init__(self) -> None:
        self.stop = False
        self.idle = True
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)

    def _heard(self, _number: int, _frame: object) -> None:
        self.stop = True
        self.check()

    def check(self) -> None:
        """Raise Stopped when that was asked, and nothing is at stake."""
        if self.stop and self.idle:
            raise Stopped


def say(text: str) -> None:
    """Tell whoever reads the runner's output."""
    # When nobody listens the job goes on.
    with suppress(OSError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
