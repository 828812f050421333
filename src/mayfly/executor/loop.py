"""The executor's round: ask for a claim, work on it, ask again, and park when nothing is needed."""

import asyncio
import ctypes
import logging
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from mayfly.executor import logs, slots
from mayfly.executor.attendance import Attendance
from mayfly.executor.claims import ClaimWork, StartedQuestion
from mayfly.executor.client import ExecutorApi, open_client
from mayfly.executor.logs import line
from mayfly.executor.patience import Timing, answered, pauses
from mayfly.executor.settings import Settings, checked
from mayfly.executor.shutdown import Shutdown, cancelled, unless
from mayfly.executor.tickets import redeemed
from mayfly.model.errors import InvalidSettings, MayflyError, Transient
from mayfly.model.launches import Ticket
from mayfly.model.protocol import Finished, Granted, Outcome
from mayfly.ports import Bus, Driver

log = logging.getLogger(__name__)

DONE, ERROR, INVALID, TOLD = 0, 1, 2, 42
_SET_DUMPABLE = 4


class OpenDriver(Protocol):
    """`open_driver` of a driver, settings filled in; the driver lives as long as the context."""

    def __call__(
        self, home: Path, started: StartedQuestion, /
    ) -> AbstractAsyncContextManager[Driver]: ...


OwnBus = Callable[[], AbstractAsyncContextManager[Bus | None]]
"""`open_bus` of a bus the executor leases from itself, its arguments filled in."""


async def run(
    settings: Settings,
    open_driver: OpenDriver,
    timing: Timing | None = None,
    *,
    open_bus: OwnBus = nullcontext,
) -> int:
    """Work until told to shut down, or for one job; the exit code (see the package).

    Without a bus of its own it leases from the control plane, which settles what it hands out.
    """
    logs.to_stderr()
    _close_to_others()
    try:
        return await _run(checked(settings), open_driver, timing or Timing(), open_bus)
    except InvalidSettings as error:
        logs.complain("settings.invalid", reason=str(error))
        return INVALID
    except MayflyError as error:
        logs.complain("executor.refused", reason=str(error))
        return ERROR
    except Exception:  # the top of the program
        log.exception(line("executor.broken"))
        return ERROR


async def _run(
    settings: Settings, open_driver: OpenDriver, timing: Timing, open_bus: OwnBus
) -> int:
    boot = uuid.uuid4().hex
    shutdown = Shutdown()
    with shutdown.listening(), slots.taken(settings.state_dir, settings.machine) as slot:
        token, machine = settings.token.reveal(), slot.machine
        if isinstance(settings.token, Ticket):
            redemption = await redeemed(settings, settings.token, shutdown, timing)
            if redemption is None:
                return TOLD
            token, machine = redemption.token, redemption.machine
        async with open_client(settings, token, boot) as client, open_bus() as bus:
            del token
            started = StartedQuestion(client, timing)
            async with open_driver(slot.directory, started) as driver:
                await driver.cleanup()
                log.info(line("executor.ready", pool=settings.pool, machine=machine))
                rounds = Rounds(settings, machine, client, driver, started, shutdown, timing, bus)
                attendance = Attendance(client, settings.pool, machine, boot, shutdown, timing)
                keeping = asyncio.create_task(attendance.keep())
                try:
                    return await rounds.run()
                finally:
                    await cancelled(keeping)
                    await attendance.leave()


class Rounds:
    """Claim first, then park: work may be waiting although nobody rings (R1)."""

    def __init__(
        self,
        settings: Settings,
        machine: str,
        client: ExecutorApi,
        driver: Driver,
        started: StartedQuestion,
        shutdown: Shutdown,
        timing: Timing,
        bus: Bus | None = None,
    ) -> None:
        self._settings = settings
        self._machine = machine
        self._client = client
        self._driver = driver
        self._started = started
        self._shutdown = shutdown
        self._timing = timing
        self._bus = bus
        self._idle_until = self._idle_deadline()

    async def run(self) -> int:
        """The exit code."""
        lease: str | None = None
        while not self._shutdown.drain.is_set():
            if self._shutdown.hold.is_set():
                await self._settle(lease, answered=False)
                lease = None
                await self._rested()
                if self._shutdown.hold.is_set() and self._now() >= self._idle_until:
                    return self._idled()
                continue
            claim = await self._claimed(lease)
            lease = None
            if claim is not None:
                finished = await self._work(claim)
                if self._settings.once and not self._shutdown.drain.is_set():
                    return exit_code(finished)
                self._idle_until = self._idle_deadline()
            elif self._now() >= self._idle_until:
                return self._idled()
            else:
                lease = await self._leased()
        await self._settle(lease, answered=False)
        return TOLD

    async def _rested(self) -> None:
        """Until it may serve again or is to end; one that costs waits no longer than otherwise."""
        until = None if self._settings.idle_seconds is None else self._idle_until
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._shutdown.serve.wait()

    def _idled(self) -> int:
        log.info(line("executor.idle", seconds=self._settings.idle_seconds))
        return DONE

    async def _claimed(self, lease: str | None) -> Granted | None:
        """A claim; None when nothing is needed, or the control plane was silent three times."""
        named = lease if self._bus is None else None
        key = uuid.uuid4().hex  # kept for every try: a lost reply must not cost a second claim
        try:
            claim = await unless(
                self._shutdown.hold,
                answered(
                    lambda: self._client.claim(
                        self._settings.pool,
                        self._machine,
                        key,
                        self._settings.variants,
                        named,
                        own_bus=self._bus is not None,
                    ),
                    "claim",
                    self._timing,
                    tries=self._timing.claim_tries,
                ),
                grace=self._timing.farewell,
            )
        except Transient:
            await self._settle(lease, answered=False)
            return None
        await self._settle(lease, answered=claim is not None or not self._shutdown.hold.is_set())
        if claim is not None:
            log.info(line("claim.granted", claim=claim.claim, variant=claim.variant))
        return claim

    async def _work(self, claim: Granted) -> Finished:
        work = ClaimWork(
            claim,
            self._client,
            self._driver,
            self._shutdown,
            self._timing,
            self._settings.prepare_timeout_seconds,
        )
        if self._shutdown.hold.is_set():
            return await work.given_back()
        self._started.claim = claim.claim
        try:
            return await work.done()
        finally:
            self._started.claim = None

    async def _leased(self) -> str | None:
        """A lease once somebody rings; None when it is time to ask all the same."""
        until = min(self._now() + self._timing.unrung, self._idle_until)
        waits = pauses(self._timing)
        while (left := until - self._now()) > 0 and not self._shutdown.hold.is_set():
            wait = min(left, self._timing.lease_wait)
            asked_at = self._now()
            try:
                lease = await unless(self._shutdown.hold, self._rung(wait))
            except Transient as error:
                log.debug(line("server.silent", to="lease", reason=str(error)))
            else:
                if lease is not None:
                    return lease
            if self._now() - asked_at < wait / 2:
                # It did not wait: somebody in between answered, and asking on would be a storm.
                await unless(self._shutdown.hold, asyncio.sleep(next(waits)))
        return None

    async def _rung(self, wait: float) -> str | None:
        """A lease, or None after `wait` seconds."""
        if self._bus is None:
            leased = await self._client.lease(self._settings.pool, wait)
            return leased.lease if leased is not None else None
        lease = await self._bus.lease(self._settings.pool, timedelta(seconds=wait))
        return lease.id if lease is not None else None

    async def _settle(self, lease: str | None, *, answered: bool) -> None:
        """End a lease of the executor's own bus: what was answered need not ring again."""
        if self._bus is None or lease is None:
            return
        try:
            await (self._bus.complete(lease) if answered else self._bus.abandon(lease))
        except Transient as error:
            log.warning(line("lease.unsettled", reason=str(error)))

    def _idle_deadline(self) -> float:
        idle = self._settings.idle_seconds
        return self._now() + (float("inf") if idle is None else idle)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def exit_code(finished: Finished) -> int:
    """What `once` ends with: the runner's own exit code where it says something."""
    if finished.exit_code:
        return finished.exit_code if finished.exit_code > 0 else 128 - finished.exit_code
    return ERROR if finished.outcome is Outcome.FAILED else DONE


def _close_to_others() -> None:
    """Processes of the same user cannot read the token out of our memory or environment."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0) != 0:
        log.warning(line("executor.readable", reason="prctl failed"))
