"""A database's address, `sqlite:///PATH` or `postgresql://…`, and how it may be shown."""

from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mayfly.model.errors import InvalidSettings

KNOWN = "sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME"


def parsed(url: str) -> URL:
    """The address in its parts; InvalidSettings, without its password, when it is none of ours."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InvalidSettings(f"{_shown(url)!r} is no database address; use {KNOWN}") from error
    kind = address.get_backend_name()
    if kind not in {"sqlite", "postgresql"} or not address.database:
        raise InvalidSettings(f"store.url names {kind!r}; this version knows {KNOWN}")
    return address


def path_of(url: str) -> str | None:
    """The file `url` names; None when the database is not a file."""
    address = parsed(url)
    if address.get_backend_name() != "sqlite":
        return None
    return str(Path(address.database or "").absolute())


def place_of(address: URL) -> str:
    """Where a server's database is: nothing of who asks, and no password."""
    host = address.host or "localhost"
    return f"{address.database} at {host}:{address.port or 5432}"


def _shown(url: str) -> str:
    """What cannot be read may have its password anywhere before the last @ or after a ?."""
    place = url.partition("?")[0].rpartition("@")
    return f"…@{place[2]}" if place[1] else place[2]
