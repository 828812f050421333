"""A database is looked at and left as it was."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from mayfly.database import Schema, faults_of, inspect, look, open_database
from mayfly.database.migrations import history
from mayfly.model.deadlines import Deadlines
from mayfly.model.errors import InvalidSettings
from mayfly.model.findings import Verdict
from mayfly.store.examinations import examine, judge_backlog, judge_schema, judge_turn
from mayfly.store.figures import Figures, figures
from mayfly.store.sql import open_store
from tests.fakes.clocks import NOON, ManualClock
from tests.fakes.factories import queued_job

TURN = timedelta(seconds=20)
FREE_PAGES = 36
"""Where the header of a SQLite file counts its unused pages."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mayfly.sqlite"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
async def made(file: Path, url: str) -> Path:
    """A database of this version, closed again."""
    async with open_database(url):
        pass
    return file


def write(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(statement)


async def test_no_database_is_absent_and_stays_so(file, url):
    assert (await inspect(url)).schema is Schema.ABSENT
    assert not file.exists()


async def test_an_empty_file_is_absent_too(file, url):
    file.touch()
    assert (await inspect(url)).schema is Schema.ABSENT


async def test_what_this_version_has_made_is_current(made, url):
    newest = history()[0]
    assert await inspect(url) == (Schema.CURRENT, newest, newest)


async def test_an_older_schema_is_behind_and_is_not_migrated(made, url):
    write(made, f"UPDATE alembic_version SET version_num = '{history()[-1]}'")
    for _ in range(2):
        assert (await inspect(url)).schema is Schema.BEHIND


async def test_a_schema_nobody_here_knows_is_ahead(made, url):
    write(made, "UPDATE alembic_version SET version_num = '9999'")
    state = await inspect(url)
    assert (state.schema, state.found) == (Schema.AHEAD, "9999")


async def test_tables_without_a_revision_are_somebody_elses(file, url):
    write(file, "CREATE TABLE song (title TEXT)")
    assert (await inspect(url)).schema is Schema.FOREIGN


async def test_a_look_leaves_no_file_behind_and_changes_none(made, url):
    before = (made.read_bytes(), made.stat().st_mtime_ns)
    await look(url, figures)
    assert (made.read_bytes(), made.stat().st_mtime_ns) == before
    assert [path.name for path in made.parent.iterdir()] == [made.name]


async def test_a_look_cannot_write(made, url):
    with pytest.raises(InvalidSettings, match="readonly"):
        await look(url, lambda connection: connection.exec_driver_sql("DELETE FROM grp"))


async def test_a_file_that_is_no_database_is_told_with_its_path(file, url):
    file.write_bytes(b"a letter to a friend" * 400)
    with pytest.raises(InvalidSettings, match=str(file)):
        await inspect(url)


async def test_damage_is_found(made, url):
    assert await look(url, faults_of) == []
    with made.open("r+b") as file:
        file.seek(FREE_PAGES)
        file.write((5).to_bytes(4, "big"))
    assert "freelist" in (await look(url, faults_of) or [""])[0].lower()
    found = {finding.check: finding.verdict async for finding in examine(url, NOON, TURN)}
    assert found["integrity"] is Verdict.WRONG


async def test_figures_are_read_beside_the_writer(url):
    async with open_store(url, ManualClock(), Deadlines()) as (ledger, _):
        assert await look(url, figures) == (0, 0, None)
        await ledger.record([queued_job(1), queued_job(2)])
        await ledger.tick("plane-1", TURN)
        assert await look(url, figures) == (2, 0, NOON)


async def test_what_needs_the_schema_is_not_checked_without_it(made, url):
    write(made, "UPDATE alembic_version SET version_num = '9999'")
    found = {finding.check: finding async for finding in examine(url, NOON, TURN)}
    assert found["store"].verdict is Verdict.WRONG
    assert found["ledger"].verdict is Verdict.UNCHECKED


async def test_a_schema_that_serve_migrates_is_a_warning(made, url):
    write(made, f"UPDATE alembic_version SET version_num = '{history()[-1]}'")
    assert judge_schema(await inspect(url)).verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("last_turn", "verdict"),
    [(None, "warning"), (NOON - 3 * TURN, "good"), (NOON - 4 * TURN, "warning")],
)
def test_nobody_is_at_work_after_three_turns_without_one(last_turn, verdict):
    assert judge_turn(Figures(0, 0, last_turn), NOON, TURN).verdict == verdict


def test_stalled_groups_are_a_warning_that_names_the_command():
    found = judge_backlog(Figures(5, 1, NOON))
    assert found.verdict is Verdict.WARNING
    assert "mayfly jobs stalled" in found.sentence
