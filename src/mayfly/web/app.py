"""The whole HTTP side as one ASGI callable."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import HTTPScope, Receive, Scope, Send

from mayfly.engine.plane import ControlPlane
from mayfly.github.secrets import Secret
from mayfly.telemetry import Telemetry
from mayfly.web import (
    access_api,
    bus_api,
    executor_api,
    executors_api,
    launches_api,
    openapi,
    operator_api,
    probes,
    problems,
    tickets_api,
)
from mayfly.web.callers import admitting
from mayfly.web.injected import provided
from mayfly.web.reflector import CONSUMES, PATH, PULLS, Reflector, untaken
from mayfly.web.tokens import Role, Token, Tokens
from mayfly.web.waits import Waits

LONGEST_WAIT: Final = timedelta(seconds=30)
"""Of a long poll: shorter than the idle time-out of common proxies, 60 s."""
_LARGEST_REQUEST: Final = 64 * 1024
"""Bytes of a request to the API; the largest order has less than 8 KiB."""


Webhook = Callable[[HTTPScope, Receive, Send], Awaitable[None]]


class Front:
    """Answers `/webhooks/github` itself and gives everything else to Litestar."""

    def __init__(self, webhook: Webhook, api: Litestar, waits: Waits) -> None:
        self._webhook = webhook
        self._api = api
        self._waits = waits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the application's lifespan, as ASGI."""
        if scope["type"] == ScopeType.HTTP and scope["path"] == PATH:
            await self._webhook(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    def end_waits(self) -> None:
        """Long polls and streams end now, so that the server can stop."""
        self._waits.end()


def build(
    plane: ControlPlane,
    *,
    secrets: Sequence[Secret | bytes],
    tokens: Iterable[Token],
    telemetry: Telemetry,
    longest_wait: timedelta = LONGEST_WAIT,
    pull: bool = False,
    consumes: bool = False,
) -> Front:
    """The app over `plane`; `secrets` are the webhook's, two while one is being replaced.

    With `pull`, or where it `consumes` an edge reflector's events, there is no webhook.
    """
    known, without = Tokens(tokens), pull or consumes
    waits = Waits()
    api = Litestar(
        route_handlers=[
            probes.healthz,
            probes.healthz_head,
            probes.routes(admitting(known, Role.METRICS, Role.OPERATOR)),
            executor_api.routes(admitting(known, Role.EXECUTOR, tickets=plane.tickets)),
            tickets_api.routes(),
            operator_api.routes(admitting(known, Role.OPERATOR)),
            access_api.routes(admitting(known, Role.OPERATOR)),
            bus_api.routes(admitting(known, Role.OPERATOR)),
            executors_api.routes(admitting(known, Role.OPERATOR)),
            launches_api.routes(admitting(known, Role.OPERATOR)),
        ],
        dependencies=provided(plane, telemetry, waits, longest_wait),
        exception_handlers=problems.handlers(plane.clock),
        openapi_config=openapi.config(admitting(known, *Role), pull=without),
        request_max_body_size=_LARGEST_REQUEST,
        logging_config=None,  # structlog is configured by `telemetry.configure_logs`
        debug=False,
    )
    if without:
        return Front(partial(untaken, why=PULLS if pull else CONSUMES), api, waits)
    return Front(Reflector(plane, secrets, telemetry), api, waits)
