"""Migrations: a ledger of an older version goes on where it was."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from mayfly.database import migrations
from mayfly.model.deadlines import Deadlines
from mayfly.model.errors import InvalidSettings
from mayfly.model.jobs import JobState, WorkflowJob
from mayfly.model.runners import ClaimId, ClaimState, Sighting, runner_name
from mayfly.ports import Ledger
from mayfly.store.sql import open_store
from tests.fakes.clocks import NOON, ManualClock, pass_time
from tests.fakes.factories import (
    PREFIX,
    completed_job,
    now_of,
    queued_job,
    refused,
    running_job,
    waiting_job,
)
from tests.fakes.rows import rows_of

SECONDS = 5000.0
"""Ledger time of the old ledger."""
KEPT = 8 * 86_400.0
JOBS = [
    waiting_job(1, installation=8),
    queued_job(2),
    running_job(3, runner="mayfly-busy-1"),
    completed_job(4),
    refused(queued_job(5)),
]
CLAIMS = {
    "young": ("claimed", SECONDS - 10),
    "minting": ("minting", SECONDS - 10),
    "idle": ("registered", SECONDS - 10),
    "busy": ("busy", SECONDS - 2000),
    "over": ("done", 4000.0),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of the first version, with a row of every kind."""
    path = tmp_path / "mayfly.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with closing(sqlite3.connect(path)) as database, database:
        _fill(database)
    return path


def _fill(database: sqlite3.Connection) -> None:
    noon = int(NOON.timestamp() * 1000)
    _insert(database, "clock", id=1, ledger_seconds=SECONDS, last_tick=noon)
    group = queued_job(1).group
    _insert(
        database,
        "grp",
        id=group,
        key="k",
        installation=7,
        scope="repos/octo/hello",
        pool="linux",
        owner="octo",
        labels="linux,self-hosted",
        queued=1,
        supply=3,
        sure=2,
        refusal="GitHub said no",
    )
    _insert(database, "pool", name="linux", used=4)
    _insert(database, "owner_use", pool="linux", owner="octo", used=4)
    for job in JOBS:
        _insert(database, "job", **_job_row(job))
    for name, (state, at) in CLAIMS.items():
        named = state not in {"claimed", "done"}
        _insert(
            database,
            "claim",
            id=name,
            grp=group,
            pool="linux",
            owner="octo",
            machine=name,
            boot="boot-1",
            key=name,
            state=state,
            state_at=at,
            heard_at=SECONDS - 5,
            made_at=noon,
            generation=int(named),
            unattributed=False,
            registrations=int(named),
            finished=state == "done",
            detail="",
        )
        if named:
            runner = runner_name(PREFIX, ClaimId(name), 1)
            _insert(database, "registration", name=runner, claim=name, generation=1, negatives=0)


def _job_row(job: WorkflowJob) -> dict[str, Any]:
    facts = json.loads(msgspec.json.encode(job))
    for later in ("due_at", "checks", "misses", "doubted"):
        del facts[later]
    admitted = job.group is not None
    return {
        "id": job.key.id,
        "attempt": job.key.attempt,
        "grp": job.group,
        "state": int(job.state),
        "queued_at": int(job.event.created_at.timestamp() * 1000),
        "received_at": int(job.received_at.timestamp() * 1000),
        "pool": "linux" if admitted else None,
        "owner": job.event.owner,
        "repo": job.event.repository,
        "runner_name": job.event.runner_name,
        "facts": json.dumps(facts).encode(),
    }


def _insert(database: sqlite3.Connection, table: str, **values: object) -> None:
    places = ", ".join("?" * len(values))
    text = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})"
    database.execute(text, list(values.values()))


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[Ledger]:
    """The same ledger, opened by this version."""
    async with open_store(f"sqlite:///{path}", ManualClock(), Deadlines()) as (opened, _):
        yield opened


def column(path: Path, table: str, name: str) -> dict[object, object]:
    """What a column holds, by id."""
    with closing(sqlite3.connect(path)) as database:
        return dict(database.execute(f"SELECT id, {name} FROM {table}").fetchall())


async def test_jobs_that_are_not_over_are_due_at_once_and_the_others_kept(
    path: Path, ledger: Ledger
):
    over = SECONDS + KEPT
    assert column(path, "job", "due_at") == {1: 0.0, 2: 0.0, 3: 0.0, 4: over, 5: over}
    assert [job.key.id for job in (await ledger.due(100)).checks] == [3, 1, 2]
    assert await ledger.forget(100) == 0


async def test_jobs_read_back_as_they_were(path: Path, ledger: Ledger):
    assert [await ledger.job(job.key) for job in JOBS] == JOBS
    assert column(path, "job", "installation") == {1: 8, 2: 7, 3: 7, 4: 7, 5: 7}


async def test_an_answer_sets_the_next_question_as_ever(ledger: Ledger):
    (job,) = [job for job in JOBS if job.state is JobState.QUEUED and job.group]
    await ledger.checked(job.key, job)
    assert [job.key.id for job in (await ledger.due(100)).checks] == [3, 1]


async def test_claims_that_ended_are_kept_as_long_as_any(path: Path, ledger: Ledger):
    due = column(path, "claim", "due_at")
    assert due["over"] == CLAIMS["over"][1] + KEPT
    assert await ledger.forget(100) == 0


async def test_a_claim_that_is_being_prepared_is_not_lost(ledger: Ledger):
    await ledger.overdue(ClaimId("young"))
    assert (await now_of(ledger, ClaimId("young"))).state is ClaimState.CLAIMED


async def test_every_live_claim_is_looked_at_once_and_then_at_its_time(ledger: Ledger):
    for claim, _ in (await ledger.due(100)).overdue:
        await ledger.overdue(claim.id)
    assert (await ledger.due(100)).overdue == []
    assert (await ledger.due(100)).looks == [], "their executors speak"
    for name, (state, _) in CLAIMS.items():
        assert (await now_of(ledger, ClaimId(name))).state == state


async def test_names_are_proven_gone_as_ever(ledger: Ledger):
    for registration in await ledger.unproven():
        await ledger.saw(registration.name, Sighting.GONE)
    assert (await now_of(ledger, ClaimId("busy"))).state is ClaimState.DONE
    assert await ledger.unproven() == []


async def test_the_groups_trouble_and_every_counter_are_as_they_were(ledger: Ledger):
    _, group = await ledger.claimed(ClaimId("busy"))
    assert (group.trouble, group.stalled, group.failed_on) == ("GitHub said no", False, ())
    recount = await ledger.recount(None)
    assert recount is not None
    assert recount.wrong == ()


async def test_no_executor_is_known_yet(ledger: Ledger):
    assert await ledger.executors() == []


async def test_no_release_has_been_seen_yet(ledger: Ledger):
    assert await ledger.releases() == []


async def test_ledger_time_goes_on_and_the_log_was_not_read_yet(ledger: Ledger):
    assert await ledger.log_position() is None
    assert await pass_time(ledger, ManualClock(), 0) == SECONDS


async def test_a_newer_version_s_database_is_refused_and_left_as_it_is(path: Path):
    url = f"sqlite:///{path}"
    rows_of(url, "UPDATE alembic_version SET version_num = '9999'")
    sentence = (
        r"is of a newer Mayfly \(schema 9999; this one knows \d+\); upgrade Mayfly, or restore"
    )
    with pytest.raises(InvalidSettings, match=sentence):
        async with open_store(url, ManualClock(), Deadlines()):
            pass
    assert rows_of(url, "SELECT version_num FROM alembic_version") == [[("9999",)]]
