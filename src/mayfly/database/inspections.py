"""Looking at a database without changing it: no migration, no new file, no lock that is felt."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from mayfly.database.addresses import path_of
from mayfly.database.kinds import server
from mayfly.database.migrations import history
from mayfly.model.errors import InvalidSettings, Transient

T = TypeVar("T")

PATIENCE_SECONDS = 8.0
"""For one look; a whole check of a large file may need more, and is given up."""
_GIVEN_UP = "interrupted"
_MOST_FAULTS = 3


class Schema(StrEnum):
    """How a database's schema relates to this version of Mayfly."""

    ABSENT = "absent"
    """There is nothing yet; it is made when it is opened."""
    BEHIND = "behind"
    CURRENT = "current"
    AHEAD = "ahead"
    """A newer Mayfly has used it."""
    FOREIGN = "foreign"
    """It belongs to another program."""


class SchemaState(NamedTuple):
    """What was found, and what this version would leave there."""

    schema: Schema
    found: str | None
    newest: str


async def inspect(url: str) -> SchemaState:
    """The schema at `url`. InvalidSettings: it cannot be used; Transient: not just now."""
    found = await look(url, schema_of)
    return found or SchemaState(Schema.ABSENT, None, history()[0])


async def look(url: str, step: Callable[[Connection], T]) -> T | None:
    """What `step` reads there; None when there is no database yet.

    InvalidSettings: it cannot be used; Transient: it is busy, or `step` took too long.
    """
    path = path_of(url)
    if path is not None:
        return await asyncio.to_thread(_look_at_file, path, step)
    found: T | None = await server().looked(url, step)
    return found


def schema_of(connection: Connection) -> SchemaState:
    """The schema's revision against the migrations of this version."""
    newest, *older = history()
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None:
        empty = not sa.inspect(connection).get_table_names()
        return SchemaState(Schema.ABSENT if empty else Schema.FOREIGN, None, newest)
    if found == newest:
        return SchemaState(Schema.CURRENT, found, newest)
    return SchemaState(Schema.BEHIND if found in older else Schema.AHEAD, found, newest)


def faults_of(connection: Connection) -> list[str]:
    """What SQLite's quick check says is broken; servers look after themselves."""
    if connection.dialect.name != "sqlite":
        return []
    rows = connection.exec_driver_sql(f"PRAGMA quick_check({_MOST_FAULTS})").scalars()
    return [row for row in rows if row != "ok"]


def _look_at_file(path: str, step: Callable[[Connection], T]) -> T | None:
    if not Path(path).exists():
        return None
    engine = sa.create_engine("sqlite://", creator=lambda: _opened(path), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            return step(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _translated(error, path) from error
    finally:
        engine.dispose()


def _opened(path: str) -> sqlite3.Connection:
    # A reader of a file in WAL mode leaves SQLite's own files behind, perhaps as another user's.
    # Where they are missing nobody has the file open, and it may be read as if it never changed.
    mode = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    uri = f"{Path(path).as_uri()}?{mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    return connection


def _translated(error: Exception, path: str) -> InvalidSettings | Transient:
    reason = str(getattr(error, "orig", error))
    if reason == _GIVEN_UP:
        return Transient(f"it took more than {PATIENCE_SECONDS:.0f} s")
    if "locked" in reason:
        return Transient(f"the database {path} is held by another process; try again")
    return InvalidSettings(
        f"the database {path} cannot be read: {reason}; check the path and its owner"
    )
