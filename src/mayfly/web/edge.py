"""The HTTP side of an edge reflector: the webhook, and what machines ask."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from litestar import Litestar, Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import SkipValidation

from mayfly.engine.plane import Edge
from mayfly.github.secrets import Secret
from mayfly.model.requests import EVENTS
from mayfly.telemetry import CONTENT_TYPE, Telemetry
from mayfly.web import problems
from mayfly.web.app import Front
from mayfly.web.callers import admitting
from mayfly.web.injected import GivenTelemetry
from mayfly.web.probes import flaw_of, healthz, healthz_head
from mayfly.web.problems import Unready
from mayfly.web.reflector import Reflector
from mayfly.web.tokens import Role, Token, Tokens
from mayfly.web.views import Status
from mayfly.web.waits import Waits

GivenEdge: TypeAlias = NamedDependency[SkipValidation[Edge]]


@get("/readyz")
async def readyz(edge: GivenEdge) -> Status:
    """The bus answers; 503 says why not."""
    flaw = await flaw_of("bus", edge.bus.depth(EVENTS))
    if flaw is not None:
        raise Unready(flaw)
    return Status(status="ready")


@get("/metrics", media_type=CONTENT_TYPE, sync_to_thread=False)
def metrics(telemetry: GivenTelemetry) -> Response[str]:
    """Every figure in Prometheus' text format."""
    return Response(telemetry.scrape().decode(), media_type=CONTENT_TYPE)


def build_edge(
    edge: Edge, *, secrets: Sequence[Secret | bytes], tokens: Iterable[Token], telemetry: Telemetry
) -> Front:
    """The app over `edge`; `secrets` are the webhook's, two while one is being replaced."""
    guard = admitting(Tokens(tokens), Role.METRICS, Role.OPERATOR)
    api = Litestar(
        route_handlers=[
            healthz,
            healthz_head,
            Router("/", route_handlers=[readyz, metrics], guards=[guard]),
        ],
        dependencies={
            "edge": Provide(lambda: edge, sync_to_thread=False),
            "telemetry": Provide(lambda: telemetry, sync_to_thread=False),
        },
        exception_handlers=problems.handlers(edge.clock),
        openapi_config=None,
        logging_config=None,  # structlog is configured by `telemetry.configure_logs`
        debug=False,
    )
    return Front(Reflector(edge, secrets, telemetry), api, Waits())
