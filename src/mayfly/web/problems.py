"""Errors as RFC 9457 problem details: one table from our errors to status, type and title."""

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from traceback import walk_tb
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from litestar.serialization import decode_json
from litestar.types import ExceptionHandlersMap

from mayfly.model.errors import (
    GitHubRefused,
    NotFound,
    Permanent,
    StaleClaim,
    Transient,
    Unauthentic,
)
from mayfly.ports import Clock

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"
_PATIENCE: Final = 5
"""Seconds a caller is told to wait when nobody knows better."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, in RFC 9457's words; `detail` says what, where and what to do."""

    type: str
    title: str
    status: int
    detail: str


class Kind(NamedTuple):
    """A row of the table: what all problems of one type have in common."""

    status: int
    slug: str
    title: str

    def problem(self, detail: str) -> Problem:
        """One problem of this kind."""
        urn = f"urn:mayfly:problem:{self.slug}"
        return Problem(type=urn, title=self.title, status=self.status, detail=detail)


class Conflict(HTTPException):
    """The request is fine, but what it would change cannot be changed as things are."""

    status_code = 409


class Unready(HTTPException):
    """The process is alive, but something it cannot work without does not answer."""

    status_code = 503


_OURS: Final[tuple[tuple[type[Exception], Kind], ...]] = (
    (StaleClaim, Kind(410, "stale-claim", "The claim is over")),
    (GitHubRefused, Kind(502, "github-refused", "GitHub refused")),
    (Transient, Kind(503, "try-again", "Try again later")),
    (NotFound, Kind(404, "not-found", "Not found")),
    (Unauthentic, Kind(401, "unauthentic", "Not authentic")),
    (Permanent, Kind(422, "not-possible", "Not possible")),
)
"""The first fitting class counts: GitHubRefused is Permanent, too."""
_HTTP: Final = {
    400: Kind(400, "invalid-request", "Invalid request"),
    401: Kind(401, "unauthentic", "Not authentic"),
    403: Kind(403, "forbidden", "Not allowed"),
    404: Kind(404, "not-found", "Not found"),
    405: Kind(405, "wrong-method", "Wrong method"),
    408: Kind(408, "too-slow", "The request came too slowly"),
    409: Kind(409, "conflict", "Conflict"),
    413: Kind(413, "too-large", "The request is too large"),
    415: Kind(415, "wrong-type", "Wrong content type"),
    503: Kind(503, "not-ready", "Not ready"),
}
_FAILED: Final = Kind(500, "failed", "Mayfly failed")
_SORRY: Final = "an error of Mayfly's own; its log has the details at this time"


def of_status(status: int, detail: str) -> Problem:
    """The problem for a plain HTTP status."""
    kind = _HTTP.get(status) or Kind(status, f"http-{status}", HTTPStatus(status).phrase)
    return kind.problem(detail)


def of_error(error: Exception) -> Problem:
    """The problem an error becomes; what we do not know says nothing about itself."""
    if isinstance(error, HTTPException):
        return of_status(error.status_code, _sentence(error)) if _told(error) else _failed()
    if _undecodable(error):
        return of_status(400, "the body must be JSON in UTF-8, not nested deeply")
    kind = next((kind for ours, kind in _OURS if isinstance(error, ours)), None)
    return _failed() if kind is None else kind.problem(str(error))


def headers_of(error: Exception, now: datetime) -> dict[str, str]:
    """The headers that belong to an error: Retry-After, Allow, WWW-Authenticate."""
    if isinstance(error, HTTPException):
        return dict(error.headers or {})
    if not isinstance(error, Transient):
        return {}
    if error.retry_at is None:
        return {"Retry-After": str(_PATIENCE)}
    return {"Retry-After": str(max(1, round((error.retry_at - now).total_seconds())))}


def handlers(clock: Clock) -> ExceptionHandlersMap:
    """Litestar's exception handlers, which answer every error with a problem."""

    def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
        problem = of_error(error)
        if isinstance(error, NotFoundException):  # Litestar's own says only "Not Found"
            problem = of_status(404, f"there is nothing at {request.scope['path']}")
        if problem.status == 500 and not isinstance(error, HTTPException):
            log.error(
                "request.failed", method=request.method, path=request.scope["path"], exc_info=error
            )
        return Response(
            problem,
            status_code=problem.status,
            headers=headers_of(error, clock.now()),
            media_type=MEDIA_TYPE,
        )

    return {HTTPException: answer, Exception: answer}


def documented(*statuses: int, empty: str | None = None) -> Mapping[int, ResponseSpec]:
    """The problems a path may answer with, for OpenAPI; `empty` describes a 204 beside them."""
    specs = {
        status: ResponseSpec(
            Problem,
            media_type=MEDIA_TYPE,
            description=HTTPStatus(status).phrase,
            generate_examples=False,
        )
        for status in sorted({401, 403, 500, *statuses})
    }
    if empty is not None:
        specs[204] = ResponseSpec(None, description=empty)
    return specs


def _failed() -> Problem:
    return _FAILED.problem(_SORRY)


def _told(error: HTTPException) -> bool:
    return error.status_code < 500 or isinstance(error, Unready)


def _undecodable(error: Exception) -> bool:
    """Litestar lets these two through when a body raises them; anywhere else they are ours."""
    if not isinstance(error, UnicodeDecodeError | RecursionError):
        return False
    innermost = [frame for frame, _line in walk_tb(error.__traceback__)][-1:]
    return any(frame.f_code is decode_json.__code__ for frame in innermost)


def _sentence(error: HTTPException) -> str:
    """Litestar names a wrong field only in `extra`."""
    extra = error.extra if isinstance(error.extra, list) else []
    flaws = [
        f"{flaw.get('key', 'body')}: {flaw.get('message')}"
        for flaw in extra
        if isinstance(flaw, dict)
    ]
    return "; ".join(flaws) or error.detail or HTTPStatus(error.status_code).phrase
