"""Two control planes on one file: nothing doubled, the maximum kept, the counters right."""

import asyncio
import sys
from pathlib import Path

import pytest

from mayfly.database import open_database
from mayfly.database.sqlite import Database
from mayfly.model.deadlines import Deadlines
from mayfly.model.jobs import JobId, JobKey
from mayfly.store.ledger import TransactionalLedger
from mayfly.store.sql import SqlTransactions
from tests.fakes.backends import STORES, Backend, named
from tests.fakes.clocks import ManualClock, pass_time
from tests.fakes.counters import in_database, in_file
from tests.fakes.factories import UNBOUNDED, order, queued_job, registered_claim, running_job
from tests.fakes.rows import SQLITE, rows_of

MAXIMUM = 9
JOBS = 60
ROOT = Path(__file__).parents[2]

A_CONTROL_PLANE = """
import asyncio, sys
from mayfly.engine.clock import SystemClock
from mayfly.model.deadlines import Deadlines
from mayfly.store.sql import open_store
from tests.fakes.factories import order, queued_job

async def main(url, name, jobs, maximum):
    async with open_store(url, SystemClock(), Deadlines()) as (ledger, _):
        print("ready", flush=True)
        sys.stdin.readline()
        works = []
        for number in range(1, jobs + 1):
            works.append(ledger.record([queued_job(number)]))
            asked = order(f"{name}-{number}", key=f"{name}-{number}")
            works.append(ledger.claim(asked, maximum, None))
            shared = order(f"shared-{number}", boot="b", key=f"shared-{number}")
            works.append(ledger.claim(shared, maximum, None))
        answers = await asyncio.gather(*works)
        for claim in answers[1::3] + answers[2::3]:
            if claim:
                print(claim.key, claim.id, flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


@pytest.mark.parametrize("backend", [one for one in STORES if one.point == "sql"], ids=named)
async def test_two_processes_that_record_and_claim_at_once_double_nothing(
    tmp_path: Path, backend: Backend
):
    async with backend.place(tmp_path) as url:
        await _race(url)


async def _race(url: str) -> None:
    planes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            A_CONTROL_PLANE,
            url,
            name,
            str(JOBS),
            str(MAXIMUM),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        for name in ("east", "west")
    ]
    async with asyncio.timeout(60):
        for plane in planes:
            assert plane.stdout is not None
            assert await plane.stdout.readline() == b"ready\n"
        told = await asyncio.gather(*(plane.communicate(b"go\n") for plane in planes))
    assert [plane.returncode for plane in planes] == [0, 0]
    claims = {line for output, _ in told for line in output.decode().split("\n") if line}
    assert len(claims) == MAXIMUM, "a shared key has one claim, whoever answered"
    assert len({line.split()[0] for line in claims}) == MAXIMUM
    if url.startswith(SQLITE):
        assert rows_of(url, "PRAGMA integrity_check") == [[("ok",)]]
    jobs, groups = rows_of(url, "SELECT count(*) FROM job", "SELECT queued, supply FROM grp")
    assert (jobs, groups) == ([(JOBS,)], [(JOBS, MAXIMUM)])
    stored, recounted = in_database(url)
    assert stored == recounted
    assert stored.pools == {"linux": MAXIMUM}


async def test_two_writers_of_one_file_keep_the_maximum_and_the_counters(tmp_path: Path):
    path = tmp_path / "mayfly.db"
    async with open_database(f"sqlite:///{path}") as first:
        second = Database(str(path))
        planes = [
            TransactionalLedger(SqlTransactions(database), ManualClock(series=series), Deadlines())
            for database, series in ((first, "a"), (second, "b"))
        ]
        try:
            await asyncio.gather(
                *(
                    plane.record([queued_job(number)])
                    for number in range(1, JOBS + 1)
                    for plane in planes
                )
            )
            made = await asyncio.gather(
                *(
                    plane.claim(order(f"m{number}"), MAXIMUM, None)
                    for number in range(2 * MAXIMUM)
                    for plane in planes
                )
            )
            assert len({claim.id for claim in made if claim}) == MAXIMUM
        finally:
            await second.close()
    stored, recounted = in_file(path)
    assert stored == recounted
    assert stored.pools == {"linux": MAXIMUM}


async def test_one_plane_goes_on_where_another_stopped(tmp_path: Path):
    """A claim made by one, its job reported to the other, the clock moved by either."""
    path = tmp_path / "mayfly.db"
    async with open_database(f"sqlite:///{path}") as first:
        second = Database(str(path))
        clock = ManualClock(series="b")
        east = TransactionalLedger(SqlTransactions(first), ManualClock(), Deadlines())
        west = TransactionalLedger(SqlTransactions(second), clock, Deadlines())
        try:
            await east.record([queued_job(1)])
            mint = await registered_claim(east)
            await pass_time(west, clock, 20)
            await west.record([running_job(1, runner=mint.name)])
            claim, _ = await east.claimed(mint.claim.id)
            assert claim.job == JobKey(JobId(1), 1)
            assert claim.state_at == 20
            assert await west.claim(order("m2"), UNBOUNDED, None) is None
        finally:
            await second.close()
