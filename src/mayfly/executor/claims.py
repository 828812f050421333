"""One claim, from granted to finished: prepare, register, run, clean up, finish."""

import asyncio
import logging

from mayfly.executor.client import ExecutorApi
from mayfly.executor.logs import complain, line
from mayfly.executor.patience import Timing, answered
from mayfly.executor.shutdown import Shutdown, cancelled, unless
from mayfly.model.errors import (
    MayflyError,
    NotFound,
    Permanent,
    StaleClaim,
    Unauthentic,
)
from mayfly.model.protocol import Finished, Granted, Order, Outcome, Registered, StartedAnswer
from mayfly.ports import Driver, TokenDriver

log = logging.getLogger(__name__)


class StartedQuestion:
    """What a driver's job-start guard asks; the driver holds it before there is a claim."""

    def __init__(self, client: ExecutorApi, timing: Timing) -> None:
        self._client = client
        self._timing = timing
        self.claim: str | None = None

    async def __call__(self, *, repository: str, run_id: int, run_attempt: int) -> StartedAnswer:
        """Asked until answered; the guard bounds the wait. A MayflyError means no."""
        claim = self.claim
        if claim is None:
            raise StaleClaim("this executor holds no claim")
        answer = await answered(
            lambda: self._client.started(claim, repository, run_id, run_attempt),
            "started",
            self._timing,
        )
        log.info(
            line("job.started", claim=claim, repo=repository, run=run_id, allowed=answer.allowed)
        )
        return answer


class ClaimWork:
    """The work on one claim; `done` once."""

    def __init__(
        self,
        claim: Granted,
        client: ExecutorApi,
        driver: Driver,
        shutdown: Shutdown,
        timing: Timing,
        prepare_timeout: float,
    ) -> None:
        self._claim = claim
        self._client = client
        self._driver = driver
        self._shutdown = shutdown
        self._timing = timing
        self._prepare_timeout = prepare_timeout
        self._token_spent: bool | None = None
        """Whether nobody has a registration token of the claim any more; None: nobody ever had."""

    async def done(self) -> Finished:
        """How it ended, once the control plane knows it. The driver has cleaned up."""
        beating = asyncio.create_task(self._heartbeats())
        try:
            finished = await self._worked(beating)
            await self._cleaned_up()
        finally:
            await cancelled(beating)
        await self._finish(finished)
        return finished

    async def given_back(self) -> Finished:
        """Granted while we were told to take no more: nothing was begun."""
        finished = Finished(Outcome.STOPPED, None, "the executor was told to take no more")
        await self._finish(finished)
        return finished

    async def _worked(self, beating: asyncio.Task[str]) -> Finished:
        """The runner's end, or what ended it before."""
        serving = asyncio.create_task(self._served())
        stopping = asyncio.create_task(self._shutdown.stop.wait())
        try:
            await asyncio.wait({serving, beating, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                return serving.result()
            reason = beating.result() if beating.done() else "the executor was told to stop"
            log.info(line("claim.stopped", claim=self._claim.claim, reason=reason))
            return Finished(Outcome.STOPPED, None, reason)
        finally:
            await cancelled(serving, stopping)

    async def _served(self) -> Finished:
        try:
            registered = await self._registered()
            running = self._driver.run(registered.name, registered.jit_config)
            del registered  # the JIT config is the driver's now, for as short as it can
            return await running
        except StaleClaim as gone:
            return Finished(Outcome.STOPPED, None, str(gone))
        except MayflyError as error:
            return Finished(Outcome.FAILED, None, str(error))
        except Exception as error:  # the top of a claim: the control plane must hear of it
            log.exception(line("claim.broken", claim=self._claim.claim))
            return Finished(Outcome.FAILED, None, f"internal error: {type(error).__name__}")

    async def _registered(self) -> Registered:
        """Prepare first: a registration must be used within minutes."""
        prepared = False
        try:
            async with asyncio.timeout(self._prepare_timeout):
                await self._driver.prepare(self._claim)
                prepared = True
                match self._driver:
                    case TokenDriver() as own:
                        registered = await self._configured(own)
                    case _:
                        registered = await answered(
                            lambda: self._client.register(self._claim.claim),
                            "registration",
                            self._timing,
                        )
        except TimeoutError:
            late = f"no runner was registered within {self._prepare_timeout:.0f} s"
            if prepared:  # the control plane or GitHub was silent, not this machine's fault
                raise StaleClaim(late) from None
            raise Permanent(late) from None
        log.info(line("runner.registered", claim=self._claim.claim, runner=registered.name))
        return registered

    async def _configured(self, driver: TokenDriver) -> Registered:
        """The driver's own program registers the runner, with a token the board never sees."""
        claim = self._claim.claim
        self._token_spent = False
        order = await answered(
            lambda: self._client.entrust(claim), "registration-token", self._timing
        )
        settings = await driver.configure(order)
        name, generation = order.name, order.generation
        del order  # the token is spent
        await answered(
            lambda: self._client.configured(claim, generation), "configured", self._timing
        )
        return Registered(name=name, generation=generation, jit_config=settings)

    async def _heartbeats(self) -> str:
        """Beat from now on; the reason, when the control plane says stop."""
        while True:
            await asyncio.sleep(self._claim.heartbeat_seconds)
            try:
                answer = await answered(
                    lambda: self._client.heartbeat(self._claim.claim), "heartbeat", self._timing
                )
            except StaleClaim as gone:
                return str(gone)
            except (Permanent, Unauthentic) as refused:
                # Not "gone", so a job that runs is not ended for it.
                complain("heartbeat.refused", claim=self._claim.claim, reason=str(refused))
                continue
            if answer.order is Order.STOP:
                return answer.reason or "the control plane said stop"

    async def _cleaned_up(self) -> None:
        try:
            await self._driver.cleanup()
            if self._token_spent is not None and isinstance(self._driver, TokenDriver):
                self._token_spent = self._driver.token_spent
        except MayflyError as error:
            # The next prepare tries again and fails its claim, so the machine gets the blame.
            complain("cleanup.failed", claim=self._claim.claim, reason=str(error))

    async def _finish(self, finished: Finished) -> None:
        order = self._client.finish_order(
            finished.outcome, finished.detail, token_spent=bool(self._token_spent)
        )
        try:
            await unless(
                self._shutdown.stop,
                answered(
                    lambda: self._client.finish(self._claim.claim, order), "finish", self._timing
                ),
                grace=self._timing.farewell,
            )
        except StaleClaim:
            pass  # the ledger ended it first
        except (Permanent, Unauthentic, NotFound) as refused:
            complain("finish.refused", claim=self._claim.claim, reason=str(refused))
        log.info(
            line(
                "claim.finished",
                claim=self._claim.claim,
                outcome=finished.outcome,
                exit_code=finished.exit_code,
                detail=finished.detail,
            )
        )
