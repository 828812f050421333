"""A consumer in a process of its own, to be killed: it leases one message, says so, and hangs.

Its standard input says where and when it is, because an address may hold a password.
"""

import asyncio
import sys
from datetime import datetime, timedelta
from importlib.metadata import entry_points
from typing import cast

import msgspec

from mayfly.backends import OpenBus
from tests.fakes.clocks import ManualClock

HELD = b"held\n"


class Place(msgspec.Struct):
    """A bus as another process opens it, by its entry point."""

    backend: str
    url: str
    now: datetime
    subject: str = "linux"


async def hold(place: Place) -> None:
    """Until it is killed."""
    (point,) = entry_points(group="mayfly.buses", name=place.backend)
    open_bus = cast("OpenBus", point.load().open_bus)
    clock = ManualClock(place.now, series="c")
    async with open_bus(place.url, clock, [place.subject]) as bus:
        assert await bus.lease(place.subject, timedelta(seconds=20)), "nothing waits"
        sys.stdout.buffer.write(HELD)
        sys.stdout.buffer.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(hold(msgspec.json.decode(sys.stdin.buffer.readline(), type=Place)))
