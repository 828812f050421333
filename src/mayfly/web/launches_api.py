"""Launches, for operators: which executors were started, and what became of them."""

from datetime import datetime

import msgspec
from litestar import Router, get
from litestar.params import FromQuery
from litestar.types import Guard

from mayfly.model.launches import LaunchRecord
from mayfly.web.injected import GivenPlane, Limit
from mayfly.web.names import pool_named
from mayfly.web.problems import documented


class LaunchView(msgspec.Struct, frozen=True, kw_only=True):
    """One executor that was wanted; no hash of a secret."""

    id: str
    pool: str
    phase: str
    wanted_at: datetime
    machine: str
    worked: bool
    """It has had a claim."""
    misused: int
    """Times somebody came with its ticket in vain: suspicious."""
    detail: str


@get("/", responses=documented(400, 404))
async def launches(
    plane: GivenPlane, pool: FromQuery[str | None] = None, limit: Limit = 50
) -> list[LaunchView]:
    """Launched executors of the last day, newest first."""
    name = None if pool is None else pool_named(plane.pools, pool)
    return [_view(one) for one in await plane.ledger.launches.newest(limit, name)]


def routes(guard: Guard) -> Router:
    """For operators."""
    return Router(
        "/v1/launches",
        route_handlers=[launches],
        guards=[guard],
        security=[{"bearer": []}],
        tags=["operator"],
    )


def _view(launch: LaunchRecord) -> LaunchView:
    return LaunchView(
        id=launch.id,
        pool=launch.pool,
        phase=launch.phase.value,
        wanted_at=launch.wanted_at,
        machine=launch.machine,
        worked=launch.worked,
        misused=launch.misused,
        detail=launch.detail,
    )
