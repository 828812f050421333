"""Opening a database: which kind its address names, and once in a process whoever asks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from types import ModuleType
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from mayfly.database import sqlite
from mayfly.database.addresses import path_of
from mayfly.database.kinds import server

T = TypeVar("T")

Hear = Callable[[str], None]
"""Told the name that was rung; the empty one stands for every name."""


class Database(Protocol):
    """Steps in transactions; Transient when the database does not answer."""

    async def write(self, step: Callable[[Connection], T]) -> T:
        """`step` in a transaction: all of it is durable, or nothing happened.

        It may be run again from its beginning, so it changes nothing but the database.
        """

    async def read(self, step: Callable[[Connection], T]) -> T:
        """`step` on a consistent snapshot, beside the writers."""

    async def leads(self, period: timedelta) -> bool | None:
        """Whether this process leads those that share the database.

        Asked at least every three periods, or the lead is lost; None when the database has no
        service for it.
        """

    async def resign(self) -> None:
        """Another process may lead at once."""

    def ring(self, connection: Connection, names: Collection[str]) -> None:
        """Tell every process that listens, once the transaction of `connection` is committed."""

    def listening(self, hear: Hear) -> AbstractAsyncContextManager[None]:
        """`hear` is called for what any process rings."""

    @property
    def hears(self) -> bool:
        """Whether rings of other processes are heard now."""

    async def close(self) -> None:
        """Everything handed in is done first."""


_open: dict[tuple[str, asyncio.AbstractEventLoop], tuple[Database, int]] = {}
"""Databases open in this process, with the number of their users: store and bus share one."""


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """The database at `url`, migrated; InvalidSettings when it cannot be used.

    Opened twice in one process, it is the same one, so that its users share what it has.
    """
    kind, where = _kind_of(url)
    key = where, asyncio.get_running_loop()
    if key not in _open:
        await kind.migrated(where)
    database, users = _open.get(key) or (kind.Database(where), 0)  # somebody may have been faster
    _open[key] = database, users + 1
    try:
        yield database
    finally:
        database, users = _open.pop(key)
        if users > 1:
            _open[key] = database, users - 1
        else:
            await database.close()


def _kind_of(url: str) -> tuple[ModuleType, str]:
    path = path_of(url)
    if path is not None:
        return sqlite, path
    return server(), url
