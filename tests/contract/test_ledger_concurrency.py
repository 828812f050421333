"""Replicas on one PostgreSQL: nothing doubled or lost, the maximum kept, owners served alike."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path

import asyncpg
import pytest

from mayfly.database import open_database
from mayfly.database.postgres import Database
from mayfly.engine.clock import SystemClock
from mayfly.model.deadlines import Deadlines
from mayfly.model.errors import StaleClaim
from mayfly.model.jobs import GroupId, InstallationId, JobId, JobKey, WorkflowJob
from mayfly.model.launches import LaunchRecord, Redemption
from mayfly.model.pools import Pool
from mayfly.model.protocol import Outcome
from mayfly.model.runners import Sighting
from mayfly.ports import Ledger
from mayfly.store.ledger import TransactionalLedger
from mayfly.store.sql import SqlTransactions, open_store
from tests.fakes.backends import on_postgres
from tests.fakes.clocks import TURN
from tests.fakes.counters import in_database
from tests.fakes.factories import (
    LINUX,
    PREFIX,
    completed_job,
    order,
    queued_job,
    refused,
    running_job,
)
from tests.fakes.rows import rows_of

OWNERS = ("octo", "acme", "umbrella")
JOBS = 5_000
MAXIMUM = 48
PLANES = 4
CLAIMERS = 16
LONGEST_SECONDS = 280
"""On two idle cores it takes a quarter of it."""
ROOT = Path(__file__).parents[2]

A_CONTROL_PLANE = """
import asyncio, sys
import asyncpg
from mayfly.engine.clock import SystemClock
from mayfly.model.deadlines import Deadlines
from mayfly.model.protocol import Outcome
from mayfly.store.sql import open_store
from tests.fakes.factories import completed_job, order

async def main(url, name, claimers, maximum, jobs):
    served = asyncio.Queue()
    async with open_store(url, SystemClock(), Deadlines()) as (ledger, _):
        numbers = await asyncpg.create_pool(url, min_size=1, max_size=2)

        async def claimer(machine):
            turn = 0
            while True:
                turn += 1
                asked = order(machine, key=f"{machine}-{turn}")
                claim = await ledger.claim(asked, maximum, None)
                if claim is None:
                    if not (await ledger.pools())["linux"].queued:
                        return
                    await asyncio.sleep(0.01)
                    continue
                number = await numbers.fetchval(f"SELECT nextval('served_{claim.owner}')")
                if number <= jobs[claim.owner]:
                    done = asyncio.Event()
                    served.put_nowait((completed_job(number, owner=claim.owner), done))
                    await done.wait()
                await ledger.finish(claim.id, asked.boot, Outcome.STOPPED, "")

        async def recorder():
            while True:
                batch = [await served.get()]
                while not served.empty():
                    batch.append(served.get_nowait())
                await ledger.record([job for job, _ in batch])
                for _, done in batch:
                    done.set()

        print("ready", flush=True)
        sys.stdin.readline()
        recording = asyncio.create_task(recorder())
        await asyncio.gather(*(claimer(f"{name}-{n}") for n in range(claimers)))
        recording.cancel()
        await numbers.close()

url, name, claimers, maximum, *jobs = sys.argv[1:]
owners = dict(zip(jobs[::2], map(int, jobs[1::2])))
asyncio.run(main(url, name, int(claimers), int(maximum), owners))
"""


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with on_postgres(tmp_path) as opened:
        yield opened


async def test_a_ticket_that_comes_to_four_control_planes_at_once_gives_one_token(url: str):
    pool = Pool(name="linux", max=12, launcher="cloud")
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_store(url, SystemClock(), Deadlines()))
            for _ in range(PLANES)
        ]
        planes = [ledger.launches for ledger, _ in opened]
        await opened[0][0].record([queued_job(number) for number in range(1, 13)])
        for launch in (await planes[0].scale(pool, overflows=True)).start:
            assert await planes[0].ticketed(launch.id, "ticket", 300)
            answers = await asyncio.gather(
                *(
                    plane.redeem(
                        Redemption(
                            launch=launch.id,
                            pool=launch.pool,
                            ticket="ticket",
                            nonce=f"n{n}",
                            token=f"{launch.id}{n}",
                        )
                    )
                    for n, plane in enumerate(planes)
                )
            )
            assert sum(isinstance(one, LaunchRecord) for one in answers) == 1
            bearers = [await planes[0].bearer(f"{launch.id}{n}") for n in range(PLANES)]
            assert [one is not None for one in bearers] == [
                isinstance(one, LaunchRecord) for one in answers
            ]
        rows = await planes[0].newest(100)
        assert [one.misused for one in rows] == [PLANES - 1] * 12


@pytest.mark.timeout(LONGEST_SECONDS + 20)
async def test_four_control_planes_serve_every_job_once_and_every_owner_alike(url: str):
    last = await _queue(url)
    jobs = [str(word) for pair in last.items() for word in pair]
    planes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", A_CONTROL_PLANE, url, f"plane{number}", str(CLAIMERS), str(MAXIMUM)),
            *jobs,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        for number in range(PLANES)
    ]
    watching = asyncio.create_task(_most_used(url))
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            for plane in planes:
                assert plane.stdout is not None
                assert await plane.stdout.readline() == b"ready\n"
            await asyncio.gather(*(plane.communicate(b"go\n") for plane in planes))
    finally:
        for plane in planes:
            if plane.returncode is None:
                plane.kill()
        watching.cancel()
    assert [plane.returncode for plane in planes] == [0] * PLANES
    most, looks = await watching
    assert looks > 20, "somebody looked"
    assert most <= MAXIMUM
    _check_the_end(url)


async def _queue(url: str) -> dict[str, int]:
    """All jobs are queued; the last id of each owner, whose ids are numbered by a sequence."""
    first, last = 1, {}
    async with open_store(url, SystemClock(), Deadlines()) as (ledger, _):
        for owner in OWNERS:
            last[owner] = first + JOBS // len(OWNERS) - 1
            rows_of(url, f"CREATE SEQUENCE served_{owner} START {first}")
            jobs = (queued_job(number, owner=owner) for number in range(first, last[owner] + 1))
            while batch := list(islice(jobs, 250)):
                await ledger.record(batch)
            first = last[owner] + 1
    return last


async def _most_used(url: str) -> tuple[int, int]:
    """The greatest `used` and the greatest number of live claims seen, and how often was looked."""
    connection = await asyncpg.connect(url)
    most = looks = 0
    try:
        while True:
            used = await connection.fetchval(
                "SELECT greatest((SELECT coalesce(max(used), 0) FROM pool),"
                " (SELECT count(*) FROM claim WHERE state = 'claimed'))"
            )
            most, looks = max(most, used), looks + 1
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return most, looks
    finally:
        await connection.close()


def _check_the_end(url: str) -> None:
    claims, open_jobs, deadlocks = rows_of(
        url,
        "SELECT owner FROM claim ORDER BY id",
        "SELECT count(*) FROM job WHERE state <> 4",
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
    )
    assert open_jobs == [(0,)]
    served = JOBS // len(OWNERS) * len(OWNERS)
    assert len(claims) >= served
    print(f"{len(claims)} claims for {served} jobs, {deadlocks[0][0]} deadlocks")
    assert deadlocks[0][0] <= 5
    given: Counter[str] = Counter()
    for number, (owner,) in enumerate(claims, 1):
        given[owner] += 1
        if number > 10 * MAXIMUM and max(given.values()) < served // len(OWNERS):
            assert max(given.values()) - min(given[name] for name in OWNERS) <= 0.1 * number / 3
    stored, recounted = in_database(url)
    assert stored == recounted
    assert stored.pools == {}


RUNNERS = 24
ROUNDS = 30


async def test_verbs_of_two_replicas_that_meet_on_the_same_rows_lose_no_change(url: str):
    """Every verb that reads and then writes, on few jobs and claims, so that they always meet."""
    clock = SystemClock()
    async with open_database(url) as ours, asyncio.timeout(100):
        theirs = Database(url)
        planes = [
            TransactionalLedger(SqlTransactions(database), clock, Deadlines())
            for database in (ours, theirs)
        ]
        await planes[0].tick("a", TURN)
        answers = await asyncio.gather(
            *(_meddle(planes[number % 2], random.Random(number)) for number in range(RUNNERS))
        )
        await theirs.close()
    assert sum(answers) > RUNNERS * ROUNDS / 2, "most of it is not refused"
    stored, recounted = in_database(url)
    assert stored == recounted
    (deadlocks,) = rows_of(
        url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    print(f"{sum(answers)} verbs, {deadlocks[0][0]} deadlocks")


async def _meddle(ledger: Ledger, dice: random.Random) -> int:
    """So many verbs; how many were not refused. A recount never finds anything wrong."""
    done = 0
    for _ in range(ROUNDS):
        try:
            await dice.choice(VERBS)(ledger, dice)
        except StaleClaim:
            continue
        done += 1
    return done


async def _record(ledger: Ledger, dice: random.Random) -> None:
    jobs = [await _some_job(ledger, dice) for _ in range(dice.randint(1, 4))]
    await ledger.record(jobs)


async def _redecide(ledger: Ledger, dice: random.Random) -> None:
    job = queued_job(dice.randint(1, 12))
    await ledger.redecide([refused(job) if dice.random() < 0.5 else job])


async def _claim(ledger: Ledger, dice: random.Random) -> None:
    machine = f"m{dice.randint(1, 9)}"
    pool = dice.choice(["linux", "arm64"])
    key = f"{machine}-{pool}-{dice.randint(1, 40)}"
    claim = await ledger.claim(order(machine, key=key, pool=pool), 5, 3)
    if claim is not None and dice.random() < 0.7:
        mint = await ledger.minting(claim.id, claim.boot, PREFIX)
        await ledger.registered(claim.id, mint.claim.generation, dice.randint(1, 10**6))


async def _report(ledger: Ledger, dice: random.Random) -> None:
    for claim in (await ledger.claims(4, live=True))[:2]:
        await dice.choice(
            [
                lambda of=claim: ledger.heartbeat(of.id, of.boot),
                lambda of=claim: ledger.minting(of.id, of.boot, PREFIX),
                lambda of=claim: ledger.finish(of.id, of.boot, dice.choice(list(Outcome)), "why"),
                lambda of=claim: ledger.refused(of.id, "GitHub said no"),
                lambda of=claim: ledger.relieve(of.id),
                lambda of=claim: ledger.lose(of.id),
                lambda of=claim: ledger.overdue(of.id),
            ]
        )()


async def _see(ledger: Ledger, dice: random.Random) -> None:
    names = [registration.name for registration in await ledger.unproven()]
    if names:
        await ledger.saw(dice.choice(names), dice.choice(list(Sighting)))


async def _check(ledger: Ledger, dice: random.Random) -> None:
    key = JobKey(JobId(dice.randint(1, 12)), 1)
    await ledger.checked(key, await _some_job(ledger, dice) if dice.random() < 0.5 else None)


async def _repair(ledger: Ledger, dice: random.Random) -> None:
    after: GroupId | None = None
    while recount := await ledger.recount(after):
        assert recount.wrong == ()
        after = recount.group
    await ledger.revived(InstallationId(7))
    await ledger.forget(10)


async def _some_job(ledger: Ledger, dice: random.Random) -> WorkflowJob:
    number, names = dice.randint(1, 12), [one.name for one in await ledger.unproven()]
    labels = LINUX if number % 3 else ("self-hosted", "arm64")
    if dice.random() < 0.5 or not names:
        return queued_job(number, labels=labels, attempt=dice.randint(1, 3))
    made = dice.choice([running_job, completed_job])
    return made(number, labels=labels, attempt=dice.randint(1, 3), runner=dice.choice(names))


VERBS = (_record, _record, _claim, _claim, _report, _report, _see, _redecide, _check, _repair)
