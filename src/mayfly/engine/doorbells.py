"""Doorbells: tell the bus that a pool has work, off the path of whoever found out."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog

from mayfly.model.changes import Touch
from mayfly.model.demand import doorbells
from mayfly.model.errors import MayflyError
from mayfly.model.pools import Pool
from mayfly.model.requests import RunnerRequest
from mayfly.ports import Bus
from mayfly.telemetry import Telemetry

log = structlog.get_logger("mayfly")


class Doorbells:
    """Rings soon; a ring that is lost is rung again by the reconciler."""

    def __init__(self, bus: Bus, pools: tuple[Pool, ...], telemetry: Telemetry) -> None:
        self._bus = bus
        self._maximum = {pool.name: pool.max for pool in pools}
        self._telemetry = telemetry
        self._wanted: Counter[str] = Counter()
        self._wake = asyncio.Event()

    def ring(self, touched: Mapping[str, Touch]) -> None:
        """Ring for every pool in which something opened and a slot is free (R1)."""
        for pool, touch in touched.items():
            free = self._maximum.get(pool, 0) - touch.used
            times = doorbells(opened=touch.opened, freed=touch.freed, open_=touch.open, free=free)
            self.ring_times(pool, times)

    def ring_times(self, pool: str, times: int) -> None:
        """Ring for one pool, never beyond what it can hold."""
        if times > 0:
            self._wanted[pool] = min(self._wanted[pool] + times, self._maximum.get(pool, times))
            self._wake.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Rings are sent while this is open."""
        task = asyncio.create_task(self._send())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted, self._wanted = self._wanted, Counter()
            requests = [RunnerRequest(pool=pool) for pool in wanted.elements()]
            try:
                await self._bus.publish(requests)
            except MayflyError as error:
                log.warning("doorbell.lost", reason=str(error))
            except Exception:  # top of the loop: the reconciler rings again
                log.exception("doorbell.stumbled")
            else:
                for pool, times in wanted.items():
                    self._telemetry.doorbells_rung(pool, times)
