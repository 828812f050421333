"""Tickets, for launched executors: the only thing they can do before they have a token."""

from typing import Any, Final

from litestar import Request, Router, post
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotAuthorizedException
from litestar.params import JSONBody

from mayfly.engine.declined import Declined
from mayfly.model.protocol import Redeemed, RedeemOrder
from mayfly.web.callers import CHALLENGE, presented
from mayfly.web.injected import GivenPlane
from mayfly.web.names import check_texts
from mayfly.web.problems import documented

_LONGEST: Final = 200


@post(
    "/redeem",
    status_code=201,
    cache_control=CacheControlHeader(no_store=True),
    responses=documented(400, 401, 413, 503),
)
async def redeem(
    request: Request[Any, Any, Any], data: JSONBody[RedeemOrder], plane: GivenPlane
) -> Redeemed:
    """Turn a ticket, sent as `Authorization: Bearer TICKET`, into a token; it works once."""
    check_texts(pool=data.pool, nonce=data.nonce)
    ticket = presented(request)[:_LONGEST].decode("ascii", "replace")
    answer = await plane.tickets.redeem(ticket, data.pool, data.nonce)
    if isinstance(answer, Declined):
        raise NotAuthorizedException(answer.sentence, headers=CHALLENGE)
    return answer


def routes() -> Router:
    """Open to everybody, because who has no ticket gets nothing."""
    return Router("/v1/tickets", route_handlers=[redeem], tags=["executor"])
