"""Who calls: bearer tokens checked before a request's body is read."""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from mayfly.web.tokens import Role, Token, Tokens

Connection = ASGIConnection[Any, Any, Any, Any]
Call = Request[None, Token, State]
"""A request that a guard has let through: `request.auth` is the caller's token."""


def admitting(tokens: Tokens, *roles: Role) -> Guard:
    """A guard that lets only bearers of these roles through: 401 without a token, else 403."""

    def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        token = tokens.find(_presented(connection))
        if token is None:
            raise _unknown("this token is not known here; make one with `mayfly token new`")
        if token.role not in roles:
            raise PermissionDeniedException(
                f"token {token.name!r} has the role {token.role}; "
                f"this path needs {' or '.join(roles)}"
            )
        connection.scope["auth"] = token

    return guard


def bound(token: Token, pool: str) -> None:
    """Lets a token through that is bound to `pool`, else 403."""
    if not token.serves(pool):
        raise PermissionDeniedException(
            f"token {token.name!r} serves {', '.join(token.pools)}, not this pool; "
            "use a token of that pool or add the pool to this one's `pools`"
        )


def _presented(connection: Connection) -> bytes:
    # Bytes, because a header may hold anything and only a hash of it is wanted.
    headers = [value for name, value in connection.scope["headers"] if name == b"authorization"]
    if not headers:
        raise _unknown("send the header `Authorization: Bearer TOKEN`")
    scheme, _, credentials = headers[0].partition(b" ")
    if scheme.lower() != b"bearer" or len(headers) > 1:
        raise _unknown("send one header `Authorization: Bearer TOKEN`")
    return credentials.strip()


def _unknown(detail: str) -> NotAuthorizedException:
    return NotAuthorizedException(detail, headers={"WWW-Authenticate": 'Bearer realm="mayfly"'})
