"""A database's address, `sqlite:///PATH` or `postgresql://…`, and how it may be shown."""

from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mayfly.model.errors import InvalidSettings
from mayfly.model.urls import QUOTE, parts_of

KNOWN = f"sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME; {QUOTE}"


def parsed(url: str) -> URL:
    """The address in its parts; InvalidSettings, showing none of them, when it is none of ours."""
    address = _read(url)
    if address is None:
        raise InvalidSettings(
            f"the url of the store or the bus is no database address; use {KNOWN}"
        )
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


def _read(url: str) -> URL | None:
    """None: it cannot be read, or not without doubt."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        return None
    # A file may be called anything; a server's url may hold a password.
    return address if address.get_backend_name() == "sqlite" or parts_of(url) else None
