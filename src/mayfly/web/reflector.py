"""The webhook endpoint: proven, decoded, recorded, answered; a bare ASGI callable for speed."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

import msgspec
import structlog
from litestar.types import HTTPScope, Receive, Send

from mayfly.engine.news import News
from mayfly.github.secrets import Secret
from mayfly.github.webhook import (
    Ignored,
    InstallationChanged,
    NotJson,
    Ping,
    Starred,
    decode,
    verify,
)
from mayfly.model.deliveries import REVIVING
from mayfly.model.errors import Transient, Unauthentic
from mayfly.model.jobs import InstallationId, WorkflowJobEvent
from mayfly.model.pools import Pool
from mayfly.ports import AccessRules, Clock
from mayfly.telemetry import Ignored as IgnoredReason
from mayfly.telemetry import Telemetry, WebhookResult
from mayfly.web import problems
from mayfly.web.problems import Problem

log = structlog.get_logger()

PATH: Final = "/webhooks/github"
LARGEST_BODY: Final = 25 * 1024 * 1024
"""Bytes; GitHub sends none that is larger."""
_PATIENCE: Final = timedelta(seconds=30)
"""For a body to arrive. GitHub itself gives up after 10 s."""
_EXPECTED_EVENTS: Final = {"workflow_job", "installation", "installation_repositories"}
"""Of these every action is used, so that an ignored one is not as GitHub documents it."""

_STATUS: Final = {
    WebhookResult.UNAUTHENTIC: 401,
    WebhookResult.WRONG_METHOD: 405,
    WebhookResult.TOO_SLOW: 408,
    WebhookResult.TOO_LARGE: 413,
    WebhookResult.WRONG_TYPE: 415,
}
_ACCEPTED: Final = {result: b'{"result":"%s"}' % result.value.encode() for result in WebhookResult}
_JSON_HEADERS: Final = (b"content-type", b"application/json")
_PROBLEM_HEADERS: Final = (b"content-type", problems.MEDIA_TYPE.encode())


class Refusal(Exception):
    """The request is answered with `problem` and nothing else happens."""

    def __init__(self, result: WebhookResult, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.result = result
        self.problem = problems.of_status(_STATUS[result], detail)
        self.headers = headers


class Gone(Exception):
    """The client went away before its request was whole."""


class Taking(Protocol):
    """What becomes of a delivery that is genuine."""

    async def take(self, event: WorkflowJobEvent) -> WebhookResult:
        """Durable when it returns, or refused for good. Transient: GitHub is to come again."""

    async def revived(self, installation: InstallationId) -> None:
        """The App was installed there, unsuspended, or given other repositories."""


class Behind(Protocol):
    """What stands behind the endpoint: a control plane, or an edge reflector."""

    @property
    def pools(self) -> tuple[Pool, ...]: ...
    @property
    def access(self) -> AccessRules: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def intake(self) -> Taking: ...
    @property
    def news(self) -> News: ...


class Reflector:
    """Answers `POST /webhooks/github`: 202 once the ledger, or at the edge the bus, has it."""

    def __init__(
        self, plane: Behind, secrets: Sequence[Secret | bytes], telemetry: Telemetry
    ) -> None:
        self._plane = plane
        self._secrets = tuple(secrets)
        self._telemetry = telemetry

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """One request, as ASGI."""
        try:
            result = await self._take(scope, receive)
        except Gone:
            self._telemetry.webhook_answered(WebhookResult.DISCONNECTED)
        except Exception as error:  # top of a request: it becomes an answer
            await self._refuse(send, error)
        else:
            self._telemetry.webhook_answered(result)
            await _send(send, 202, _ACCEPTED[result], (_JSON_HEADERS,))

    async def _take(self, scope: HTTPScope, receive: Receive) -> WebhookResult:
        if scope["method"] != "POST":
            raise Refusal(WebhookResult.WRONG_METHOD, "deliveries come by POST", Allow="POST")
        headers = dict(scope["headers"])
        body = await _body(headers, receive)
        verify(body, headers.get(b"x-hub-signature-256"), self._secrets)
        self._telemetry.delivery_received()
        media_type, *_parameters = headers.get(b"content-type", b"").split(b";")
        if media_type.strip().lower() != b"application/json":
            raise Refusal(
                WebhookResult.WRONG_TYPE,
                "set the webhook's content type to application/json at the GitHub App",
            )
        event_name = headers.get(b"x-github-event", b"").decode("latin-1")
        delivery = headers.get(b"x-github-delivery", b"").decode("latin-1")
        return await self._act(event_name, delivery, body)

    async def _act(self, event_name: str, delivery: str, body: bytes) -> WebhookResult:
        match decode(event_name, delivery, body):
            case WorkflowJobEvent() as event:
                result = await self._plane.intake.take(event)
                if event.installation is None:
                    log.warning("webhook.incomplete", missing="installation", delivery=delivery)
                return result
            case Ping():
                return WebhookResult.PING
            case Starred() as star:
                await self._tell_access(star)
                return WebhookResult.STAR
            case InstallationChanged() as change:
                self._plane.news.publish(
                    "installation.changed",
                    action=change.action,
                    account=change.account,
                    installation=change.installation,
                )
                if change.action in REVIVING:
                    await self._plane.intake.revived(change.installation)
                return WebhookResult.INSTALLATION
            case Ignored() as ignored:
                self._count(ignored, delivery)
                return WebhookResult.IGNORED

    async def _tell_access(self, star: Starred) -> None:
        """A star changes nothing, so it is a harmless way to ask whether one has access."""
        verdicts = {
            pool.name: await self._plane.access.find(star.owner, star.repository, pool.name)
            for pool in self._plane.pools
        }
        self._plane.news.publish(
            "repository.starred",
            repository=f"{star.owner}/{star.repository}",
            sender=star.sender,
            allowed=", ".join(name for name, rule in verdicts.items() if rule is not None),
            refused=", ".join(name for name, rule in verdicts.items() if rule is None),
        )

    def _count(self, ignored: Ignored, delivery: str) -> None:
        reason = _reason_of(ignored)
        self._telemetry.delivery_ignored(reason)
        if reason is IgnoredReason.MALFORMED:
            log.warning(
                "webhook.ignored", name=ignored.event, reason=ignored.reason, delivery=delivery
            )

    async def _refuse(self, send: Send, error: Exception) -> None:
        result, problem, headers = self._answer(error)
        self._telemetry.webhook_answered(result)
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        # Whatever of the body was not read is not read any more.
        pairs.append((b"connection", b"close"))
        await _send(send, problem.status, msgspec.json.encode(problem), (_PROBLEM_HEADERS, *pairs))

    def _answer(self, error: Exception) -> tuple[WebhookResult, Problem, Mapping[str, str]]:
        now = self._plane.clock.now()
        match error:
            case Refusal():
                return error.result, error.problem, error.headers
            case Unauthentic():
                return WebhookResult.UNAUTHENTIC, problems.of_error(error), {}
            case NotJson():
                return WebhookResult.NOT_JSON, problems.of_status(400, str(error)), {}
            case Transient():
                headers = problems.headers_of(error, now)
                return WebhookResult.UNAVAILABLE, problems.of_error(error), headers
            case _:
                log.error("webhook.failed", exc_info=error)
                return WebhookResult.FAILED, problems.of_error(error), {}


PULLS: Final = "this control plane pulls: it reads the App's delivery log and takes no webhooks"
CONSUMES: Final = "this control plane hears of jobs from an edge reflector and takes no webhooks"


async def untaken(_scope: HTTPScope, _receive: Receive, send: Send, *, why: str) -> None:
    """Stands at PATH, as ASGI, where no delivery is taken."""
    problem = problems.of_status(
        404, f'{why}; for webhooks set [github] intake = "push" in mayfly.toml'
    )
    headers = (_PROBLEM_HEADERS, (b"connection", b"close"))
    await _send(send, problem.status, msgspec.json.encode(problem), headers)


def _reason_of(ignored: Ignored) -> IgnoredReason:
    if ignored.event in _EXPECTED_EVENTS:
        return IgnoredReason.MALFORMED
    if ignored.event == "star":
        return IgnoredReason.UNUSED_ACTION
    return IgnoredReason.UNKNOWN_EVENT


async def _body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The whole body, refused as soon as it is known to be too large."""
    announced = headers.get(b"content-length", b"")
    # The bound on digits comes first, because int() refuses very many of them.
    if announced.isdigit() and (len(announced) > 18 or int(announced) > LARGEST_BODY):
        raise _too_large()
    try:
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            return await _read(receive)
    except TimeoutError as error:
        sentence = f"the body did not arrive within {_PATIENCE.total_seconds():.0f} s"
        raise Refusal(WebhookResult.TOO_SLOW, sentence) from error


async def _read(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > LARGEST_BODY:
            raise _too_large()
        if not more and not chunks:  # nearly every delivery
            return chunk
        chunks.append(chunk)
        if not more:
            return b"".join(chunks)


def _too_large() -> Refusal:
    sentence = f"a delivery has at most {LARGEST_BODY} bytes"
    return Refusal(WebhookResult.TOO_LARGE, sentence)


async def _send(
    send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
