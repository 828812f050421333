"""Reflections: events that an edge reflector put on the bus, recorded first and then completed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from mayfly.model.errors import Permanent, Transient
from mayfly.model.jobs import WorkflowJobEvent
from mayfly.model.requests import EVENTS, Lease, ReflectedEvent
from mayfly.ports import Bus
from mayfly.telemetry import Telemetry

AT_ONCE = 8
"""Consumers of one control plane; what they record at the same time shares a transaction."""
WAIT = timedelta(seconds=20)
"""Of one lease."""
PATIENCE = timedelta(seconds=20)
"""For the ledger to record one event: less than a lease lasts."""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=30)
"""Between two tries while the ledger or the bus is away; it doubles from the first."""

log = structlog.get_logger("mayfly")

Record = Callable[[WorkflowJobEvent], Awaitable[object]]


class Reflections:
    """At least once: what dies between lease and record comes back by itself.

    An event that cannot be recorded though the ledger works is leased ten times and then dead; a
    ledger that is away costs an event none of its ten, because it is put back as a copy.
    """

    def __init__(
        self,
        bus: Bus,
        record: Record,
        telemetry: Telemetry,
        *,
        wait: timedelta = WAIT,
        patience: timedelta = PATIENCE,
        first_pause: timedelta = FIRST_PAUSE,
    ) -> None:
        self._bus = bus
        self._record = record
        self._telemetry = telemetry
        self._wait = wait
        self._patience = patience
        self._first_pause = first_pause
        self._taking: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Events are consumed while this is open; those that are leased are finished first."""
        workers = [asyncio.create_task(self._work()) for _ in range(AT_ONCE)]
        try:
            yield
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await asyncio.gather(*self._taking, return_exceptions=True)

    async def _work(self) -> None:
        pause = self._first_pause
        while True:
            try:
                if lease := await self._bus.lease(EVENTS, self._wait):
                    await self._taken(lease)
            except Transient as error:
                log.warning("reflection.delayed", reason=str(error))
            except Exception:  # top of the loop: the event comes back, until it is dead
                log.exception("reflection.stumbled")
            else:
                pause = self._first_pause
                continue
            await asyncio.sleep(pause.total_seconds())
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _taken(self, lease: Lease) -> None:
        """A worker that is stopped leaves the event it has to its end."""
        task = asyncio.create_task(self._take(lease))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        await asyncio.shield(task)

    async def _take(self, lease: Lease) -> None:
        message = lease.message
        if not isinstance(message, ReflectedEvent):
            # It has a shape of ours, so that the bus did not keep it apart by itself.
            await self._bus.abandon(lease.id)
            raise Permanent(f"a runner request for pool {message.pool!r} is among the events")
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                await self._record(message.event)
        except (Transient, TimeoutError) as error:
            await self._put_back(lease)
            raise Transient(f"an event cannot be recorded now: {_said(error)}") from error
        except Exception:  # top of an event: it does not take the others with it
            await self._bus.abandon(lease.id)
            raise
        await self._bus.complete(lease.id)
        self._telemetry.delivery_received()

    async def _put_back(self, lease: Lease) -> None:
        """A fresh copy first: a lease more would count, and ten of them would kill the event."""
        await self._bus.publish([lease.message])
        await self._bus.complete(lease.id)


def _said(error: Transient | TimeoutError) -> str:
    return str(error) or "the ledger does not answer"
