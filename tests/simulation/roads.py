"""Roads: how a machine's executor reaches a control plane: what is lost, late or unanswered."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import TypeVar

from mayfly.engine.declined import Declined
from mayfly.model.errors import GitHubRefused, MayflyError, Permanent, StaleClaim, Transient
from mayfly.model.protocol import (
    Attended,
    AttendOrder,
    ClaimOrder,
    ConfiguredOrder,
    Entrusted,
    FinishOrder,
    Granted,
    HeartbeatAnswer,
    Leased,
    Outcome,
    Redeemed,
    Registered,
    StartedAnswer,
    StartedOrder,
)
from mayfly.model.runners import ClaimId
from tests.simulation.faults import Faults
from tests.simulation.planes import Plane, Planes
from tests.simulation.processes import Process

T = TypeVar("T")

PATIENCE = {"registration": 90.0, "lease": 160.0}
USUAL_PATIENCE = 30.0
RETRY_AFTER_SECONDS = 5.0
"""What the HTTP layer tells a caller who has to come again."""
STEPS = ("claim", "registration", "finish", "started")
"""Requests an executor may crash before or after."""


class Road:
    """One run of an executor and its requests: an executor.client.ExecutorApi."""

    def __init__(
        self, planes: Planes, process: Process, faults: Faults, dice: Random, boot: str
    ) -> None:
        self._planes = planes
        self._process = process
        self._faults = faults
        self._dice = dice
        self._boot = boot
        self.cut_off_until = 0.0

    async def redeem(self, ticket: str, pool: str, nonce: str) -> Redeemed:
        async def serve(plane: Plane) -> Redeemed:
            answer = await plane.tickets.redeem(ticket, pool, nonce)
            if isinstance(answer, Declined):
                raise Permanent(answer.sentence)
            return answer

        return await self._ask("ticket", serve)

    async def attend(self, pool: str, order: AttendOrder) -> Attended:
        """The wait is the caller's own, which is the same to the engine, and quicker here."""
        executor = await self._ask("attend", lambda plane: plane.ledger.attend(pool, order))
        duty = executor.duty(order.boot)
        if duty is order.duty and not order.gone:
            await asyncio.sleep(order.wait_seconds)
        return Attended(duty=duty, reason=executor.reason, waited_seconds=order.wait_seconds)

    async def lease(self, pool: str, wait: float) -> Leased | None:
        async def serve(plane: Plane) -> Leased | None:
            found = await plane.bus.lease(pool, timedelta(seconds=wait))
            return Leased(lease=found.id) if found else None

        return await self._ask("lease", serve)

    async def claim(
        self,
        pool: str,
        machine: str,
        key: str,
        variants: tuple[str, ...],
        lease: str | None,
        *,
        own_bus: bool = False,
    ) -> Granted | None:
        order = ClaimOrder(
            pool=pool,
            machine=machine,
            boot=self._boot,
            key=key,
            variants=variants,
            lease=lease,
            own_bus=own_bus,
        )
        return await self._ask("claim", lambda plane: plane.stages.claims.claim(order))

    async def heartbeat(self, claim: str) -> HeartbeatAnswer:
        return await self._ask(
            "heartbeat", lambda plane: plane.stages.claims.heartbeat(ClaimId(claim), self._boot)
        )

    async def register(self, claim: str) -> Registered:
        return await self._ask("registration", lambda plane: plane.register(claim, self._boot))

    async def entrust(self, claim: str) -> Entrusted:
        return await self._ask(
            "registration",
            lambda plane: plane.stages.claims.entrust(ClaimId(claim), self._boot),
        )

    async def configured(self, claim: str, generation: int) -> None:
        order = ConfiguredOrder(boot=self._boot, generation=generation)
        await self._ask(
            "registration", lambda plane: plane.stages.claims.configured(ClaimId(claim), order)
        )

    async def started(
        self, claim: str, repository: str, run_id: int, run_attempt: int
    ) -> StartedAnswer:
        order = StartedOrder(
            boot=self._boot, repository=repository, run_id=run_id, run_attempt=run_attempt
        )
        return await self._ask(
            "started", lambda plane: plane.stages.claims.started(ClaimId(claim), order)
        )

    async def finish(self, claim: str, order: FinishOrder) -> None:
        await self._ask("finish", lambda plane: plane.stages.claims.finish(ClaimId(claim), order))

    def finish_order(
        self, outcome: Outcome, detail: str, *, token_spent: bool = False
    ) -> FinishOrder:
        return FinishOrder(boot=self._boot, outcome=outcome, detail=detail, token_spent=token_spent)

    async def _ask(self, verb: str, serve: Callable[[Plane], Awaitable[T]]) -> T:
        self.step(verb, "before")
        await asyncio.sleep(self._dice.uniform(0.002, 0.05))
        if self._lost("request lost", verb):
            await self._silence()
        plane = self._planes.reached()
        if plane is None:
            raise Transient("the control plane is unreachable: connection refused")
        answer = await self._served(plane, verb, serve)
        if self._lost("reply lost", verb):
            await self._silence()
        self.step(verb, "after")
        return answer

    def step(self, verb: str, when: str) -> None:
        """An executor may die here."""
        self._process.check()
        if verb in STEPS and self._faults.strikes(
            f"executor crashed {when} a step", self._boot, verb
        ):
            self._process.kill()
            self._process.check()

    def _lost(self, fault: str, verb: str) -> bool:
        cut_off = asyncio.get_running_loop().time() < self.cut_off_until
        return cut_off or self._faults.strikes(fault, self._boot, verb)

    async def _silence(self) -> None:
        await asyncio.sleep(self._dice.uniform(5.0, 30.0))
        raise Transient("the control plane is unreachable: no answer")

    async def _served(self, plane: Plane, verb: str, serve: Callable[[Plane], Awaitable[T]]) -> T:
        """The answer, as the HTTP layer at both ends would hand it on."""
        asked = plane.serve(serve)
        try:
            await asyncio.wait([asked], timeout=PATIENCE.get(verb, USUAL_PATIENCE))
        except asyncio.CancelledError:
            if verb == "lease":
                asked.cancel()  # the server sees that nobody waits any more
            raise
        if not asked.done() or asked.cancelled():
            raise Transient("the control plane is unreachable: no answer")
        error = asked.exception()
        if error is None:
            return asked.result()
        raise await self._translated(error, plane)

    async def _translated(self, error: BaseException, plane: Plane) -> MayflyError:
        match error:
            case StaleClaim():
                return StaleClaim(str(error))
            case GitHubRefused():
                return Permanent(str(error))
            case Transient():
                await asyncio.sleep(_wait_of(error, plane))
                return Transient(str(error))
            case MayflyError():
                return Permanent(f"the control plane refused: {error}")
            case _:
                return Transient("HTTP 500")


def _wait_of(error: Transient, plane: Plane) -> float:
    if error.retry_at is None:
        return RETRY_AFTER_SECONDS
    return max(1.0, (error.retry_at - plane.clock.now()).total_seconds())
