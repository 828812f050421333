"""One request to GitHub and its answer; whatever goes wrong becomes one of our errors here."""

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

import gidgethub
import httpx
import msgspec
import structlog
from gidgethub import sansio

from mayfly.github.budgets import READ, WRITE, Budget, Price
from mayfly.github.limits import CORE
from mayfly.github.refusals import Asked, Refusal, error_of, quoted, read_refusal
from mayfly.github.secrets import Secret
from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    MayflyError,
    RateLimited,
    RefusalKind,
    Unauthentic,
)
from mayfly.model.httpdates import http_date
from mayfly.ports import Clock

log = structlog.get_logger()

_USER_AGENT = "mayfly"
_API_VERSION = {"x-github-api-version": "2022-11-28"}
_UNDECIPHERED = (
    gidgethub.HTTPException,
    # gidgethub lets these through when an answer is not shaped as it expects.
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_MOVED = frozenset({301, 302, 307, 308})
_NUMBERS = re.compile(r"(?<=/)\d+(?=/|$)")


class TokenRejected(Unauthentic):
    """401 for an installation's token: it expired early or was revoked."""


class Answer(NamedTuple):
    """What GitHub answered."""

    status: int
    data: object
    following: str | None = None
    """The address of the next page."""
    etag: str | None = None
    """What to send as `Request.etag` to learn whether this is still the answer."""
    said_at: datetime | None = None
    """By GitHub's clock, in whole seconds."""


class Request(NamedTuple):
    """What is sent, and how to speak of it."""

    method: str
    path: str
    asked: Asked
    body: Mapping[str, object] | None = None
    query: Mapping[str, str | int] = {}
    expected: frozenset[int] = frozenset()
    """Statuses of 300 or more that are an answer, not an error."""
    etag: str | None = None
    """Answered with 304 as long as the answer is the one that had this ETag."""
    first: bool = False
    """It mints, or minting cannot begin without it."""
    hour: str = CORE
    """The hourly limit it counts on."""

    @property
    def price(self) -> Price:
        """What the call costs."""
        return Price(READ if self.method == "GET" else WRITE, self.hour, self.first)


class Credential(NamedTuple):
    """An App's JWT (`permissions` is None) or an installation's token with its permissions."""

    token: Secret
    permissions: Mapping[str, str] | None


class Calls:
    """Sends requests, at most `concurrency` at a time, each with a deadline."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        api_url: str,
        clock: Clock,
        concurrency: int,
        deadline: timedelta,
    ) -> None:
        self._client = client
        self._api_url = api_url
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._deadline = deadline.total_seconds()

    async def send(self, request: Request, credential: Credential, budget: Budget) -> Answer:
        """GitHub's answer; GitHubRefused, RateLimited, GitHubUnreachable or TokenRejected."""
        async with budget.turn(request.price):
            response = await self._exchange(request, credential.token, budget)
            budget.heard(response.headers)
            try:
                return self._answer(request, response, credential)
            except RateLimited as limited:
                if limited.retry_at is not None:
                    budget.hold(limited.retry_at)
                raise

    def _answer(self, request: Request, response: httpx.Response, who: Credential) -> Answer:
        etag = response.headers.get("etag")
        if response.status_code in request.expected:
            return Answer(response.status_code, None, None, etag)
        try:
            data, _, following = sansio.decipher_response(
                response.status_code, response.headers, response.content
            )
        except _UNDECIPHERED as error:
            raise self._error(response, request, who) from error
        said_at = http_date(response.headers.get("date", ""))
        return Answer(response.status_code, data, following, etag, said_at)

    async def _exchange(self, request: Request, token: Secret, budget: Budget) -> httpx.Response:
        url = self._url(request)
        try:
            async with asyncio.timeout(self._deadline), budget.slots, self._slots:
                response = await self._request(request, url, token)
                if response.status_code in _MOVED and (moved := self._moved(response)):
                    response = await self._request(request, moved, token)
                return response
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise GitHubUnreachable(
                f"could not {request.asked.what}: no answer from {self._api_url} "
                f"({_named(error)}); it may have been done all the same"
            ) from error

    async def _request(self, request: Request, url: str, token: Secret) -> httpx.Response:
        headers = sansio.create_headers(_USER_AGENT) | _API_VERSION
        headers["authorization"] = f"Bearer {token.reveal()}"
        if request.etag is not None:
            headers["if-none-match"] = request.etag
        content = None if request.body is None else msgspec.json.encode(request.body)
        if content is not None:
            headers["content-type"] = "application/json"
        return await self._client.request(request.method, url, headers=headers, content=content)

    def _url(self, request: Request) -> str:
        query = f"?{urlencode(request.query)}" if request.query else ""
        return sansio.format_url(request.path, None, base_url=self._api_url) + query

    def _moved(self, response: httpx.Response) -> str | None:
        """Where a renamed repository is now; None for a place our token must not be sent to."""
        location = response.headers.get("location")
        if not location:
            return None
        target = response.url.join(location)
        base = httpx.URL(self._api_url)
        ours = (target.scheme, target.host, target.port) == (base.scheme, base.host, base.port)
        return str(target) if ours and target.path.startswith(base.path) else None

    def _error(self, response: httpx.Response, request: Request, who: Credential) -> MayflyError:
        if response.is_success:
            return GitHubUnreachable(
                f"could not {request.asked.what}: the answer of {self._api_url} is not JSON; "
                "is api_url the address of GitHub's API?"
            )
        refusal = read_refusal(response.status_code, response.headers, response.content)
        error = error_of(refusal, request.asked, self._clock.now(), who.permissions)
        if not (isinstance(error, GitHubRefused) and error.kind is RefusalKind.UNKNOWN):
            return error
        if refusal.status == 401 and not request.asked.by:
            return TokenRejected(str(error))
        _report(refusal, request)
        return error


def _report(refusal: Refusal, request: Request) -> None:
    """What is needed to add the missing row to the table, and nothing else of the answer."""
    log.warning(
        "github.puzzled",
        method=request.method,
        path="/" + _NUMBERS.sub("{id}", request.path),
        status=refusal.status,
        request_id=refusal.request_id,
        message=quoted(refusal.message),
    )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
