"""Calls to a control plane's operator API, for commands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx
import msgspec

from mayfly.cli.environment import read_secret, variable
from mayfly.model.errors import InvalidSettings, NotFound, Permanent, Transient, Unauthentic

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8080"
_PATIENCE = httpx.Timeout(30.0, connect=5.0)


class Declined(Permanent):
    """The control plane says no: as things are, this cannot be changed."""


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What a person needs of a problem; the web's own type would import the whole server."""

    title: str
    detail: str = ""


def get(path: str, kind: type[T], **params: str | int | bool | None) -> T:
    """GET, decoded as `kind`."""
    return _decoded(_call("GET", path, params=params).content, kind)


def post(path: str, kind: type[T], order: object = None) -> T:
    """POST an order, or no body, decoded as `kind`."""
    body = None if order is None else msgspec.to_builtins(order)
    return _decoded(_call("POST", path, json=body).content, kind)


def put(path: str, body: object) -> None:
    """PUT a JSON body."""
    _call("PUT", path, json=body)


def delete(path: str, **params: str | int | bool | None) -> None:
    """DELETE."""
    _call("DELETE", path, params=params)


def lines(path: str) -> Iterator[str]:
    """The lines of an endless answer."""
    with _client() as client:
        try:
            with client.stream("GET", path, timeout=httpx.Timeout(5.0, read=None)) as response:
                if response.is_error:
                    response.read()
                    _refused(response)
                yield from response.iter_lines()
        except httpx.TransportError as error:
            raise _unreachable(error) from error


def _call(method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own options
    params = options.pop("params", {})
    given = {name: value for name, value in params.items() if value is not None}
    options["params"] = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in given.items()
    }
    with _client() as client:
        try:
            response = client.request(method, path, **options)
        except httpx.TransportError as error:
            raise _unreachable(error) from error
    if response.is_error:
        _refused(response)
    return response


def _decoded(content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Permanent(f"{url()} is not a Mayfly of this version; check MAYFLY_URL") from error


def _client() -> httpx.Client:
    headers = {"authorization": f"Bearer {token()}"}
    try:
        return httpx.Client(base_url=url(), headers=headers, timeout=_PATIENCE)
    except httpx.InvalidURL as error:
        raise InvalidSettings(
            f"MAYFLY_URL is {url()!r}; it must be an address like {DEFAULT_URL}"
        ) from error


def url() -> str:
    """Of the control plane."""
    return variable("MAYFLY_URL") or DEFAULT_URL


def token() -> str:
    """The operator's."""
    found = variable("MAYFLY_TOKEN")
    if found is None and (path := variable("MAYFLY_TOKEN_FILE")):
        found = read_secret(Path(path), "an operator's token")
    if found is None:
        raise InvalidSettings(
            "set MAYFLY_TOKEN_FILE or MAYFLY_TOKEN to an operator's token; "
            "`mayfly token new NAME --role operator` makes one"
        )
    if not (found.isascii() and found.isprintable()):
        raise InvalidSettings("the operator's token has characters no token has; copy it again")
    return found


def _unreachable(error: httpx.TransportError) -> Transient:
    reason = str(error) or type(error).__name__
    return Transient(
        f"no control plane answers at {url()} ({reason}); "
        "start it with `mayfly serve` or set MAYFLY_URL"
    )


def _refused(response: httpx.Response) -> NoReturn:
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Permanent(
            f"{url()} answers HTTP {response.status_code} and is not a Mayfly; check MAYFLY_URL"
        ) from None
    kind = {
        401: Unauthentic,
        403: Unauthentic,
        404: NotFound,
        409: Declined,
        503: Transient,
    }
    raise kind.get(response.status_code, Permanent)(problem.detail or problem.title)
