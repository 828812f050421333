"""Attendance: says that the executor is there, and hears what an operator wants of it.

Beside the executor's round, parked or at work, and whichever bus it leases from.
"""

import asyncio
import logging
from contextlib import suppress

from mayfly.executor.client import ExecutorApi
from mayfly.executor.logs import line
from mayfly.executor.patience import Timing, pauses
from mayfly.executor.shutdown import Shutdown, unless
from mayfly.model.errors import MayflyError
from mayfly.model.protocol import Attended, AttendOrder, Duty

log = logging.getLogger(__name__)

_GOODBYE_SECONDS = 2.0
"""Nobody waits longer for an executor that ends; unheard, it is absent after a while."""


class Attendance:
    """One long poll after the other. Its trouble is never the job's."""

    def __init__(
        self,
        client: ExecutorApi,
        pool: str,
        machine: str,
        boot: str,
        shutdown: Shutdown,
        timing: Timing,
    ) -> None:
        self._client = client
        self._pool = pool
        self._machine = machine
        self._boot = boot
        self._shutdown = shutdown
        self._timing = timing
        self._duty = Duty.SERVE

    async def keep(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        waits, silent = pauses(self._timing), False
        while True:
            asked_at, duty = loop.time(), self._duty
            try:
                attended = await self._asked()
            except MayflyError as error:
                if not silent:
                    log.warning(line("server.silent", to="attend", reason=str(error)))
                silent = True
                await asyncio.sleep(next(waits))
                continue
            silent = False
            if attended is None:
                continue  # told to end here; that is to be said
            self._told(attended)
            waited = loop.time() - asked_at
            if waited >= attended.waited_seconds / 2 and waited > 0:
                waits = pauses(self._timing)
            elif self._duty is duty:
                await asyncio.sleep(next(waits))

    async def leave(self) -> None:
        """The last word, tried once."""
        with suppress(MayflyError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._client.attend(
                    self._pool, self._order(ending=self._shutdown.drain.is_set(), gone=True)
                )

    async def _asked(self) -> Attended | None:
        """None when a signal came meanwhile."""
        ending = self._shutdown.drain.is_set()
        asking = self._client.attend(self._pool, self._order(ending=ending))
        return await asking if ending else await unless(self._shutdown.drain, asking)

    def _order(self, *, ending: bool = False, gone: bool = False) -> AttendOrder:
        return AttendOrder(
            machine=self._machine,
            boot=self._boot,
            duty=self._duty,
            ending=ending,
            gone=gone,
            wait_seconds=self._timing.attend_wait,
        )

    def _told(self, attended: Attended) -> None:
        if attended.duty is self._duty:
            return
        self._duty = attended.duty
        match attended.duty:
            case Duty.SERVE:
                log.info(line("executor.resumed"))
                self._shutdown.resume()
            case Duty.REST:
                log.info(line("executor.rested", reason=attended.reason))
                self._shutdown.rest()
            case Duty.END:
                self._shutdown.end("an operator")
