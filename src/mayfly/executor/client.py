"""The executor API, seen from the executor: one method per verb, every refusal typed."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from mayfly.executor.settings import Settings
from mayfly.model.errors import MayflyError, Permanent, StaleClaim, Transient, Unauthentic
from mayfly.model.protocol import (
    BootOrder,
    ClaimOrder,
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

T = TypeVar("T")

_SECONDS = 30.0
_LEASE_MARGIN_SECONDS = 10.0
_MINTING_SECONDS = 90.0  # the control plane asks GitHub meanwhile
_PROBLEM = "application/problem+json"
_LONGEST_DETAIL = 500


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Problem details (RFC 9457), as far as we read them."""

    title: str = ""
    detail: str = ""


@asynccontextmanager
async def open_client(settings: Settings, boot: str) -> AsyncIterator["Client"]:
    """A client for one run of the executor."""
    verify = ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else True
    async with httpx.AsyncClient(
        base_url=settings.server,
        headers={
            "Authorization": f"Bearer {settings.token.reveal()}",
            "Content-Type": "application/json",
            "User-Agent": "mayfly-executor",
        },
        timeout=httpx.Timeout(_SECONDS, connect=5.0),
        verify=verify,
    ) as http:
        yield Client(http, settings.server, boot)


class Client:
    """Asks once. Silence, in whatever shape, is Transient; 410 is StaleClaim."""

    def __init__(self, http: httpx.AsyncClient, server: str, boot: str) -> None:
        self._http = http
        self._server = server
        self._boot = boot

    async def lease(self, pool: str, wait: float) -> Leased | None:
        """A runner request of the pool, or None after `wait` seconds."""
        order = LeaseOrder(wait_seconds=wait)
        path = f"/v1/pools/{quote(pool, safe='')}/lease"
        return _read(await self._post(path, order, wait + _LEASE_MARGIN_SECONDS), Leased)

    async def claim(
        self, pool: str, machine: str, key: str, variants: tuple[str, ...], lease: str | None
    ) -> Granted | None:
        """What to do, or None when nothing is needed. The same key gets the same claim."""
        order = ClaimOrder(
            pool=pool, machine=machine, boot=self._boot, key=key, variants=variants, lease=lease
        )
        return _read(await self._post("/v1/claims", order), Granted)

    async def heartbeat(self, claim: str) -> HeartbeatAnswer:
        """Whether to go on."""
        body = await self._post(_path(claim, "heartbeat"), BootOrder(boot=self._boot))
        return _expected(_read(body, HeartbeatAnswer))

    async def register(self, claim: str) -> Registered:
        """A runner minted now. Permanent when GitHub refuses."""
        order = BootOrder(boot=self._boot)
        body = await self._post(_path(claim, "registration"), order, _MINTING_SECONDS)
        return _expected(_read(body, Registered))

    async def started(
        self, claim: str, repository: str, run_id: int, run_attempt: int
    ) -> StartedAnswer:
        """Whether the job that began on this claim's runner was admitted."""
        order = StartedOrder(
            boot=self._boot, repository=repository, run_id=run_id, run_attempt=run_attempt
        )
        return _expected(_read(await self._post(_path(claim, "started"), order), StartedAnswer))

    async def finish(self, claim: str, order: FinishOrder) -> None:
        """The work on the claim is over. Idempotent."""
        await self._post(_path(claim, "finish"), order)

    def finish_order(self, outcome: Outcome, detail: str) -> FinishOrder:
        """How this run of the executor ended its work."""
        return FinishOrder(boot=self._boot, outcome=outcome, detail=detail)

    async def _post(self, path: str, order: object, seconds: float = _SECONDS) -> bytes:
        """The body of a 2xx answer."""
        try:
            response = await self._http.post(
                path,
                content=msgspec.json.encode(order),
                timeout=httpx.Timeout(seconds, connect=5.0),
            )
        except httpx.RequestError as error:
            raise Transient(f"{self._server} is unreachable: {_reason(error)}") from error
        if response.is_success:
            return response.content
        raise _error(response, self._server)


def _path(claim: str, verb: str) -> str:
    return f"/v1/claims/{quote(claim, safe='')}/{verb}"


def _read(body: bytes, kind: type[T]) -> T | None:
    if not body:
        return None
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        # Most likely something between us and the control plane spoke in its place.
        raise Transient(f"the answer is not one of the control plane's: {error}") from error


def _expected(answer: T | None) -> T:
    if answer is None:
        raise Transient("the control plane's answer is empty")
    return answer


def _error(response: httpx.Response, server: str) -> MayflyError:
    status, said = response.status_code, _said(response)
    match status:
        case 401:
            return Unauthentic(
                f"{server} does not know this executor's token ({said}); make a new one and put "
                "it where this executor reads it"
            )
        case 403:
            return Unauthentic(f"{server} forbids this executor what it asks for: {said}")
        case 410:
            return StaleClaim(said)
        case 502 if _is_problem(response):
            return Permanent(said)  # the control plane's word for "GitHub refused"
        case _ if status >= 500 or status in {408, 429}:
            return Transient(said, retry_at=_retry_at(response))
        case _:
            return Permanent(f"{server} refused with {status}: {said}")


def _said(response: httpx.Response) -> str:
    """The problem's own sentence, or the status; never a body of unknown origin."""
    status = f"HTTP {response.status_code}"
    if not _is_problem(response):
        return status
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        return status
    return (problem.detail or problem.title or status)[:_LONGEST_DETAIL]


def _is_problem(response: httpx.Response) -> bool:
    return str(response.headers.get("content-type", "")).split(";")[0].strip() == _PROBLEM


def _retry_at(response: httpx.Response) -> datetime | None:
    """Retry-After: seconds, or an HTTP date."""
    text = response.headers.get("retry-after", "")
    if text.isdecimal() and len(text) < 10:
        return datetime.now(UTC) + timedelta(seconds=int(text))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _reason(error: httpx.RequestError) -> str:
    return f"{type(error).__name__} {error}".strip()
