"""Executors, for operators: which there are, and which of them shall not serve any more."""

from litestar import Router, get, post
from litestar.exceptions import ClientException
from litestar.params import FromQuery, JSONBody
from litestar.types import Guard

from mayfly.engine.declined import Declined
from mayfly.engine.plane import ControlPlane
from mayfly.model.executors import Choice, Command
from mayfly.model.protocol import ExecutorsOrder
from mayfly.web.callers import Call
from mayfly.web.injected import GivenPlane
from mayfly.web.names import check_texts, pool_named
from mayfly.web.problems import Conflict, documented
from mayfly.web.views import ExecutorView, executor_view


@get("/", responses=documented(404))
async def executors(plane: GivenPlane, pool: FromQuery[str | None] = None) -> list[ExecutorView]:
    """Every executor that is known, by pool and machine."""
    name = None if pool is None else pool_named(plane.pools, pool)
    return [executor_view(one) for one in await plane.executors.standings(name)]


@post("/drain", status_code=200, responses=documented(400, 404, 409, 413))
async def drain(
    request: Call, data: JSONBody[ExecutorsOrder], plane: GivenPlane
) -> list[ExecutorView]:
    """Let executors finish their job and take no other until they are returned; which."""
    return await _command(Command.DRAIN, request, data, plane)


@post("/shutdown", status_code=200, responses=documented(400, 404, 409, 413))
async def shutdown(
    request: Call, data: JSONBody[ExecutorsOrder], plane: GivenPlane
) -> list[ExecutorView]:
    """Let executors finish their job and exit with 42; which."""
    return await _command(Command.SHUTDOWN, request, data, plane)


@post("/return", status_code=200, responses=documented(400, 404, 409, 413))
async def return_(
    request: Call, data: JSONBody[ExecutorsOrder], plane: GivenPlane
) -> list[ExecutorView]:
    """Let executors serve again, their failures forgotten; which."""
    return await _command(Command.RETURN, request, data, plane)


def routes(guard: Guard) -> Router:
    """For operators."""
    return Router(
        "/v1/executors",
        route_handlers=[executors, drain, shutdown, return_],
        guards=[guard],
        security=[{"bearer": []}],
        tags=["operator"],
    )


async def _command(
    told: Command, request: Call, order: ExecutorsOrder, plane: ControlPlane
) -> list[ExecutorView]:
    check_texts(machine=order.machine, reason=order.reason)
    if order.machine is not None and order.everything:
        raise ClientException("name a machine, or say everything, but not both")
    if order.machine is None and order.pool is None and not order.everything:
        raise ClientException("name a machine, a pool for any one of it, or say everything")
    pool = None if order.pool is None else pool_named(plane.pools, order.pool)
    choice = Choice(order.machine, pool, order.everything)
    answer = await plane.executors.command(told, choice, request.auth.name, order.reason)
    if isinstance(answer, Declined):
        raise Conflict(answer.sentence)
    return [executor_view(one) for one in answer]
