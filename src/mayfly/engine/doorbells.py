"""Doorbells: tell the bus that a pool has work, off the path of whoever found out."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from mayfly.model.changes import PoolUse, Touch
from mayfly.model.demand import doorbells
from mayfly.model.errors import MayflyError
from mayfly.model.pools import Pool
from mayfly.model.requests import RunnerRequest
from mayfly.ports import Bus
from mayfly.telemetry import Telemetry

QUIET = timedelta(milliseconds=20)
"""Doorbells that wait mean that nobody waits for them, so the next look is in no hurry."""

log = structlog.get_logger("mayfly")


class Doorbells:
    """Rings soon; a ring that is lost is rung again by the reconciler."""

    def __init__(self, bus: Bus, pools: tuple[Pool, ...], telemetry: Telemetry) -> None:
        self._bus = bus
        self._maximum = {pool.name: pool.max for pool in pools}
        self._telemetry = telemetry
        self._open: dict[str, tuple[int, int]] = {}
        self._wake = asyncio.Event()

    def ring(self, touched: Mapping[str, Touch]) -> None:
        """Ring for every pool in which something opened or a slot became free (R1)."""
        for pool, touch in touched.items():
            free = self._maximum.get(pool, 0) - touch.used
            if min(touch.open, free) > 0:
                self._open[pool] = (touch.open, free)
                self._wake.set()

    async def make_up(self, pool: str, use: PoolUse) -> int:
        """Ring now for what is open and not rung for; how often."""
        return await self._ring(pool, use.open, self._maximum.get(pool, 0) - use.used)

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
            known, self._open = self._open, {}
            rung = 0
            for pool, (open_, free) in known.items():
                try:
                    rung += await self._ring(pool, open_, free)
                except MayflyError as error:
                    log.warning("doorbell.lost", pool=pool, reason=str(error))
                except Exception:  # top of the loop: the reconciler rings again
                    log.exception("doorbell.stumbled", pool=pool)
            if not rung:
                await asyncio.sleep(QUIET.total_seconds())

    async def _ring(self, pool: str, open_: int, free: int) -> int:
        if min(open_, free) <= 0:
            return 0
        times = doorbells(open_=open_, free=free, depth=await self._bus.depth(pool))
        if times:
            await self._bus.publish([RunnerRequest(pool=pool)] * times)
            self._telemetry.doorbells_rung(pool, times)
        return times
