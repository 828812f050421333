"""The executor's round: ask for a claim, work on it, ask again, and park when nothing is needed."""

import asyncio
import ctypes
import logging
import uuid
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from mayfly.executor import logs, slots
from mayfly.executor.claims import ClaimWork, StartedQuestion
from mayfly.executor.client import Client, open_client
from mayfly.executor.logs import line
from mayfly.executor.patience import Timing, answered, pauses
from mayfly.executor.settings import Settings, checked
from mayfly.executor.shutdown import Shutdown, unless
from mayfly.model.errors import InvalidSettings, MayflyError, Transient
from mayfly.model.protocol import Granted, Outcome
from mayfly.ports import Driver, Finished

log = logging.getLogger(__name__)

DONE, ERROR, INVALID, TOLD = 0, 1, 2, 42
_SET_DUMPABLE = 4


class OpenDriver(Protocol):
    """`open_driver` of a driver, settings filled in; the driver lives as long as the context."""

    def __call__(
        self, home: Path, started: StartedQuestion, /
    ) -> AbstractAsyncContextManager[Driver]: ...


async def run(settings: Settings, open_driver: OpenDriver, timing: Timing | None = None) -> int:
    """Work until told to shut down, or for one job; the exit code (see the package)."""
    logs.to_stderr()
    _close_to_others()
    try:
        return await _run(checked(settings), open_driver, timing or Timing())
    except InvalidSettings as error:
        logs.complain("settings.invalid", reason=str(error))
        return INVALID
    except MayflyError as error:
        logs.complain("executor.refused", reason=str(error))
        return ERROR
    except Exception:  # the top of the program
        log.exception(line("executor.broken"))
        return ERROR


async def _run(settings: Settings, open_driver: OpenDriver, timing: Timing) -> int:
    boot = uuid.uuid4().hex
    shutdown = Shutdown()
    with shutdown.listening(), slots.taken(settings.state_dir, settings.machine) as slot:
        async with open_client(settings, boot) as client:
            started = StartedQuestion(client, timing)
            async with open_driver(slot.directory, started) as driver:
                await driver.cleanup()
                log.info(line("executor.ready", pool=settings.pool, machine=slot.machine))
                rounds = Rounds(settings, slot.machine, client, driver, started, shutdown, timing)
                return await rounds.run()


class Rounds:
    """Claim first, then park: work may be waiting although nobody rings (R1)."""

    def __init__(
        self,
        settings: Settings,
        machine: str,
        client: Client,
        driver: Driver,
        started: StartedQuestion,
        shutdown: Shutdown,
        timing: Timing,
    ) -> None:
        self._settings = settings
        self._machine = machine
        self._client = client
        self._driver = driver
        self._started = started
        self._shutdown = shutdown
        self._timing = timing
        self._idle_until = self._idle_deadline()

    async def run(self) -> int:
        """The exit code."""
        lease: str | None = None
        while not self._shutdown.drain.is_set():
            claim = await self._claimed(lease)
            lease = None
            if claim is not None:
                finished = await self._work(claim)
                if self._settings.once and not self._shutdown.drain.is_set():
                    return exit_code(finished)
                self._idle_until = self._idle_deadline()
            elif self._now() >= self._idle_until:
                log.info(line("executor.idle", seconds=self._settings.idle_seconds))
                return DONE
            else:
                lease = await self._leased()
        return TOLD

    async def _claimed(self, lease: str | None) -> Granted | None:
        """A claim; None when nothing is needed, or the control plane was silent three times."""
        key = uuid.uuid4().hex  # kept for every try: a lost reply must not cost a second claim
        try:
            claim = await unless(
                self._shutdown.drain,
                answered(
                    lambda: self._client.claim(
                        self._settings.pool, self._machine, key, self._settings.variants, lease
                    ),
                    "claim",
                    self._timing,
                    tries=self._timing.claim_tries,
                ),
                grace=self._timing.farewell,
            )
        except Transient:
            return None
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
        if self._shutdown.drain.is_set():
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
        while (left := until - self._now()) > 0 and not self._shutdown.drain.is_set():
            wait = min(left, self._timing.lease_wait)
            asked_at = self._now()
            try:
                leased = await unless(
                    self._shutdown.drain, self._client.lease(self._settings.pool, wait)
                )
            except Transient as error:
                log.debug(line("server.silent", to="lease", reason=str(error)))
            else:
                if leased is not None:
                    return leased.lease
            if self._now() - asked_at < wait / 2:
                # It did not wait: somebody in between answered, and asking on would be a storm.
                await unless(self._shutdown.drain, asyncio.sleep(next(waits)))
        return None

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
