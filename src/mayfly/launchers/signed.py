"""Orders posted to a URL of the operator, signed as Standard Webhooks are.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec

from mayfly.calls import checked_ca_file, checked_server
from mayfly.launchers import answers
from mayfly.launchers.errands import withheld
from mayfly.model.errors import InvalidSettings, MayflyError, Permanent, Transient
from mayfly.model.launches import Ticket
from mayfly.ports import Clock

_PREFIX = "whsec_"
_SHORTEST_KEY = 24
"""Bytes, as the specification asks for."""


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


class Url:
    """Asks once; the same order is asked again under the same id."""

    def __init__(
        self, http: httpx.AsyncClient, url: str, key: bytes, largest: int, clock: Clock
    ) -> None:
        self._http = http
        self._url = url
        self._platform = urlsplit(url).hostname or url
        self._key = key
        self._largest = largest
        self._clock = clock

    async def __call__(self, order: bytes, key: str, ticket: Ticket | None = None) -> bytes:
        """Transient for 408, 429 and 5xx, Permanent for any other refusal."""
        at = str(int(self._clock.now().timestamp()))
        request = self._http.build_request(
            "POST",
            self._url,
            content=order,
            headers={
                "Content-Type": "application/json",
                "webhook-id": key,
                "webhook-timestamp": at,
                "webhook-signature": signature(self._key, key, at, order),
            },
        )
        try:
            async with asyncio.timeout(self._http.timeout.read):
                response, body = await self._answer(request)
        except (httpx.RequestError, TimeoutError) as error:
            raise Transient(
                f"{self._platform} cannot be reached: {type(error).__name__}"
            ) from error
        if response.is_success:
            return body
        raise self._error(response, body, ticket)

    async def _answer(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        response = await self._http.send(request, stream=True)
        body = bytearray()
        try:
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > self._largest:
                    raise Permanent(
                        f"{self._platform} answered with more than {self._largest} bytes"
                    )
        finally:
            await response.aclose()
        return response, bytes(body)

    def _error(self, response: httpx.Response, body: bytes, ticket: Ticket | None) -> MayflyError:
        status = response.status_code
        said = f"{self._platform} answered HTTP {status}"
        try:
            problem = msgspec.json.decode(body, type=_Problem)
            if words := withheld(problem.detail or problem.title, ticket):
                said = f"{self._platform}: {words}"
        except msgspec.DecodeError:
            pass  # a body of unknown origin tells nobody anything
        if status == 429 or answers.is_silence(status):
            return Transient(said, retry_at=answers.retry_at(response.headers, self._clock))
        return Permanent(said)


def signature(key: bytes, id: str, at: str, body: bytes) -> str:  # noqa: A002 - the specification's word
    """The header `webhook-signature`."""
    digest = hmac.digest(key, b".".join((id.encode(), at.encode(), body)), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


@asynccontextmanager
async def open_url(
    url: str,
    *,
    secret_file: Path | None,
    ca_file: Path | None,
    plain_http: bool,
    patience: timedelta,
    largest: int,
    clock: Clock,
) -> AsyncIterator[Url]:
    """Nothing is posted yet."""
    checked_server(url, plain_http=plain_http)
    if urlsplit(url).username or urlsplit(url).password:
        raise InvalidSettings("url holds a user name or password; orders are signed instead")
    key = _key(secret_file)
    async with answers.open_http(url, ca_file=checked_ca_file(ca_file), patience=patience) as http:
        yield Url(http, url, key, largest, clock)


def _key(path: Path | None) -> bytes:
    if path is None:
        raise InvalidSettings(
            "secret_file is not set; orders to a url are signed. Make a key: "
            'printf "whsec_%s" "$(openssl rand -base64 32)"'
        )
    try:
        text = path.read_text().strip()
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except OSError as error:
        raise InvalidSettings(f"secret_file {path} cannot be read: {error.strerror}") from error
    except (ValueError, binascii.Error):
        raise InvalidSettings(f"secret_file {path} is not whsec_ and base64") from None
    if len(key) < _SHORTEST_KEY:
        raise InvalidSettings(
            f"secret_file {path} has {len(key)} bytes; at least {_SHORTEST_KEY} keep it safe"
        )
    return key
