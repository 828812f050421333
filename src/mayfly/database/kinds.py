"""The kinds of database; SQLite's is always there, PostgreSQL's driver is an extra."""

from importlib import import_module
from types import ModuleType

from mayfly.database.addresses import path_of
from mayfly.model.errors import not_installed


def checked(url: str) -> None:
    """InvalidSettings when no database can be at `url`, or its driver is not installed."""
    if path_of(url) is None:
        server()


def server() -> ModuleType:
    """The module of PostgreSQL, which only who uses it pays for."""
    try:
        import_module("greenlet")  # SQLAlchemy asks for it when it is too late
        from mayfly.database import postgres  # noqa: PLC0415 - see above
    except ImportError as error:
        raise not_installed("PostgreSQL", "postgres", error) from error
    return postgres
