"""The API server of a Kubernetes cluster; its refusals become our errors here.

Five verbs and a service account's token need no client library: importing kubernetes-asyncio
takes seconds and 67 MB, for a module of every kind of resource.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from mayfly.calls import checked_server
from mayfly.launchers import answers
from mayfly.launchers.errands import withheld
from mayfly.model.errors import InvalidSettings, MayflyError, Permanent, Transient
from mayfly.model.launches import Ticket
from mayfly.ports import Clock

T = TypeVar("T")

_PAGE = 500
_MOST_PAGES = 50
_PLATFORM = "the Kubernetes API server"
_WATCH_SECONDS = 300
"""For one watch; a connection that broke without a word is given up a little later."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Before the next watch. One that lasted longer than the longest did not fail."""


class AlreadyExists(Permanent):
    """There is one of this name."""


class Missing(Permanent):
    """There is none of this name, or no namespace."""


class _Forgotten(Transient):
    """What was since then is not known any more; what is there must be listed anew."""


class Event(msgspec.Struct, frozen=True):
    """What became of one object."""

    type: str
    """ADDED, MODIFIED or DELETED; BOOKMARK only says how far the watch has come."""
    object: dict[str, Any]

    @property
    def version(self) -> str:
        """From where on a watch finds what came later."""
        return str(self.object["metadata"]["resourceVersion"])


class _Status(msgspec.Struct):
    """How a request was refused."""

    reason: str = ""
    message: str = ""
    code: int = 0


class _Metadata(msgspec.Struct, frozen=True):
    next: str = msgspec.field(name="continue", default="")
    version: str = msgspec.field(name="resourceVersion", default="")


class _List(msgspec.Struct):
    items: list[dict[str, Any]]
    metadata: _Metadata = _Metadata()


class Cluster:
    """Asks as a service account, and asks once; only what is watched is watched on and on."""

    def __init__(self, http: httpx.AsyncClient, token_file: Path, clock: Clock) -> None:
        self._http = http
        self._token_file = token_file
        self._clock = clock

    async def create(
        self, path: str, manifest: dict[str, Any], ticket: Ticket | None = None
    ) -> dict[str, Any]:
        """What was made of it. AlreadyExists when the name is taken."""
        return _decoded(await self._ask("POST", path, manifest, ticket=ticket), dict[str, Any])

    async def get(self, path: str) -> dict[str, Any]:
        """What is there. Missing when there is nothing."""
        return _decoded(await self._ask("GET", path), dict[str, Any])

    async def found(self, path: str, selector: str) -> list[dict[str, Any]]:
        """Everything with these labels, all pages."""
        items: list[dict[str, Any]] = []
        query = {"labelSelector": selector, "limit": str(_PAGE)}
        for _ in range(_MOST_PAGES):
            page = _decoded(await self._ask("GET", path, query=query), _List)
            items += page.items
            if not page.metadata.next:
                return items
            query["continue"] = page.metadata.next
        raise Transient(f"{_PLATFORM} lists more than {_MOST_PAGES} pages")

    async def changes(self, path: str, selector: str) -> AsyncGenerator[Event | None, None]:
        """What becomes of everything with these labels, until it is closed; None: any of it may
        have changed, as at the beginning. It waits while nobody answers; Permanent as any call.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
        """
        time, pause, version = asyncio.get_running_loop().time, _SHORTEST_PAUSE, ""
        while True:
            began, named = time(), 0.0
            try:
                if not version:
                    version = await self._version(path, selector)
                    yield None
                async with aclosing(self._watch(path, selector, version)) as events:
                    async for event in events:
                        version = event.version
                        yield event
            except _Forgotten:
                version = ""
            except Transient as error:  # the list, which is asked for all the same, tells of it
                named = self._named(error)
                if pause == _LONGEST_PAUSE:
                    version = ""
            if time() - began > _LONGEST_PAUSE:
                pause = _SHORTEST_PAUSE
            jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            await asyncio.sleep(max(named, jitter * pause))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _named(self, error: Transient) -> float:
        """For how many seconds the API server wants to be left alone."""
        at = error.retry_at
        return (at - self._clock.now()).total_seconds() if at else 0.0

    async def _version(self, path: str, selector: str) -> str:
        """Of the list as it is now."""
        query = {"labelSelector": selector, "limit": "1"}
        return _decoded(await self._ask("GET", path, query=query), _List).metadata.version

    async def _watch(self, path: str, selector: str, version: str) -> AsyncGenerator[Event, None]:
        """One watch, until the API server has enough of it. Transient when it breaks off."""
        query = {
            "watch": "1",
            "labelSelector": selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        request = self._request("GET", path, query=query)
        async with answers.streamed(self._http, request, _PLATFORM, _WATCH_SECONDS) as response:
            if not response.is_success:
                await response.aread()
                raise self._error(response)
            async for line in answers.lines(response):
                yield self._event(line)

    def _event(self, line: bytes) -> Event:
        try:
            event = msgspec.json.decode(line, type=Event)
        except msgspec.DecodeError as error:  # it would come again, were the watch to go on there
            raise _Forgotten(f"an event of {_PLATFORM} cannot be read: {error}") from error
        if event.type == "ERROR":
            status = msgspec.convert(event.object, _Status, strict=False)
            raise self._refusal(status.code, status, None, None)
        return event

    async def delete(self, path: str, uid: str) -> None:
        """With all that it owns. Idempotent, and nothing else of this name is meant."""
        order = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._ask("DELETE", path, order)
        except Missing:
            return

    async def _ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, str] | None = None,
        ticket: Ticket | None = None,
    ) -> bytes:
        request = self._request(method, path, body, query=query)
        response = await answers.sent(self._http, request, _PLATFORM)
        if response.is_success:
            return response.content
        raise self._error(response, ticket)

    def _request(
        self, method: str, path: str, body: object = None, *, query: dict[str, str] | None = None
    ) -> httpx.Request:
        return self._http.build_request(
            method,
            path,
            params=query,
            content=None if body is None else msgspec.json.encode(body),
            headers={
                "Accept": "application/json",
                "Authorization": f"Bearer {self._token()}",
                "Content-Type": "application/json",
            },
        )

    def _token(self) -> str:
        try:
            token = self._token_file.read_text().strip()
        except (OSError, ValueError) as error:
            raise Permanent(f"token_file {self._token_file} cannot be read: {error}") from error
        if not token or not (token.isascii() and token.isprintable()):
            raise Permanent(f"token_file {self._token_file} has no token in it")
        return token

    def _error(self, response: httpx.Response, ticket: Ticket | None = None) -> MayflyError:
        at = answers.retry_at(response.headers, self._clock)
        return self._refusal(response.status_code, _status(response), at, ticket)

    def _refusal(
        self, code: int, status: _Status, at: datetime | None, ticket: Ticket | None
    ) -> MayflyError:
        """The one table from its refusals to ours."""
        said = withheld(status.message, ticket) or f"HTTP {code}"
        match code:
            case 401:
                ours: MayflyError = Permanent(
                    f"{_PLATFORM} does not accept the token in {self._token_file}"
                )
            # Rights and quotas have one status and one reason; only the sentence tells them apart.
            case 403 if "exceeded quota" in said or "insufficient quota" in said:
                ours = Transient(f"the Kubernetes namespace has no room: {said}", retry_at=at)
            case 403:
                ours = Permanent(
                    f"{_PLATFORM} forbids it: {said}; give the service account a Role that may "
                    "create, get, list, watch and delete jobs, create secrets and list pods"
                )
            case 404:
                ours = Missing(f"{_PLATFORM} does not find it: {said}")
            case 409 if status.reason == "AlreadyExists":
                ours = AlreadyExists(said)
            case 409:
                ours = Transient(f"{_PLATFORM} is at it already: {said}", retry_at=at)
            case 410:
                ours = _Forgotten(f"{_PLATFORM} does not know that any more: {said}")
            case 429:
                ours = Transient(f"{_PLATFORM} slows us down: {said}", retry_at=at)
            case _ if answers.is_silence(code):
                ours = Transient(f"{_PLATFORM} failed: {said}", retry_at=at)
            case _:
                ours = Permanent(f"{_PLATFORM} refused: {said}")
        return ours


@asynccontextmanager
async def open_cluster(
    server: str, token_file: Path, ca_file: Path | None, clock: Clock
) -> AsyncIterator[Cluster]:
    """The cluster at `server`; nothing is asked of it yet."""
    checked_server(server, plain_http=False)
    if not token_file.is_file():  # noqa: ASYNC240 - once, at the start
        raise InvalidSettings(
            f"token_file {token_file} does not exist; outside a cluster, put the token of a "
            "service account there: kubectl create token NAME, or a Secret of type "
            "kubernetes.io/service-account-token"
        )
    async with answers.open_http(server, ca_file=ca_file) as http:
        yield Cluster(http, token_file, clock)


def _status(response: httpx.Response) -> _Status:
    try:
        return msgspec.json.decode(response.content, type=_Status)
    except msgspec.DecodeError:
        return _Status()


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Transient(f"an answer of {_PLATFORM} cannot be read: {error}") from error
