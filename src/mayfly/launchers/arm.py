"""Azure Resource Manager, asked as a managed identity; its refusals become our errors here.

The SDK for this API would send a POST again after a 500, 503 or 504, and a start that is sent
twice starts two executors, so the few calls are made here.
Source: azure-core, `RetryPolicy`; https://learn.microsoft.com/rest/api/containerapps/jobs
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError

from mayfly.launchers import answers
from mayfly.launchers.errands import withheld
from mayfly.model.errors import InvalidSettings, MayflyError, Permanent, Transient
from mayfly.model.launches import Ticket
from mayfly.ports import Clock

T = TypeVar("T")

PACE = timedelta(milliseconds=200)
"""Between two calls that change something: half of what a principal may do in a region.

Source: https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
"""
_API_VERSION = "2025-07-01"
_MOST_PAGES = 50
_PLATFORM = "Azure Resource Manager"


class _Said(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Refusal(msgspec.Struct):
    error: _Said = _Said()


class _Page(msgspec.Struct):
    value: list[dict[str, Any]]
    next_link: str | None = msgspec.field(name="nextLink", default=None)


class Arm:
    """Asks in one name, once, and not before it was told to when it was slowed down."""

    def __init__(
        self, http: httpx.AsyncClient, credential: AsyncTokenCredential, scope: str, clock: Clock
    ) -> None:
        self._http = http
        self._credential = credential
        self._scope = scope
        self._clock = clock
        self._not_before: datetime | None = None
        self._turn = asyncio.Lock()
        self._next = 0.0

    async def get(self, path: str, kind: type[T], *, right: str) -> T:
        """What is there. `right` is said to whoever has to give it."""
        return _decoded((await self._ask("GET", path, right=right)).content, kind)

    async def pages(self, path: str, *, right: str) -> list[dict[str, Any]]:
        """All of a list."""
        found: list[dict[str, Any]] = []
        for _ in range(_MOST_PAGES):
            page = await self.get(path, _Page, right=right)
            found += page.value
            if not page.next_link:
                return found
            path = self._inside(page.next_link)
        raise Transient(f"{_PLATFORM} lists more than {_MOST_PAGES} pages")

    async def post(
        self, path: str, body: object = None, *, right: str, ticket: Ticket | None = None
    ) -> None:
        """Have something done; done or accepted when it returns. It is not repeated."""
        await self._paced()
        await self._ask("POST", path, body, right=right, ticket=ticket)

    async def _ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        right: str,
        ticket: Ticket | None = None,
    ) -> httpx.Response:
        if self._not_before is not None and self._clock.now() < self._not_before:
            raise Transient(f"{_PLATFORM} has asked us to wait", retry_at=self._not_before)
        request = self._http.build_request(
            method,
            path,
            params=None if "api-version=" in path else {"api-version": _API_VERSION},
            content=None if body is None else msgspec.json.encode(body),
            headers={
                "Authorization": f"Bearer {await self._token()}",
                "Content-Type": "application/json",
            },
        )
        response = await answers.sent(self._http, request, _PLATFORM)
        if response.is_success:
            return response
        raise self._error(response, right, ticket)

    async def _token(self) -> str:
        try:
            async with asyncio.timeout(answers.PATIENCE.total_seconds()):
                return (await self._credential.get_token(self._scope)).token
        except ClientAuthenticationError as error:
            # The SDK says the same of an identity that is not there and of one it cannot reach.
            raise Transient(
                "Azure gives this machine no token; give it a managed identity, and name the "
                "identity in client_id when it has several"
            ) from error
        except (AzureError, TimeoutError) as error:
            raise Transient(f"Azure's identities cannot be reached ({type(error).__name__})") from (
                error
            )

    async def _paced(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(max(0.0, self._next - loop.time()))
            self._next = loop.time() + PACE.total_seconds()

    def _inside(self, link: str) -> str:
        """A link of theirs as a path; our token goes nowhere else."""
        parts, own = urlsplit(link), self._http.base_url
        if (parts.scheme, parts.netloc.lower()) != (own.scheme, own.netloc.decode()):
            raise Permanent(f"{_PLATFORM} sends us to another host for the next page")
        return f"{parts.path}?{parts.query}"

    def _error(self, response: httpx.Response, right: str, ticket: Ticket | None) -> MayflyError:
        """The one table from their refusals to ours."""
        said, at = _said(response, ticket), answers.retry_at(response.headers, self._clock)
        match response.status_code:
            case 401:
                ours: MayflyError = Permanent(
                    f"{_PLATFORM} does not accept our identity's token: {said}"
                )
            case 429:
                self._not_before = at
                ours = Transient(f"{_PLATFORM} slows us down: {said}", retry_at=at)
            # An environment out of cores is refused with one of several codes and statuses.
            case _ if "quota" in said.lower():
                ours = Transient(f"Azure has no room: {said}", retry_at=at)
            case 403:
                ours = Permanent(f"{_PLATFORM} forbids it; {right} ({said})")
            case 404:
                ours = Missing(f"{_PLATFORM} does not find it: {said}")
            case 409:
                ours = Transient(f"{_PLATFORM} is at it already: {said}", retry_at=at)
            case status if answers.is_silence(status):
                ours = Transient(f"{_PLATFORM} failed: {said}", retry_at=at)
            case _:
                ours = Permanent(f"{_PLATFORM} refused: {said}")
        return ours


class Missing(Permanent):
    """There is no such resource."""


@asynccontextmanager
async def open_arm(endpoint: str, client_id: str | None, clock: Clock) -> AsyncIterator[Arm]:
    """ARM at `endpoint`; nothing is asked of it yet."""
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 - half a second

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(answers.open_http(endpoint))
        credential = await stack.enter_async_context(
            DefaultAzureCredential(
                managed_identity_client_id=client_id,
                retry_total=0,  # whoever asks asks again
            )
        )
        yield Arm(http, credential, f"{endpoint.rstrip('/')}/.default", clock)


def checked_endpoint(endpoint: str) -> str:
    """The endpoint; InvalidSettings when a token must not be sent there."""
    try:
        parts = urlsplit(endpoint)
        loopback = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        secure = parts.scheme == "https" or (loopback and parts.scheme == "http")
        usable = secure and parts.hostname and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        usable = False
    if not usable:
        raise InvalidSettings(
            f"endpoint {endpoint!r} is not like https://management.azure.com; "
            "http:// goes only to this machine"
        )
    return endpoint


def _said(response: httpx.Response, ticket: Ticket | None) -> str:
    try:
        said = msgspec.json.decode(response.content, type=_Refusal).error
    except msgspec.DecodeError:
        said = _Said()
    if not (said.code or said.message):
        return f"HTTP {response.status_code}"
    return withheld(f"{said.code}: {said.message}", ticket)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Transient(f"an answer of {_PLATFORM} cannot be read: {error}") from error
