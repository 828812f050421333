"""SQLite as a durable, shared file: one writer thread that commits a batch of callers at once."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from mayfly.database.migrations import migrate
from mayfly.model.errors import InvalidSettings, Transient

T = TypeVar("T")

LARGEST_BATCH = 256
"""Callers that share a commit: far beyond what waits at once, so that one batch stays short."""
BUSY_SECONDS = 10.0
"""How long to wait for another process that writes to the same file."""


class Database:
    """Steps run in the order they were given; each is durable when its caller goes on."""

    def __init__(self, path: str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._engine = _engine(path, "BEGIN IMMEDIATE", busy_seconds)
        self._reading = _engine(path, "BEGIN", busy_seconds)
        self._writer = _Worker(self._engine, "mayfly-writer")
        self._reader = _Worker(self._reading, "mayfly-reader")

    async def write(self, step: Callable[[Connection], T]) -> T:
        """`step` in a transaction of its own effect: all durable, or nothing happened."""
        return await self._writer.run(step)

    async def read(self, step: Callable[[Connection], T]) -> T:
        """`step` on a consistent snapshot, beside the writer."""
        return await self._reader.run(step)

    async def leads(self, period: timedelta) -> bool | None:
        """A file has nobody who would notice that a leader is gone."""
        del period
        return None

    async def resign(self) -> None:
        """Nothing to give back."""

    def ring(self, connection: Connection, names: Collection[str]) -> None:
        """Nobody listens: another process on the same file looks every second."""

    @asynccontextmanager
    async def listening(self, hear: Callable[[str], None]) -> AsyncIterator[None]:
        """Nothing is ever heard."""
        del hear
        yield

    @property
    def hears(self) -> bool:
        """Never."""
        return False

    async def close(self) -> None:
        """Everything handed in is done; then the file is closed."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for worker, engine in ((self._writer, self._engine), (self._reader, self._reading)):
            worker.stop()
            engine.dispose()


class _Call(NamedTuple):
    step: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class _Worker:
    """A thread with one connection; callers that wait together share one commit."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, step: Callable[[Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put(_Call(step, future, loop))
        return await future

    def stop(self) -> None:
        self._calls.put(None)
        self._thread.join()

    def _work(self) -> None:
        connection: Connection | None = None
        while (batch := self._batch()) is not None:
            try:
                connection = connection or self._engine.connect()
            except (SQLAlchemyError, sqlite3.Error) as error:
                # A thread that ended here would leave its callers waiting for ever.
                _tell(batch, [_translated(error)] * len(batch))
                continue
            _tell(batch, _committed(connection, [call.step for call in batch]))
        if connection is not None:
            connection.close()

    def _batch(self) -> list[_Call] | None:
        first = self._calls.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < LARGEST_BATCH:
            try:
                call = self._calls.get_nowait()
            except Empty:
                break
            if call is None:
                self._calls.put(None)
                break
            batch.append(call)
        return batch


def _committed(connection: Connection, steps: list[Callable[[Connection], Any]]) -> list[Any]:
    """The result or the exception of each step; a step that fails takes no other with it."""
    if len(steps) == 1:
        return [_alone(connection, steps[0])]
    try:
        with connection.begin():
            return [_within(connection, step) for step in steps]
    except SQLAlchemyError as error:
        return [_translated(error)] * len(steps)


def _alone(connection: Connection, step: Callable[[Connection], Any]) -> Any:  # noqa: ANN401 - the step's own type
    try:
        with connection.begin():
            return step(connection)
    except Exception as error:  # top of a step: its own caller gets it
        return _Failed(_translated_or(error))


def _within(connection: Connection, step: Callable[[Connection], Any]) -> Any:  # noqa: ANN401 - the step's own type
    try:
        with connection.begin_nested():
            return step(connection)
    except Exception as error:  # top of a step: its own caller gets it
        return _Failed(_translated_or(error))


class _Failed(NamedTuple):
    error: BaseException


def _translated_or(error: Exception) -> BaseException:
    return _translated(error).error if isinstance(error, OperationalError) else error


def _translated(error: Exception) -> _Failed:
    reason = str(getattr(error, "orig", error))
    ours = Transient(f"the database does not answer: {reason}; nothing was changed")
    ours.__cause__ = error
    return _Failed(ours)


def _tell(batch: list[_Call], results: list[Any]) -> None:
    """One wake-up of the event loop for the whole batch."""
    loop = batch[0].loop

    def resolve() -> None:
        for call, result in zip(batch, results, strict=True):
            if call.future.done():
                continue
            if isinstance(result, _Failed):
                call.future.set_exception(result.error)
            else:
                call.future.set_result(result)

    if not loop.is_closed():
        loop.call_soon_threadsafe(resolve)


async def migrated(path: str) -> None:
    """The file has the newest schema; InvalidSettings when it cannot be opened."""
    await asyncio.to_thread(_migrated, path)


def _migrated(path: str) -> None:
    engine = _engine(path, "BEGIN IMMEDIATE", BUSY_SECONDS)
    try:
        # Who runs here and why is nobody else's to read; SQLite's own files follow this mode.
        Path(path).touch(mode=0o600)
        with engine.connect() as connection, connection.begin():
            migrate(connection)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or str(getattr(error, "orig", error))
        raise InvalidSettings(
            f"the database {path} cannot be opened: {reason}; check the path and its owner"
        ) from error
    finally:
        engine.dispose()


def _write_ahead(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Kept in the file. SQLite makes nobody wait who sets it while another does."""
    end = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)  # in a thread of its own, never the loop's
        else:
            return


def _engine(path: str, begin: str, busy_seconds: float) -> Engine:
    engine = create_engine(URL.create("sqlite", database=path), hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin on its own
        connection.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
        if begin == "BEGIN IMMEDIATE":
            _write_ahead(connection, busy_seconds)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
