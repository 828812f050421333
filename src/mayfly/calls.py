"""Calls to a control plane over HTTPS: every refusal typed, silence in whatever shape Transient."""

import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import httpx
import msgspec

from mayfly.model.errors import (
    InvalidSettings,
    MayflyError,
    Permanent,
    StaleClaim,
    Transient,
    Unauthentic,
)
from mayfly.model.httpdates import http_date

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds for an answer that waits for nothing."""
_CONNECT_SECONDS = 5.0
_PROBLEM = "application/problem+json"
_LONGEST_DETAIL = 500


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Problem details (RFC 9457), as far as we read them."""

    title: str = ""
    detail: str = ""


@asynccontextmanager
async def open_calls(
    server: str, token: str, *, caller: str, ca_file: Path | None = None
) -> AsyncIterator["Calls"]:
    """Calls in the name of `caller`, who has the token; `caller` stands in error texts."""
    verify = ssl.create_default_context(cafile=ca_file) if ca_file else True
    async with httpx.AsyncClient(
        base_url=server,
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "User-Agent": f"mayfly-{caller}",
        },
        verify=verify,
    ) as http:
        yield Calls(http, server, caller)


class Calls:
    """Asks once. Silence is Transient; 410 is StaleClaim; a token that does not do Unauthentic."""

    def __init__(self, http: httpx.AsyncClient, server: str, caller: str) -> None:
        self._http = http
        self._server = server
        self._caller = caller

    async def get(self, path: str, kind: type[T]) -> T:
        """What is there, as `kind`."""
        return expected(read(await self._ask("GET", path, None, PATIENCE), kind))

    async def post(self, path: str, order: object = None, seconds: float = PATIENCE) -> bytes:
        """The body of a 2xx answer."""
        content = None if order is None else msgspec.json.encode(order)
        return await self._ask("POST", path, content, seconds)

    async def _ask(self, method: str, path: str, content: bytes | None, seconds: float) -> bytes:
        try:
            response = await self._http.request(
                method,
                path,
                content=content,
                timeout=httpx.Timeout(seconds, connect=_CONNECT_SECONDS),
            )
        except httpx.RequestError as error:
            raise Transient(f"{self._server} is unreachable: {_reason(error)}") from error
        if response.is_success:
            return response.content
        raise self._error(response)

    def _error(self, response: httpx.Response) -> MayflyError:
        status, said = response.status_code, _said(response)
        match status:
            case 401:
                return Unauthentic(
                    f"{self._server} does not know this {self._caller}'s token ({said}); make a "
                    f"new one and put it where this {self._caller} reads it"
                )
            case 403:
                return Unauthentic(
                    f"{self._server} forbids this {self._caller} what it asks for: {said}"
                )
            case 410:
                return StaleClaim(said)
            case 502 if _is_problem(response):
                return Permanent(said)  # the control plane's word for "GitHub refused"
            case _ if status >= 500 or status in {408, 429}:
                return Transient(said, retry_at=_retry_at(response))
            case _:
                return Permanent(f"{self._server} refused with {status}: {said}")


def read(body: bytes, kind: type[T]) -> T | None:
    """An answer as `kind`; None when it is empty."""
    if not body:
        return None
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        # Most likely something between us and the control plane spoke in its place.
        raise Transient(f"the answer is not one of the control plane's: {error}") from error


def expected(answer: T | None) -> T:
    """The answer, which must not be empty."""
    if answer is None:
        raise Transient("the control plane's answer is empty")
    return answer


def checked_server(server: str, *, plain_http: bool) -> SplitResult:
    """The parts of a control plane's URL; InvalidSettings when a token must not be sent there."""
    url = _parts(server)
    if url.scheme == "http" and not (plain_http or _is_loopback(url.hostname or "")):
        raise InvalidSettings(
            f"server {server!r}: the token would travel unencrypted; use https://, or "
            "set plain_http inside a network you trust"
        )
    return url


def checked_ca_file(path: Path | None) -> Path | None:
    """The file; InvalidSettings when there is none."""
    if path is not None and not path.is_file():
        raise InvalidSettings(f"ca_file {path} does not exist")
    return path


def _parts(server: str) -> SplitResult:
    """The URL of a server, with a host."""
    try:
        url = urlsplit(server)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        usable = False
    if not usable:
        raise InvalidSettings(f"server {server!r} is not a URL such as https://host")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
    return http_date(text)


def _reason(error: httpx.RequestError) -> str:
    return f"{type(error).__name__} {error}".strip()
