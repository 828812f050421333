"""Doorbells: rung off the path of whoever found out, and never beyond what a pool holds."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from mayfly.bus.memory import MemoryBus
from mayfly.engine.doorbells import Doorbells
from mayfly.model.changes import PoolUse, Touch
from mayfly.model.errors import Transient
from mayfly.model.pools import Pool
from mayfly.model.requests import Message
from mayfly.telemetry import Telemetry
from tests.fakes.clocks import ManualClock

POOLS = (Pool(name="linux", max=3), Pool(name="arm64", max=2))
ONE_OPEN = {"linux": Touch(opened=1, freed=0, used=0, open=1)}
SOON = timedelta(seconds=5)


class FailingBus(MemoryBus):
    """Fails as often as it is told, then works."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__(ManualClock())
        self.failures = list(failures)
        self.failed = asyncio.Event()

    async def publish(self, messages: Sequence[Message]) -> None:
        if self.failures:
            self.failed.set()
            raise self.failures.pop(0)
        await super().publish(messages)


def doorbells(bus: MemoryBus) -> tuple[Doorbells, Telemetry]:
    telemetry = Telemetry(pool.name for pool in POOLS)
    return Doorbells(bus, POOLS, telemetry), telemetry


async def count(bus: MemoryBus, pool: str = "linux") -> int:
    """How often it rang, once the first ring has arrived."""
    found = 0
    lease = await bus.lease(pool, SOON)
    while lease is not None:
        found += 1
        await bus.complete(lease.id)
        lease = await bus.lease(pool, timedelta(0))
    return found


async def test_what_opened_is_rung_for_as_far_as_slots_are_free():
    bus = FailingBus()
    bells, telemetry = doorbells(bus)
    async with bells.open():
        bells.ring({"linux": Touch(opened=5, freed=0, used=1, open=5)})
        assert await count(bus) == 2
    assert b'mayfly_doorbell_rung_total{pool="linux"} 2.0' in telemetry.scrape()


async def test_a_full_pool_is_not_rung_for():
    bus = FailingBus()
    bells, _ = doorbells(bus)
    async with bells.open():
        bells.ring({"linux": Touch(opened=5, freed=0, used=3, open=5)})
        bells.ring({"arm64": Touch(opened=1, freed=0, used=0, open=1)})
        assert await count(bus, "arm64") == 1
        assert await bus.depth("linux") == 0


async def test_a_pool_that_is_gone_from_the_settings_is_not_rung_for():
    bus = FailingBus()
    bells, _ = doorbells(bus)
    async with bells.open():
        bells.ring({"retired": Touch(opened=1, freed=0, used=0, open=1)})
        bells.ring(ONE_OPEN)
        assert await count(bus) == 1
        assert await bus.depth("retired") == 0


async def test_what_is_rung_for_is_not_rung_for_again():
    bus = FailingBus()
    bells, _ = doorbells(bus)
    assert await bells.make_up("linux", PoolUse(used=0, queued=2, open=2)) == 2
    assert await bells.make_up("linux", PoolUse(used=0, queued=3, open=3)) == 1
    assert await bells.make_up("linux", PoolUse(used=0, queued=9, open=9)) == 0
    assert await bus.depth("linux") == 3


@pytest.mark.parametrize("failure", [Transient("the bus is away"), RuntimeError("a bug")])
async def test_a_ring_that_is_lost_does_not_silence_the_next(failure: Exception):
    bus = FailingBus(failure)
    bells, _ = doorbells(bus)
    async with bells.open():
        bells.ring(ONE_OPEN)
        async with asyncio.timeout(30):
            await bus.failed.wait()
        bells.ring(ONE_OPEN)
        assert await count(bus) == 1
