"""What waits on the bus, over HTTP: an operator looks, rings, drains and requeues, pool by pool."""

from litestar import Router, get, post
from litestar.params import FromPath, JSONBody
from litestar.types import Guard

from mayfly.engine.plane import ControlPlane
from mayfly.model.protocol import Counted, RingOrder
from mayfly.model.requests import Dead, RunnerRequest, Waiting
from mayfly.web.injected import GivenPlane, Limit
from mayfly.web.names import pool_named
from mayfly.web.problems import documented


@get("/depth", responses=documented(404, 503))
async def depth(pool: FromPath[str], plane: GivenPlane) -> Counted:
    """How many runner requests wait, those that are leased left out."""
    return Counted(count=await plane.bus.depth(_known(plane, pool)))


@get("/peek", responses=documented(400, 404, 503))
async def peek(pool: FromPath[str], plane: GivenPlane, limit: Limit = 100) -> list[Waiting]:
    """Some of those that wait; none of them is taken."""
    return await plane.bus.peek(_known(plane, pool), limit)


@get("/dead", responses=documented(400, 404, 503))
async def dead(pool: FromPath[str], plane: GivenPlane, limit: Limit = 100) -> list[Dead]:
    """Some of the messages nobody is given any more, and why."""
    return await plane.bus.dead(_known(plane, pool), limit)


@post("/drain", status_code=200, responses=documented(404, 413, 503))
async def drain(pool: FromPath[str], plane: GivenPlane) -> Counted:
    """Remove every runner request that waits; the reconciler rings again for what is open."""
    return Counted(count=await plane.bus.drain(_known(plane, pool)))


@post("/requeue", status_code=200, responses=documented(404, 413, 503))
async def requeue(pool: FromPath[str], plane: GivenPlane) -> Counted:
    """Let every dead message wait again."""
    return Counted(count=await plane.bus.requeue(_known(plane, pool)))


@post("/ring", status_code=204, responses=documented(400, 404, 413, 422, 503))
async def ring(pool: FromPath[str], data: JSONBody[RingOrder], plane: GivenPlane) -> None:
    """Publish runner requests for the pool; a ring for nothing costs an executor one question."""
    await plane.bus.publish([RunnerRequest(pool=_known(plane, pool))] * data.times)


def routes(guard: Guard) -> Router:
    """For operators."""
    return Router(
        "/v1/pools/{pool:str}",
        route_handlers=[depth, peek, dead, drain, requeue, ring],
        guards=[guard],
        security=[{"bearer": []}],
        tags=["operator"],
    )


def _known(plane: ControlPlane, pool: str) -> str:
    return pool_named(plane.pools, pool)
