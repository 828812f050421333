"""What every route needs of a request: the world, the credential, the body, the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response
from litestar.datastructures import State

from mayfly.simulator.refusals import Refusal, unprocessable
from mayfly.simulator.world import World

Asked: TypeAlias = Request[Any, Any, State]
T = TypeVar("T")


def world_of(request: Asked) -> World:
    world: World = request.app.state["world"]
    return world


def authorization(request: Asked) -> str | None:
    return request.headers.get("authorization")


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response[Any]:
    return Response(body, status_code=status, headers=headers, media_type="application/json")


async def body_of(request: Asked, shape: type[T]) -> T:
    """The request's JSON in this shape; an empty body counts as `{}`."""
    raw = await request.body() or b"{}"
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        raise unprocessable(f"Invalid request.\n\n{error}", str(error)) from None
    except msgspec.DecodeError:
        raise Refusal(400, "Problems parsing JSON") from None


def per_page(request: Asked) -> int:
    return max(1, min(100, number(request, "per_page", 30)))


def number(request: Asked, name: str, default: int) -> int:
    raw = request.query_params.get(name)
    try:
        return default if raw is None else int(raw)
    except ValueError:
        # GitHub ignores a page that is no number.
        return default


def word(request: Asked, name: str) -> str | None:
    found = request.query_params.get(name)
    return None if found is None else str(found)


def paged(
    request: Asked, items: Sequence[object], key: str | None, total: str = "total_count"
) -> Response[Any]:
    """One page of a list with GitHub's Link header; `key` None gives a bare array."""
    size, page = per_page(request), max(1, number(request, "page", 1))
    shown = list(items[(page - 1) * size : page * size])
    last = max(1, -(-len(items) // size))
    links = []
    if page > 1:
        links += [(1, "first"), (min(page - 1, last), "prev")]
    if page < last:
        links += [(page + 1, "next"), (last, "last")]
    headers = {"Link": ", ".join(_link(request, {"page": n}, r) for n, r in links)} if links else {}
    body = shown if key is None else {total: len(items), key: shown}
    return answer(body, headers=headers)


def cursor_link(request: Asked, cursor: int) -> str:
    """The Link header of the delivery log."""
    return _link(request, {"cursor": cursor}, "next")


def _link(request: Asked, changes: dict[str, int], rel: str) -> str:
    query = {k: v for k, v in request.query_params.items() if k not in changes}
    path = request.scope.get("raw_path", b"").decode() or request.url.path
    target = f"{world_of(request).base}{path}?{urlencode(query | changes)}"
    return f'<{target}>; rel="{rel}"'
