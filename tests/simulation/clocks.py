"""Clocks: virtual time as the world has it, and as a host with a wrong clock sees it."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count

EPOCH = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class SimulatedClock:
    """ports.Clock over the event loop's virtual time."""

    def __init__(self, ids: "count[int]", skew: float = 0.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._ids = ids
        self._epoch = EPOCH + timedelta(seconds=skew)

    def seconds(self) -> float:
        """Since the world began."""
        return self._loop.time()

    def now(self) -> datetime:
        return self._epoch + timedelta(milliseconds=int(self._loop.time() * 1000))

    def new_id(self) -> str:
        return f"{next(self._ids):026x}"

    def skewed(self, seconds: float) -> "SimulatedClock":
        """The same time on a host whose clock is off; ids stay unique."""
        return SimulatedClock(self._ids, seconds)
