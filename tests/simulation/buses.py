"""The bus as one process meets it: doorbells are lost and doubled on their way."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from mayfly.model.requests import Lease, Message
from mayfly.ports import Bus
from tests.simulation.faults import Faults
from tests.simulation.processes import Process


class BadBus:
    """ports.Bus over a shared one."""

    def __init__(self, bus: Bus, process: Process, faults: Faults, rung: Counter[str]) -> None:
        self._bus = bus
        self._process = process
        self._faults = faults
        self._rung = rung

    async def publish(self, messages: Sequence[Message]) -> None:
        self._process.check()
        arriving: list[Message] = []
        for message in messages:
            self._rung[message.subject] += 1
            if not self._faults.strikes("doorbell lost"):
                doubled = self._faults.strikes("doorbell doubled")
                arriving.extend([message] * (2 if doubled else 1))
        await self._bus.publish(arriving)

    async def lease(self, subject: str, wait: timedelta) -> Lease | None:
        self._process.check()
        return await self._bus.lease(subject, wait)

    async def complete(self, lease_id: str) -> None:
        self._process.check()
        await self._bus.complete(lease_id)

    async def abandon(self, lease_id: str) -> None:
        self._process.check()
        await self._bus.abandon(lease_id)

    async def depth(self, subject: str) -> int:
        self._process.check()
        return await self._bus.depth(subject)
