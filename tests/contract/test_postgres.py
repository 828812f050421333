"""PostgreSQL as a database: lost connections, meetings of transactions, restarts, leadership."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from mayfly.database import open_database, postgres, rights
from mayfly.database.addresses import parsed, path_of
from mayfly.database.leadership import Leadership
from mayfly.database.postgres import Database
from mayfly.database.servers import Server
from mayfly.engine.clock import SystemClock
from mayfly.engine.reconciler import ASK_AGAIN_SECONDS
from mayfly.model.deadlines import Deadlines
from mayfly.model.errors import InvalidSettings, MayflyError, Transient
from mayfly.model.findings import Verdict
from mayfly.ports import Ledger
from mayfly.store.examinations import examine
from mayfly.store.sql import open_store
from tests.fakes.backends import on_postgres
from tests.fakes.factories import queued_job
from tests.fakes.rows import rows_of
from tests.fakes.runner_programs import until
from tests.servers.postgres import PostgresServer, needed, shared

PUT = sa.text("INSERT INTO pool (name, used) VALUES (:name, 0)")
COUNT = sa.text("SELECT count(*) FROM pool")
ADD = sa.text("UPDATE pool SET used = used + 1 WHERE name = :name")
TURN = timedelta(seconds=20)
DEADLINE = 30
ROOT = Path(__file__).parents[2]


def put(name: str, connection: Connection) -> None:
    connection.execute(PUT, {"name": name})


def count(connection: Connection) -> int:
    return int(connection.execute(COUNT).scalar_one())


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with on_postgres(tmp_path) as opened:
        yield opened


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with open_database(url) as opened:
        assert isinstance(opened, Database)
        yield opened


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One that may be killed: what is committed is on the disk."""
    needed()
    own = PostgresServer(fsync=True)
    own.start()
    yield own
    own.remove()


async def until_it_answers(database: Database) -> int:
    """What is counted once the database is back."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await database.read(count)
            except Transient:
                await asyncio.sleep(0.05)


async def until_true(ask: Callable[[], Awaitable[object]], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if await ask():
                return
            await asyncio.sleep(0.02)


# Transactions


async def test_a_step_that_raises_leaves_nothing_behind(database: Database):
    def step(connection: Connection) -> None:
        put("a", connection)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        await database.write(step)
    assert await database.read(count) == 0


async def test_a_caller_that_gives_up_leaves_its_transaction_to_its_end(database: Database):
    holder = asyncio.Event()
    loop = asyncio.get_running_loop()

    def step(connection: Connection) -> None:
        put("gone", connection)
        loop.call_soon(holder.set)
        connection.exec_driver_sql("SELECT pg_sleep(0.2)")
        put("as well", connection)

    for _ in range(2 * postgres.WRITERS):
        holder.clear()
        caller = asyncio.create_task(database.write(step))
        await holder.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        while database._works:
            await asyncio.wait(database._works)
        assert await database.read(count) == 2
        await database.write(lambda one: one.exec_driver_sql("DELETE FROM pool").rowcount)


async def test_two_transactions_that_cross_both_succeed(database: Database):
    await database.write(partial(put, "a"))
    await database.write(partial(put, "b"))
    met = asyncio.Barrier(2)
    runs: list[str] = []

    def crossing(first: str, second: str, connection: Connection) -> None:
        runs.append(first)
        connection.execute(ADD, {"name": first})
        if len(runs) <= 2:
            sa.util.await_(met.wait())
        connection.execute(ADD, {"name": second})

    await asyncio.gather(
        database.write(partial(crossing, "a", "b")), database.write(partial(crossing, "b", "a"))
    )
    assert len(runs) == 3, "PostgreSQL ended one of them, which was run again"
    used = sa.text("SELECT name, used FROM pool ORDER BY name")
    rows = await database.read(lambda connection: connection.execute(used).all())
    assert [tuple(row) for row in rows] == [("a", 2), ("b", 2)]


async def test_a_row_made_twice_at_once_is_tried_again_and_then_the_callers_to_know(
    database: Database,
):
    await database.write(partial(put, "a"))
    runs: list[int] = []

    def step(connection: Connection) -> None:
        runs.append(1)
        put("a", connection)

    with pytest.raises(sa.exc.IntegrityError):
        await database.write(step)
    assert len(runs) == postgres.TRIES


async def test_readers_see_one_snapshot_and_write_nothing(database: Database):
    def settings(connection: Connection) -> list[object]:
        names = ("transaction_isolation", "transaction_read_only")
        return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]

    assert await database.read(settings) == ["repeatable read", "on"]
    assert await database.write(settings) == ["read committed", "off"]


async def test_every_wait_of_a_writer_is_bounded(database: Database):
    def settings(connection: Connection) -> list[object]:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]

    assert await database.write(settings) == ["10s", "5s", "5s"]


async def test_a_session_that_the_server_has_just_ended_is_a_transient(database: Database):
    def step(connection: Connection) -> None:
        put("a", connection)
        raise asyncpg.InternalClientError("cannot switch to state 15; another is in progress")

    with pytest.raises(Transient, match=r"cannot switch to state 15.*; nothing was changed$"):
        await database.write(step)
    assert await database.read(count) == 0
    await database.write(partial(put, "a"))


async def test_a_lock_held_too_long_is_a_transient_that_says_what_happened(database: Database):
    await database.write(partial(put, "a"))
    held, free = asyncio.Event(), asyncio.Event()

    def hold(connection: Connection) -> None:
        connection.execute(ADD, {"name": "a"})
        held.set()
        sa.util.await_(free.wait())

    def impatient(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
        connection.execute(ADD, {"name": "a"})

    holding = asyncio.create_task(database.write(hold))
    await held.wait()
    with pytest.raises(Transient, match="lock timeout; nothing was changed"):
        await database.write(impatient)
    free.set()
    await holding
    await database.write(impatient)


# What cannot be opened


async def test_a_wrong_name_is_refused_without_the_password():
    needed()
    port = shared().port
    with pytest.raises(InvalidSettings) as refused:
        async with open_database(f"postgresql://mayfly:s3cret@127.0.0.1:{port}/nothing"):
            pass
    assert 'database "nothing" does not exist' in str(refused.value)
    assert f"nothing at 127.0.0.1:{port}" in str(refused.value)
    assert "s3cret" not in str(refused.value)


async def test_a_server_that_is_down_may_come_up():
    with pytest.raises(Transient, match="is it running"):
        async with open_database("postgresql://mayfly:s3cret@127.0.0.1:1/mayfly"):
            pass


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:/mayfly:s3cret@127.0.0.1/mayfly",
        "postgresql://mayfly:s3cret@127.0.0.1:port/mayfly",
        "postgresql://mayfly:s3cret@127.0.0.1/",
        "mysql://mayfly:s3cret@127.0.0.1/mayfly",
        "postgresql://mayfly@127.0.0.1/mayfly?sslmode=perhaps&password=s3cret",
    ],
)
async def test_what_is_wrong_with_an_address_is_said_without_its_password(url: str):
    with pytest.raises(InvalidSettings) as refused:
        async with open_database(url):
            pass
    assert "s3cret" not in str(refused.value)


def test_a_server_is_no_file_whose_directory_config_check_would_miss():
    assert path_of("postgresql://mayfly@db/mayfly?sslmode=require") is None


# Migrations

OPEN = """
import asyncio, sys
from mayfly.database import open_database
async def main():
    async with open_database(sys.argv[1]):
        print("open")
asyncio.run(main())
"""


async def test_processes_that_start_at_once_migrate_an_empty_database_once():
    needed()
    url = await shared().empty()
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, url, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    async with asyncio.timeout(60):
        answers = [await process.communicate() for process in processes]
    assert [answer for answer, _ in answers] == [b"open\n"] * 3
    await shared().drop(url)


async def test_a_newer_version_s_database_is_refused(url: str):
    rows_of(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InvalidSettings, match="is of a newer Mayfly"):
        async with open_database(url):
            pass


async def test_a_user_without_the_right_to_create_opens_what_another_has_migrated(url: str):
    rows_of(
        url,
        "DROP ROLE IF EXISTS worker",
        "CREATE ROLE worker LOGIN",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO worker",
    )
    async with open_database(url.replace("mayfly@", "worker@")) as database:
        await database.write(partial(put, "a"))
        assert await database.read(count) == 1
    rows_of(url, "DROP OWNED BY worker", "DROP ROLE worker")


# A server that says no


@pytest.fixture
async def worker(url: str) -> AsyncIterator[str]:
    """The same database for a user who owns nothing in it."""
    name = f"worker_{url.rpartition('/')[2]}"
    tables = f"ALL TABLES IN SCHEMA public TO {name}"
    rows_of(url, f"CREATE ROLE {name} LOGIN", f"GRANT {', '.join(rights.NEEDED)} ON {tables}")
    yield url.replace("mayfly@", f"{name}@")
    rows_of(url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def user_of(url: str) -> str:
    return url.partition("://")[2].partition("@")[0]


async def test_a_right_that_was_taken_is_named_and_works_again_once_it_is_given(
    url: str, worker: str, capsys: pytest.CaptureFixture[str]
):
    user = user_of(worker)
    async with open_store(worker, SystemClock(), Deadlines()) as (ledger, _):
        await ledger.record([queued_job(1)])
        rows_of(url, f"REVOKE INSERT, DELETE ON job FROM {user}")
        for _ in range(3):
            with pytest.raises(Transient) as refused:
                await ledger.record([queued_job(2)])
        told = f"user {user} lacks the right INSERT, DELETE on table job: its owner gives it: GRANT"
        assert told in str(refused.value)
        assert capsys.readouterr().out.count("database.refused") == 1
        assert (await ledger.pools())["linux"].queued == 1, "what may be read is read"
        rows_of(url, f"GRANT INSERT, DELETE ON job TO {user}")
        await ledger.record([queued_job(2)])
        assert (await ledger.pools())["linux"].queued == 2


@pytest.mark.parametrize(
    ("taken", "given"),
    [
        ("ALTER ROLE {user} NOLOGIN", "ALTER ROLE {user} LOGIN"),
        (
            "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
            "GRANT CONNECT ON DATABASE {name} TO {user}",
        ),
        ("ALTER TABLE job RENAME TO gone", "ALTER TABLE gone RENAME TO job"),
        (
            "ALTER DATABASE {name} SET default_transaction_read_only = on",
            "ALTER DATABASE {name} RESET default_transaction_read_only",
        ),
    ],
)
async def test_who_is_kept_out_goes_on_once_let_in_again(
    url: str, worker: str, taken: str, given: str
):
    names = {"user": user_of(worker), "name": url.rpartition("/")[2]}
    ended = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{names['user']}'"
    )
    async with open_store(worker, SystemClock(), Deadlines()) as (ledger, _):
        await ledger.record([queued_job(1)])
        rows_of(url, taken.format(**names), ended)
        for _ in range(2):
            with pytest.raises(Transient, match=r"^the database .* nothing was changed$"):
                await ledger.record([queued_job(2)])
        rows_of(url, "SET default_transaction_read_only = off", given.format(**names))
        await ledger.record([queued_job(2)])


async def test_the_doctor_names_the_right_that_lacks(url: str, worker: str):
    rows_of(url, f"REVOKE UPDATE ON grp FROM {user_of(worker)}")
    found = [one async for one in examine(worker, SystemClock().now(), TURN)]
    (wrong,) = [one for one in found if one.verdict is Verdict.WRONG]
    assert wrong.check == "rights"
    assert "lacks the right UPDATE on table grp; its owner gives it: GRANT UPDATE ON grp TO" in (
        wrong.sentence
    )


# A server that goes away


async def test_everything_goes_on_by_itself_after_a_restart(server: PostgresServer):
    async with open_database(await server.fresh()) as database:
        assert isinstance(database, Database)
        heard: list[str] = []
        async with database.listening(heard.append):
            await asyncio.gather(*(database.write(partial(put, str(n))) for n in range(20)))
            assert await database.leads(TURN)
            server.stop()
            with pytest.raises(Transient, match="nothing was changed"):
                await database.write(partial(put, "while down"))
            with pytest.raises(Transient):
                await database.leads(TURN)
            server.start()
            assert await until_it_answers(database) == 20
            await asyncio.gather(*(database.write(partial(put, f"b{n}")) for n in range(20)))
            assert await database.leads(TURN)
            await until(lambda: database.hears)
            await database.write(lambda one: database.ring(one, ["linux", "x" * 9000]))
            await until(lambda: heard[-2:] == ["", "linux"])


async def test_what_was_answered_as_durable_outlives_a_killed_server(server: PostgresServer):
    url = await server.fresh()
    durable: set[int] = set()
    refused: list[str] = []
    numbers = iter(range(1, 100_000))

    async with open_store(url, SystemClock(), Deadlines()) as (ledger, _):

        async def load() -> None:
            while True:
                number = next(numbers)
                try:
                    await ledger.record([queued_job(number)])
                except MayflyError as error:
                    refused.append(str(error))
                    await asyncio.sleep(0.02)
                else:
                    durable.add(number)

        async def some() -> None:
            wanted = len(durable) + 100
            await until(lambda: len(durable) >= wanted, DEADLINE)

        loads = [asyncio.create_task(load()) for _ in range(16)]
        for _ in range(2):
            await some()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        await some()
        for task in loads:
            task.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
        kept = {job.key.id for job in await ledger.jobs(100_000)}
        assert durable <= kept
        assert refused, "nothing was lost because nothing went wrong"
        recount = await ledger.recount(None)
        assert recount is not None
        assert recount.wrong == ()


# Leadership

LEAD = """
import asyncio, sys
from datetime import timedelta
from mayfly.engine.clock import SystemClock
from mayfly.model.deadlines import Deadlines
from mayfly.model.errors import Transient
from mayfly.store.sql import open_store
async def main():
    async with open_store(sys.argv[1], SystemClock(), Deadlines()) as (ledger, _):
        while True:
            try:
                print(await ledger.tick("theirs", timedelta(seconds=20)), flush=True)
            except Transient:
                print("lost", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
asyncio.run(main())
"""


async def leads(ledger: Ledger) -> bool:
    return await ledger.tick("ours", TURN) is not None


async def leader(url: str) -> asyncio.subprocess.Process:
    """Another process, which leads."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LEAD, url, stdin=pipe, stdout=pipe
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        assert float(await process.stdout.readline()) >= 0
    return process


async def test_a_killed_leader_is_followed_as_soon_as_another_asks(url: str):
    async with open_store(url, SystemClock(), Deadlines()) as (ledger, _):
        process = await leader(url)
        assert await ledger.tick("ours", TURN) is None
        process.send_signal(signal.SIGKILL)
        began = time.monotonic()
        await until_true(lambda: leads(ledger), 15)
        print(f"followed {time.monotonic() - began:.2f} s after SIGKILL")
        await process.wait()


async def test_a_leader_that_stands_still_is_followed_and_knows_when_it_goes_on(url: str):
    async with open_store(url, SystemClock(), Deadlines()) as (ledger, _):
        process = await leader(url)
        assert process.stdin is not None
        assert process.stdout is not None
        began = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        try:
            await until_true(lambda: leads(ledger), 15 - ASK_AGAIN_SECONDS)
            print(f"followed {time.monotonic() - began:.2f} s after SIGSTOP")
            process.send_signal(signal.SIGCONT)
            process.stdin.write(b"\n")
            async with asyncio.timeout(DEADLINE):
                assert await process.stdout.readline() in {b"None\n", b"lost\n"}
            assert await leads(ledger)
        finally:
            process.kill()
            await process.wait()


async def test_a_leader_between_two_turns_keeps_the_lead(url: str):
    connect = Server(parsed(url)).connect
    ours, theirs = (Leadership(connect, hangs=timedelta(seconds=0.2)) for _ in range(2))
    try:
        assert await ours.held(TURN)
        with pytest.raises(TimeoutError):
            await until_true(lambda: theirs.held(TURN), 1)
        assert await ours.held(TURN)
    finally:
        await ours.close()
        await theirs.close()


async def test_a_leader_that_hangs_loses_the_lead_when_it_has_not_asked_for_three_periods(
    url: str,
):
    async with open_database(url) as database, asyncio.timeout(DEADLINE):
        other = Database(url)
        try:
            assert await other.leads(timedelta(seconds=0.1))
            assert not await database.leads(TURN)
            await until_true(lambda: database.leads(TURN), DEADLINE)
            with suppress(Transient):  # its session ended while it spoke
                await other.leads(TURN)
            assert not await other.leads(TURN)
        finally:
            await other.close()


async def test_a_new_leader_continues_ledger_time(url: str):
    clock = SystemClock()
    first, second = open_store(url, clock, Deadlines()), Database(url)
    async with first as (ledger, _):
        assert await ledger.tick("a", TURN) == 0
        assert not await second.leads(TURN)
        await ledger.resign("a")
        assert await second.leads(TURN)
        assert await ledger.tick("a", TURN) is None
    await second.close()
    async with open_store(url, clock, Deadlines()) as (ledger, _):
        at = await ledger.tick("b", TURN)
        assert at is not None
        assert 0 < at < TURN.total_seconds()
