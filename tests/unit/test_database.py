"""The database: group commit, one writer a file, migrations."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event

from mayfly.bus import sql as bus
from mayfly.database import migrations, open_database
from mayfly.database.migrations import migrate
from mayfly.database.sqlite import Database
from mayfly.model.errors import InvalidSettings, Transient
from mayfly.store import schema

PUT = sa.text("INSERT INTO pool (name, used) VALUES (:name, 0)")
COUNT = sa.text("SELECT count(*) FROM pool")
DEADLINE = 10


def put(name: str, connection: Connection) -> str:
    connection.execute(PUT, {"name": name})
    return name


def count(connection: Connection) -> int:
    return int(connection.execute(COUNT).scalar_one())


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mayfly.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with open_database(url_of(path)) as opened:
        assert isinstance(opened, Database)
        yield opened


class Held:
    """A step that keeps the writer busy until it is released."""

    def __init__(self) -> None:
        self._began, self._release = threading.Event(), threading.Event()

    def step(self, connection: Connection) -> None:
        self._began.set()
        assert self._release.wait(DEADLINE)

    async def began(self) -> None:
        assert await asyncio.to_thread(self._began.wait, DEADLINE)

    def release(self) -> None:
        self._release.set()


async def test_a_write_is_there_for_the_next_read(database: Database):
    assert await database.write(partial(put, "a")) == "a"
    assert await database.read(count) == 1


async def test_a_step_that_raises_leaves_nothing_behind(database: Database):
    def step(connection: Connection) -> None:
        put("a", connection)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        await database.write(step)
    assert await database.read(count) == 0


async def test_a_step_that_raises_takes_no_other_of_its_batch_with_it(database: Database):
    def half(connection: Connection) -> None:
        put("half", connection)
        raise RuntimeError("half way")

    held = Held()
    first = asyncio.create_task(database.write(held.step))
    await held.began()
    steps: list[Callable[[Connection], object]] = [
        partial(put, "a"),
        half,
        partial(put, "a"),
        partial(put, "b"),
    ]
    batch = [asyncio.create_task(database.write(step)) for step in steps]
    await asyncio.sleep(0)
    held.release()
    answers = await asyncio.gather(*batch, return_exceptions=True)
    await first
    assert [isinstance(answer, Exception) for answer in answers] == [False, True, True, False]
    assert await database.read(count) == 2


async def test_writes_that_wait_together_share_a_commit(database: Database):
    commits: list[object] = []
    event.listen(database._engine, "commit", commits.append)
    held = Held()
    first = asyncio.create_task(database.write(held.step))
    await held.began()
    many = [asyncio.create_task(database.write(partial(put, f"p{n}"))) for n in range(100)]
    await asyncio.sleep(0)
    held.release()
    await asyncio.gather(first, *many)
    assert len(commits) == 2
    assert await database.read(count) == 100


async def test_a_caller_that_gave_up_does_not_disturb_its_batch(database: Database):
    held = Held()
    first = asyncio.create_task(database.write(held.step))
    await held.began()
    gone = asyncio.create_task(database.write(partial(put, "gone")))
    stays = asyncio.create_task(database.write(partial(put, "stays")))
    await asyncio.sleep(0)
    gone.cancel()
    held.release()
    await asyncio.gather(first, stays)
    assert await database.read(count) == 2


async def test_reads_go_on_beside_a_long_write(database: Database):
    held = Held()
    writing = asyncio.create_task(database.write(held.step))
    await held.began()
    assert await database.read(count) == 0
    held.release()
    await writing


async def test_another_process_that_writes_is_waited_for(path: Path, database: Database):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ours = asyncio.create_task(database.write(partial(put, "ours")))
        await database.read(count)
        assert not ours.done()
        other.execute("COMMIT")
        async with asyncio.timeout(DEADLINE):
            assert await ours == "ours"


async def test_a_lock_held_too_long_is_a_transient_and_the_next_write_works(
    path: Path, database: Database
):
    impatient = Database(str(path), busy_seconds=0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answers = await asyncio.gather(
            *(impatient.write(partial(put, f"p{n}")) for n in range(3)),
            return_exceptions=True,
        )
        assert all(isinstance(answer, Transient) for answer in answers)
        assert "database is locked; nothing was changed" in str(answers[0])
        other.execute("COMMIT")
    await impatient.write(partial(put, "after"))
    assert await database.read(count) == 1
    await impatient.close()


async def test_the_store_and_the_bus_share_a_writer(path: Path):
    async with open_database(url_of(path)) as first:
        async with open_database(url_of(path)) as second:
            assert second is first
        await first.write(partial(put, "still open"))


async def test_opened_twice_at_once_it_is_one_writer_that_outlives_the_first_to_close(path: Path):
    first, second = open_database(url_of(path)), open_database(url_of(path))
    one, other = await asyncio.gather(first.__aenter__(), second.__aenter__())
    assert one is other
    await first.__aexit__(None, None, None)
    async with asyncio.timeout(DEADLINE):
        await other.write(partial(put, "a"))
    await second.__aexit__(None, None, None)


async def test_a_new_file_that_another_process_just_sets_up_is_waited_for(path: Path):
    setting_up = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    setting_up.execute("BEGIN IMMEDIATE")  # for which SQLite lets nobody wait
    asyncio.get_running_loop().call_later(0.3, setting_up.execute, "COMMIT")
    async with asyncio.timeout(DEADLINE), open_database(url_of(path)) as database:
        await database.write(partial(put, "a"))
    setting_up.close()


async def test_it_can_be_opened_again_after_it_was_closed(path: Path):
    for name in ("a", "b"):
        async with open_database(url_of(path)) as database:
            await database.write(partial(put, name))
    async with open_database(url_of(path)) as database:
        assert await database.read(count) == 2


@pytest.mark.parametrize("name", ["100%.db", "a?b=c.db", "with space.db", "ünïcode.db"])
async def test_any_path_will_do(tmp_path: Path, name: str):
    database = Database(str(tmp_path / name))
    assert await database.read(lambda connection: connection.execute(sa.text("SELECT 1")).scalar())
    await database.close()
    assert (tmp_path / name).exists()


async def test_writes_are_durable_and_readers_are_not_locked_out(database: Database):
    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.write(pragmas) == ["wal", 2, 1, 10_000]
    assert await database.read(pragmas) == ["wal", 2, 1, 10_000]


async def test_a_new_file_is_nobody_elses_to_read(path: Path, database: Database):
    await database.write(partial(put, "a"))
    files = list(path.parent.glob("mayfly.db*"))
    assert len(files) == 3, "the file, its log and its index"
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


# What cannot be opened


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "is no database address; use sqlite:///PATH"),
        ("mysql://db/mayfly", "names 'mysql'; this version knows sqlite:///PATH or postgresql://"),
        ("sqlite://", "this version knows sqlite:///PATH"),
        (
            "sqlite:////nowhere/at/all/mayfly.db",
            "database /nowhere/at/all/mayfly.db cannot be opened: ",
        ),
        ("sqlite:////proc/mayfly.db", "check the path and its owner"),
    ],
)
async def test_an_address_that_cannot_be_used_is_refused_with_a_sentence(url: str, words: str):
    with pytest.raises(InvalidSettings) as refused:
        async with open_database(url):
            pass
    assert words in str(refused.value)


@pytest.fixture
def diary(path: Path) -> Iterator[Path]:
    path.write_text("my diary, " * 200)
    yield path
    assert path.read_text().startswith("my diary")


async def test_a_file_that_is_no_database_is_refused_and_left_alone(diary: Path):
    with pytest.raises(InvalidSettings, match="file is not a database"):
        async with open_database(url_of(diary)):
            pass


# Migrations


async def test_the_migrations_make_what_the_code_declares(database: Database):
    """Indexes stand in the migrations alone: they are for the planner, not for the code."""
    declared = sa.MetaData()
    for table in (*schema.metadata.tables.values(), bus.message):
        table.to_metadata(declared)

    def differences(connection: Connection) -> object:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_object": lambda _o, _n, kind, *_: kind != "index",
            },
        )
        return compare_metadata(context, declared)

    assert await database.read(differences) == []


PLANS = {
    "SELECT min(queued_at) FROM job WHERE grp = 1 AND state = 2": "job_waiting",
    "SELECT * FROM grp WHERE pool = 'a' AND queued > supply": "grp_open",
    "SELECT * FROM grp WHERE surplus_since <= 5": "grp_surplus",
    "SELECT * FROM claim WHERE machine = 'a'"
    " AND state IN ('claimed', 'minting', 'registered', 'busy')": "claim_live_machine",
    "SELECT * FROM registration WHERE claim = 'a'": "registration_claim",
    "SELECT * FROM message WHERE subject = 'a' AND leased_until <= 5": "message_waiting",
}


@pytest.mark.parametrize("query", PLANS)
async def test_questions_of_the_hot_path_have_an_index(database: Database, query: str):
    def plan(connection: Connection) -> str:
        return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all())

    assert PLANS[query] in await database.read(plan)


async def test_migrating_twice_changes_nothing(database: Database):
    await database.write(partial(put, "a"))
    await database.write(migrate)
    assert await database.read(count) == 1


VERSIONS = Path(migrations.__file__).parent / "versions"
OPEN = """
import asyncio, sys
from mayfly.database import open_database
async def main():
    async with open_database(sys.argv[1]):
        print("open")
asyncio.run(main())
"""


async def test_two_processes_may_migrate_at_once(path: Path):
    command = [sys.executable, "-c", OPEN, url_of(path)]
    processes = [
        await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(2)
    ]
    async with asyncio.timeout(60):
        answers = [await process.communicate() for process in processes]
    assert [answer for answer, _ in answers] == [b"open\n", b"open\n"]
    newest = max(found.name[:4] for found in VERSIONS.glob("[0-9]*.py"))
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest,)]


async def test_a_file_that_cannot_be_opened_is_an_answer_and_no_silence(tmp_path: Path):
    database = Database(str(tmp_path / "missing" / "ledger.sqlite"))
    for ask in (database.write, database.read):
        with pytest.raises(Transient, match="unable to open database file"):
            await ask(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
    await database.close()
