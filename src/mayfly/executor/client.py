"""The executor API, seen from the executor: one method per verb."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol
from urllib.parse import quote

from mayfly.calls import Calls, expected, open_calls, read
from mayfly.executor.settings import Settings
from mayfly.model.protocol import (
    Attended,
    AttendOrder,
    BootOrder,
    ClaimOrder,
    ConfiguredOrder,
    Entrusted,
    FinishOrder,
    Granted,
    HeartbeatAnswer,
    Leased,
    LeaseOrder,
    Outcome,
    Registered,
    StartedAnswer,
    StartedOrder,
)

_LEASE_MARGIN_SECONDS = 10.0
_MINTING_SECONDS = 90.0  # the control plane asks GitHub meanwhile


@asynccontextmanager
async def open_client(settings: Settings, token: str, boot: str) -> AsyncIterator["Client"]:
    """A client for one run of the executor."""
    async with open_calls(
        settings.server, token, caller="executor", ca_file=settings.ca_file
    ) as calls:
        yield Client(calls, boot)


class ExecutorApi(Protocol):
    """What an executor asks its control plane, whichever way; one method per verb."""

    async def lease(self, pool: str, wait: float) -> Leased | None:
        """A runner request of the pool, or None after `wait` seconds."""

    async def attend(self, pool: str, order: AttendOrder) -> Attended:
        """What to do, once that is something else than now."""

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
        """What to do, or None when nothing is needed. The same key gets the same claim."""

    async def heartbeat(self, claim: str) -> HeartbeatAnswer:
        """Whether to go on."""

    async def register(self, claim: str) -> Registered:
        """A runner minted now. Permanent when GitHub refuses."""

    async def entrust(self, claim: str) -> Entrusted:
        """A registration token, and what to register. Permanent when GitHub refuses."""

    async def configured(self, claim: str, generation: int) -> None:
        """The runner is registered. Permanent when GitHub does not show it so. Idempotent."""

    async def started(
        self, claim: str, repository: str, run_id: int, run_attempt: int
    ) -> StartedAnswer:
        """Whether the job that began on this claim's runner was admitted."""

    async def finish(self, claim: str, order: FinishOrder) -> None:
        """The work on the claim is over. Idempotent."""

    def finish_order(
        self, outcome: Outcome, detail: str, *, token_spent: bool = False
    ) -> FinishOrder:
        """How this run of the executor ended its work."""


class Client:
    """Asks once over HTTPS; see `mayfly.calls` for how refusals and silence are told apart."""

    def __init__(self, calls: Calls, boot: str) -> None:
        self._calls = calls
        self._boot = boot

    async def lease(self, pool: str, wait: float) -> Leased | None:
        order = LeaseOrder(wait_seconds=wait)
        path = f"/v1/pools/{quote(pool, safe='')}/lease"
        return read(await self._calls.post(path, order, wait + _LEASE_MARGIN_SECONDS), Leased)

    async def attend(self, pool: str, order: AttendOrder) -> Attended:
        path = f"/v1/pools/{quote(pool, safe='')}/attend"
        seconds = order.wait_seconds + _LEASE_MARGIN_SECONDS
        return expected(read(await self._calls.post(path, order, seconds), Attended))

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
        return read(await self._calls.post("/v1/claims", order), Granted)

    async def heartbeat(self, claim: str) -> HeartbeatAnswer:
        body = await self._calls.post(_path(claim, "heartbeat"), BootOrder(boot=self._boot))
        return expected(read(body, HeartbeatAnswer))

    async def register(self, claim: str) -> Registered:
        order = BootOrder(boot=self._boot)
        body = await self._calls.post(_path(claim, "registration"), order, _MINTING_SECONDS)
        return expected(read(body, Registered))

    async def entrust(self, claim: str) -> Entrusted:
        order = BootOrder(boot=self._boot)
        path = _path(claim, "registration-token")
        return expected(read(await self._calls.post(path, order, _MINTING_SECONDS), Entrusted))

    async def configured(self, claim: str, generation: int) -> None:
        order = ConfiguredOrder(boot=self._boot, generation=generation)
        await self._calls.post(_path(claim, "configured"), order, _MINTING_SECONDS)

    async def started(
        self, claim: str, repository: str, run_id: int, run_attempt: int
    ) -> StartedAnswer:
        order = StartedOrder(
            boot=self._boot, repository=repository, run_id=run_id, run_attempt=run_attempt
        )
        return expected(read(await self._calls.post(_path(claim, "started"), order), StartedAnswer))

    async def finish(self, claim: str, order: FinishOrder) -> None:
        await self._calls.post(_path(claim, "finish"), order)

    def finish_order(
        self, outcome: Outcome, detail: str, *, token_spent: bool = False
    ) -> FinishOrder:
        return FinishOrder(boot=self._boot, outcome=outcome, detail=detail, token_spent=token_spent)


def _path(claim: str, verb: str) -> str:
    return f"/v1/claims/{quote(claim, safe='')}/{verb}"
