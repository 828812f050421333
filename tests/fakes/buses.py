"""Every bus there is, opened empty for one test, with what only a test may do to it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from mayfly.bus import memory, sql
from mayfly.ports import OperableBus
from tests.fakes.clocks import ManualClock

SUBJECTS = ("linux", "arm64")

Put = Callable[[str, bytes], Awaitable[None]]
"""Bytes for a subject, past everything that would refuse them."""


class OpenedBus(NamedTuple):
    """A bus and the clock it tells the time by."""

    bus: OperableBus
    clock: ManualClock
    put: Put
    refuses_unknown: bool = False
    """Whether publishing for a subject nobody declared is refused; else it waits for somebody."""

    def passes(self, seconds: float) -> None:
        """So much time goes by, for the bus and for whatever keeps its messages."""
        self.clock.advance(seconds)


OpenForTest = Callable[[Path], AbstractAsyncContextManager[OpenedBus]]


@asynccontextmanager
async def in_memory(folder: Path) -> AsyncIterator[OpenedBus]:
    """Nothing but this process."""
    clock = ManualClock()
    async with memory.open_bus(f"memory:{folder}", clock, SUBJECTS) as bus:
        assert isinstance(bus, memory.MemoryBus)
        yield OpenedBus(bus, clock, lambda subject, body: bus.put([(subject, body)]))


@asynccontextmanager
async def in_sqlite(folder: Path) -> AsyncIterator[OpenedBus]:
    """A file of the test's own."""
    clock = ManualClock()
    async with sql.open_bus(f"sqlite:///{folder}/mayfly.db", clock, SUBJECTS) as bus:
        assert isinstance(bus, sql.SqlBus)
        yield OpenedBus(bus, clock, lambda subject, body: bus.put([(subject, body)]))


BUSES: dict[str, OpenForTest] = {"memory": in_memory, "sqlite": in_sqlite}
"""By name; tests/contract/test_backends.py sees to it that no entry point is missing."""
