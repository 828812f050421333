"""The App's delivery log: what GitHub tried to deliver, and what it was."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC
from urllib.parse import parse_qs, urlsplit

import msgspec
import structlog

from mayfly.github import webhook
from mayfly.github.answers import read
from mayfly.github.calls import Answer, Request
from mayfly.github.records import Id, Time
from mayfly.github.sessions import PAGE, Sessions
from mayfly.model.deliveries import Attempt
from mayfly.model.errors import GitHubRefused, RefusalKind, Transient
from mayfly.model.jobs import InstallationId, WorkflowJobEvent

log = structlog.get_logger()

_PATH = "app/hook/deliveries"
_GONE = frozenset({404, 410})


class DeliveryLog:
    """The log GitHub keeps for about three days, asked with the App's own key."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def attempts(self) -> AsyncGenerator[Attempt]:
        """Newest first; a page is asked for when the one before has been used up."""
        asked = self._sessions.as_app("read the delivery log")
        query: dict[str, str | int] = {"per_page": PAGE}
        cursor: str | None = ""
        while cursor is not None:
            answer = await self._page(Request("GET", _PATH, asked, query=query), first=not cursor)
            for item in read(answer.data, list[object], asked.what):
                attempt = _attempt(item)
                if attempt is not None:
                    yield attempt
            before, cursor = cursor, _cursor(answer)
            if cursor == before:  # a server that ignores it would lead us in a circle
                return
            query = {"per_page": PAGE, "cursor": cursor or ""}

    async def _page(self, request: Request, *, first: bool) -> Answer:
        """A page; once the reading has begun, what was read is worth waiting for the rest."""
        for pause in (*((1.0, 5.0, 20.0, 60.0) if not first else ()), None):
            try:
                return await self._sessions.ask(None, request)
            except GitHubRefused as error:
                raise _no_log(error) from error
            except Transient as error:
                if pause is None:
                    raise
                await asyncio.sleep(max(pause, self._sessions.seconds_until(error.retry_at)))
        raise AssertionError  # the last pause is None

    async def delivered(self, attempt: int) -> WorkflowJobEvent | None:
        """What it said, decoded as if it had just come in; None when that is not used."""
        what = f"look at delivery {attempt}"
        answer = await self._ask("GET", f"{_PATH}/{int(attempt)}", what)
        record = read(answer.data, _DeliveryRecord, what)
        if record.request.payload is None:
            raise _gone(what)
        try:
            # In the letters of ASCII, because not every text JSON can hold is one UTF-8 can.
            body = json.dumps(record.request.payload).encode()
            said = webhook.decode(record.event, record.guid, body)
        except (webhook.NotJson, RecursionError) as error:
            log.warning("delivery.skipped", delivery=record.guid, reason=str(error))
            return None
        return said if isinstance(said, WorkflowJobEvent) else None

    async def redeliver(self, attempt: int) -> None:
        """Have GitHub deliver it again."""
        path = f"{_PATH}/{int(attempt)}/attempts"
        await self._ask("POST", path, f"have delivery {attempt} delivered again")

    async def _ask(self, method: str, path: str, what: str) -> Answer:
        asked = self._sessions.as_app(what)
        answer = await self._sessions.ask(None, Request(method, path, asked, expected=_GONE))
        if answer.status in _GONE:
            raise _gone(what)
        return answer


class _AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt as GitHub lists it."""

    id: Id
    guid: str
    delivered_at: Time
    event: str
    action: str | None = None
    status_code: int | None = None
    installation_id: Id | None = None


class _RequestRecord(msgspec.Struct, frozen=True):
    # The headers beside it hold a signature, and have held secrets; they are not read.
    payload: object = None


class _DeliveryRecord(msgspec.Struct, frozen=True):
    """An attempt with what was sent."""

    guid: str
    event: str
    request: _RequestRecord


def _attempt(item: object) -> Attempt | None:
    try:
        record = msgspec.convert(item, _AttemptRecord)
        delivered_at = record.delivered_at.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        # One record we cannot read must not hide the others.
        log.warning("attempt.skipped", reason=str(error))
        return None
    return Attempt(
        id=record.id,
        guid=record.guid,
        delivered_at=delivered_at,
        event=record.event,
        action=record.action or "",
        status_code=record.status_code or 0,
        installation=None
        if record.installation_id is None
        else InstallationId(record.installation_id),
    )


def _cursor(answer: Answer) -> str | None:
    """Where the next page begins; GitHub's own word, of which we make nothing."""
    if answer.following is None:
        return None
    found = parse_qs(urlsplit(answer.following).query).get("cursor")
    return found[0] if found else None


def _no_log(error: GitHubRefused) -> GitHubRefused:
    """GitHub's usual sentences speak of installations, and the log is the App's own."""
    if error.kind not in {RefusalKind.NOT_INSTALLED, RefusalKind.MISSING_PERMISSION}:
        return error
    return GitHubRefused(
        RefusalKind.DELIVERY_GONE,
        "GitHub shows no delivery log of the App; activate its webhook in the App's settings, "
        f"with any address, so that deliveries are logged (GitHub said: {error})",
    )


def _gone(what: str) -> GitHubRefused:
    return GitHubRefused(
        RefusalKind.DELIVERY_GONE,
        f"could not {what}: GitHub keeps deliveries for about three days and does not have this "
        "one any more; its job is found all the same when GitHub is asked for the open runs",
    )
