"""Calls to a platform's HTTP API: one try, a deadline, and silence in whatever shape Transient."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from mayfly.model.errors import InvalidSettings, Transient
from mayfly.model.httpdates import http_date
from mayfly.ports import Clock

PATIENCE = timedelta(seconds=30)
"""For one answer; whoever asked asks again."""
_CONNECT = timedelta(seconds=5)
_MOST_DIGITS = 9  # more are no seconds anybody means
_LONGEST_DELAY = timedelta(hours=1)
"""Whoever names a later time is asked again before it: it may be a mistake of theirs."""


@asynccontextmanager
async def open_http(
    url: str, *, ca_file: Path | None = None, patience: timedelta = PATIENCE
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one platform: it repeats nothing, and follows nobody to another place."""
    seconds = patience.total_seconds()
    async with httpx.AsyncClient(
        base_url=_address(url),
        verify=_trusted(ca_file),
        timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT.total_seconds())),
        # A watch keeps its connection, and takes it from nobody else.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        follow_redirects=False,
        headers={"User-Agent": "mayfly-launcher"},
    ) as http:
        yield http


async def sent(http: httpx.AsyncClient, request: httpx.Request, platform: str) -> httpx.Response:
    """Its answer, whatever that is. Transient when there is none; it may have taken effect."""
    try:
        async with asyncio.timeout(http.timeout.read):  # of the whole answer, however it trickles
            return await http.send(request)
    except (httpx.RequestError, TimeoutError) as error:
        raise Transient(
            f"{platform} cannot be reached: {type(error).__name__} {error}".strip()
        ) from error


@asynccontextmanager
async def streamed(
    http: httpx.AsyncClient, request: httpx.Request, platform: str, lull: float
) -> AsyncIterator[httpx.Response]:
    """An answer that goes on; only its beginning is waited for as for any other.

    Transient when it breaks off, or says nothing for so many seconds longer than that.
    """
    patience = http.timeout.read or 0.0
    request.extensions["timeout"] = {**http.timeout.as_dict(), "read": patience + lull}
    try:
        async with asyncio.timeout(patience):
            response = await http.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()
    except (httpx.RequestError, TimeoutError) as error:
        raise Transient(f"{platform} broke off: {type(error).__name__} {error}".strip()) from error


async def lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Of what is streamed; a line of JSON may hold what others take for the end of one."""
    rest = b""
    async for some in response.aiter_bytes():
        *whole, rest = (rest + some).split(b"\n")
        for line in whole:
            if line.strip():
                yield line


def retry_at(headers: Mapping[str, str], clock: Clock) -> datetime | None:
    """Retry-After: seconds, or an HTTP date. None when it says nothing of use."""
    text, latest = headers.get("retry-after", ""), clock.now() + _LONGEST_DELAY
    if text.isdecimal() and len(text) <= _MOST_DIGITS:
        return min(latest, clock.now() + timedelta(seconds=int(text)))
    at = http_date(text)
    return None if at is None else min(latest, at)


def is_silence(status: int) -> bool:
    """Whether the platform, or something in front of it, has not really answered."""
    return status >= 500 or status in {408, 425}


def _address(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidSettings(f"{url!r} is not a URL such as https://host: {error}") from error


def _trusted(ca_file: Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # an SSLError is an OSError, too
        raise InvalidSettings(f"ca_file {ca_file} cannot be used: {error}") from error
