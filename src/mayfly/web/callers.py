"""Who calls: bearer tokens checked before a request's body is read."""

from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from mayfly.engine.tickets import Tickets
from mayfly.web.tokens import Role, Token, Tokens

Connection = ASGIConnection[Any, Any, Any, Any]
Call = Request[None, Token, State]
"""A request that a guard has let through: `request.auth` is the caller's token."""


CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="mayfly"'}


def admitting(tokens: Tokens, *roles: Role, tickets: Tickets | None = None) -> Guard:
    """A guard that lets only bearers of these roles through: 401 without a token, else 403.

    With `tickets` launched executors are known too, by what they got for theirs.
    """

    async def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        given = presented(connection)
        token = tokens.find(given)
        if token is None and tickets is not None:
            token = await _launched(tickets, given)
        if token is None:
            raise _unknown("this token is not known here; make one with `mayfly token new`")
        if token.role not in roles:
            raise PermissionDeniedException(
                f"token {token.name!r} has the role {token.role}; "
                f"this path needs {' or '.join(roles)}"
            )
        connection.scope["auth"] = token

    return guard


def bound(token: Token, pool: str, machine: str | None = None) -> None:
    """Lets a token through that is bound to `pool`, and may speak for `machine`, else 403."""
    if not token.serves(pool):
        raise PermissionDeniedException(
            f"token {token.name!r} serves {', '.join(token.pools)}, not this pool; "
            "use a token of that pool or add the pool to this one's `pools`"
        )
    if machine is not None and not token.speaks_for(machine):
        raise PermissionDeniedException(
            f"token {token.name!r} is the one of machine {token.machine}, and of no other"
        )


def presented(connection: Connection) -> bytes:
    """The bearer's secret; 401 when there is none."""
    # Bytes, because a header may hold anything and only a hash of it is wanted.
    headers = [value for name, value in connection.scope["headers"] if name == b"authorization"]
    if not headers:
        raise _unknown("send the header `Authorization: Bearer TOKEN`")
    scheme, _, credentials = headers[0].partition(b" ")
    if scheme.lower() != b"bearer" or len(headers) > 1:
        raise _unknown("send one header `Authorization: Bearer TOKEN`")
    return credentials.strip()


def _unknown(detail: str) -> NotAuthorizedException:
    return NotAuthorizedException(detail, headers=CHALLENGE)


async def _launched(tickets: Tickets, given: bytes) -> Token | None:
    """The token of a launched executor, as if an operator had made it for that machine alone."""
    if not given.isascii():
        return None
    launch = await tickets.bearer(given.decode("ascii"))
    if launch is None:
        return None
    return Token(
        name=launch.machine,
        sha256=launch.token or "",
        role=Role.EXECUTOR,
        pools=(launch.pool,),
        machine=launch.machine,
    )
