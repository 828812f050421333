"""A PostgreSQL of the tests' own: private files, a private port, gone afterwards."""

import asyncio
import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache
from itertools import count
from pathlib import Path

import asyncpg

from mayfly.database.postgres import migrated
from tests.servers.absent import absent

HOST = "127.0.0.1"
DEADLINE = 30.0
"""Seconds for the server to begin or to recover on a busy machine."""
_TEMPLATE = "migrated"
_CUT_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_EMPTY = """
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema()
    AND tablename <> 'alembic_version'
  LOOP EXECUTE format('DELETE FROM %I', name); END LOOP;
END $$
"""


def installed() -> Path | None:
    """The directory of the newest version's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    return found[-1].parent if found else None


def _version(program: Path) -> int:
    return int(program.parent.parent.name)


class PostgresServer:
    """Starts, stops, is killed and started again; `fsync` off is for tests that kill nothing."""

    def __init__(self, *, fsync: bool = False, port: int | None = None) -> None:
        programs = installed()
        assert programs is not None
        self._programs = programs
        self.port = port or _free_port()
        # Everything above is open to all, as PostgreSQL does not run as root.
        self._folder = Path(tempfile.mkdtemp(prefix="mayfly-postgres-", dir="/tmp"))
        self._folder.chmod(0o755)
        self._files = self._folder / "files"
        self._files.mkdir(mode=0o700)
        self._numbers = count(1)
        self._spare: list[str] = []
        self._has_template = False
        self._process: subprocess.Popen[bytes] | None = None
        self._options = ["-c", f"fsync={'on' if fsync else 'off'}"]
        if os.geteuid() == 0:
            for folder in (self._folder, self._files):
                shutil.chown(folder, "postgres", "postgres")
        self._run(
            "initdb", "-D", self._files, "-U", "mayfly", "-A", "trust", "--no-sync", "-E", "UTF8"
        )

    def start(self) -> None:
        """Until it takes connections."""
        arguments = ["-D", str(self._files), "-p", str(self.port), "-k", str(self._folder)]
        settings = [f"listen_addresses={HOST}", "max_connections=200"]
        options = [word for setting in settings for word in ("-c", setting)] + self._options
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", *arguments, *options), stdout=log, stderr=log
            )
        end = time.monotonic() + DEADLINE
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < end, "PostgreSQL does not begin"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """In good order, at once: sessions are ended."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(DEADLINE)
            self._process = None

    def kill(self) -> None:
        """As a machine that loses its power: nothing is flushed by anybody on the way out."""
        if self._process is None:
            return
        children = _children(self._process.pid)
        for process in (self._process.pid, *children):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait(DEADLINE)
        self._process = None
        end = time.monotonic() + DEADLINE
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < end, "PostgreSQL's processes do not end"
            time.sleep(0.01)  # they hold its shared memory

    def remove(self) -> None:
        """Stop it, and leave nothing behind."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://mayfly@{HOST}:{self.port}/{database}"

    async def empty(self) -> str:
        """The address of a new database without any table."""
        return await self._created("template1")

    async def fresh(self) -> str:
        """The address of a new database with the newest schema."""
        if not self._has_template:
            self._has_template = True
            await self._rows(f"CREATE DATABASE {_TEMPLATE}")
            await migrated(self.url(_TEMPLATE))
        return await self._created(_TEMPLATE)

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[str]:
        """A fresh one, or what another test had, emptied: to make one takes half a second."""
        url = self._spare.pop() if self._spare else await self.fresh()
        try:
            yield url
        finally:
            connection = await asyncpg.connect(url)
            try:
                await connection.execute(_CUT_OFF)
                await connection.execute(_EMPTY)
            finally:
                await connection.close()
            self._spare.append(url)

    async def drop(self, url: str) -> None:
        """Whoever is connected to it is cut off."""
        await self._rows(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    async def execute(self, statement: str) -> None:
        """For the whole server."""
        await self._rows(statement)

    async def databases(self) -> set[str]:
        """The names of all there are."""
        return {str(row["datname"]) for row in await self._rows("SELECT datname FROM pg_database")}

    def created(self) -> str:
        """As `empty`, whether or not an event loop runs."""
        with ThreadPoolExecutor(1) as beside:
            return beside.submit(lambda: asyncio.run(self.empty())).result()

    async def _created(self, template: str) -> str:
        name = f"t{os.getpid()}_{next(self._numbers)}"
        await self._rows(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    async def _rows(self, query: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            return list(await connection.fetch(query, *values))
        finally:
            await connection.close()

    def _answers(self) -> bool:
        ready = [str(self._programs / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            self._command(program, *map(str, arguments)), check=True, stdout=subprocess.DEVNULL
        )

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() != 0:
            return command
        as_postgres = ["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=INT"]
        return ["setpriv", *as_postgres, *command]


def needed() -> None:
    """Ends the test where PostgreSQL is not installed."""
    if installed() is None:
        absent("PostgreSQL is not installed; tests/servers/install says how")


@cache
def shared() -> PostgresServer:
    """One for all tests of this process."""
    needed()
    server = PostgresServer()
    atexit.register(server.remove)
    server.start()
    return server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _children(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(child) for child in listed.split()]
