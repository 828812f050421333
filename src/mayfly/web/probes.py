"""What machines ask: is it alive, is it ready, what are the figures."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import structlog
from litestar import Response, Router, get, head
from litestar.types import Guard

from mayfly.engine.plane import ControlPlane
from mayfly.model.errors import MayflyError
from mayfly.telemetry import CONTENT_TYPE, Telemetry
from mayfly.web.injected import GivenPlane, GivenTelemetry
from mayfly.web.problems import Unready, documented
from mayfly.web.views import Status

log = structlog.get_logger()

_COUNTED: Final = 1000
"""Stalled groups; more would not alarm anybody more."""
_PATIENCE: Final = 2.0
"""Seconds a store or a bus has to answer; probes give up soon after."""


@get("/healthz", tags=["probes"], sync_to_thread=False, security=[{}])
def healthz() -> Status:
    """The process is alive; open to anyone."""
    return Status(status="alive")


@head("/healthz", include_in_schema=False, sync_to_thread=False)
def healthz_head() -> None:
    """The same without a body, for load balancers."""


@get("/readyz", responses=documented(503))
async def readyz(plane: GivenPlane) -> Status:
    """The store and the bus answer; 503 says which does not."""
    answers = await asyncio.gather(
        flaw_of("store", plane.ledger.pools()),
        *(
            flaw_of(f"bus, pool {pool.name}", plane.bus.depth(pool.name))
            for pool in plane.pools[:1]
        ),
    )
    flaws = [flaw for flaw in answers if flaw is not None]
    if flaws:
        raise Unready("; ".join(flaws))
    return Status(status="ready")


@get("/metrics", media_type=CONTENT_TYPE, responses=documented())
async def metrics(plane: GivenPlane, telemetry: GivenTelemetry) -> Response[str]:
    """Every figure in Prometheus' text format."""
    await _refresh(plane, telemetry)
    return Response(telemetry.scrape().decode(), media_type=CONTENT_TYPE)


def routes(guard: Guard) -> Router:
    """Readiness and figures, which name pools and so are not open."""
    return Router(
        "/",
        route_handlers=[readyz, metrics],
        guards=[guard],
        security=[{"bearer": []}],
        tags=["probes"],
    )


async def _refresh(plane: ControlPlane, telemetry: Telemetry) -> None:
    """Figures of a store that does not answer are left out, the others are still told."""
    try:
        async with asyncio.timeout(_PATIENCE):
            uses, stalled = await plane.ledger.pools(), await plane.ledger.stalled(_COUNTED)
            executors = await plane.ledger.executors()
        telemetry.pools_seen(uses, stalled, executors)
    except (TimeoutError, MayflyError, OSError) as error:
        telemetry.pools_unseen()
        log.warning("pools.unseen", error=type(error).__name__)


async def flaw_of(what: str, question: Coroutine[Any, Any, object]) -> str | None:
    """What is wrong with the answer; only our own errors are written for people."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await question
    except TimeoutError:
        return f"{what}: no answer within {_PATIENCE:.0f} s"
    except MayflyError as error:
        return f"{what}: {error}"
    except Exception as error:  # top of a probe: whatever it is, it is not ready
        log.warning("readiness.failed", what=what, exc_info=error)
        return f"{what}: {type(error).__name__}; the log has the details"
    return None
