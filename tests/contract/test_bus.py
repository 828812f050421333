"""ports.Bus: what every bus promises."""

import asyncio
import gc
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from mayfly.model.errors import Permanent, Transient
from mayfly.model.requests import (
    LARGEST_DELIVERIES,
    LARGEST_MESSAGE,
    LONGEST_LOOK,
    Lease,
    RunnerRequest,
    encoded,
)
from mayfly.ports import Bus
from tests.fakes.buses import BUSES, RESTARTED, SUBJECTS, NotApplicable, OpenedBus
from tests.fakes.clocks import ManualClock
from tests.fakes.consumer import HELD, Place
from tests.suites import NOT_APPLICABLE

T = TypeVar("T")

NOT_WAITING = timedelta(0)
SOON = timedelta(seconds=1)
"""A bus that is a server of its own may take a moment to hand over what is there."""
LONG = timedelta(minutes=1)
LEASE_SECONDS = 30
DAY = 24 * 3600
ROOT = Path(__file__).parents[2]
LEFT_SOCKETS = "ignore:unclosed:ResourceWarning"
"""azure-servicebus leaves the socket of a broken connection to the garbage collector."""
LINUX = RunnerRequest(pool="linux")
ARM = RunnerRequest(pool="arm64")


@pytest.fixture(params=BUSES)
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenedBus]:
    async with BUSES[request.param](tmp_path) as bus:
        yield bus


@pytest.fixture(params=RESTARTED)
async def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenedBus]:
    """As `opened`, for a test that ends what keeps the messages."""
    async with RESTARTED[request.param](tmp_path) as bus:
        yield bus


def able(ability: T | NotApplicable) -> T:
    """Ends the test where there is no such thing; tests/suites.py counts it apart."""
    if isinstance(ability, NotApplicable):
        pytest.skip(f"{NOT_APPLICABLE}: {ability.reason}")
    return ability


async def in_the_end(verb: Callable[[], Awaitable[T]]) -> T:
    """What it answers once the bus is there again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await verb()
            except Transient:
                await asyncio.sleep(0.05)


async def taken(bus: Bus, subject: str = "linux") -> str:
    """The id of a lease that is there at once."""
    lease = await bus.lease(subject, NOT_WAITING)
    assert lease is not None, "nothing waits"
    return lease.id


async def settled(task: asyncio.Task[object]) -> None:
    """Until the task cannot go on without somebody else."""
    for _ in range(200):
        await asyncio.sleep(0)
        if task.done():
            return
    await asyncio.to_thread(lambda: None)


async def waiting_comes_to(bus: Bus, count: int) -> None:
    """A server may count what came back a moment after it can be leased again."""
    async with asyncio.timeout(30):
        while await bus.depth("linux") != count:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.01)


async def woken_not_by_looking(waiting: asyncio.Task[Lease | None]) -> None:
    """It has its message before a bus that looks every second would look again."""
    async with asyncio.timeout(0.7):
        assert await waiting is not None


async def test_an_empty_bus_has_nothing_to_lease(opened: OpenedBus):
    assert await opened.bus.lease("linux", NOT_WAITING) is None
    assert await opened.bus.depth("linux") == 0


async def test_a_published_message_is_leased_and_completed(opened: OpenedBus):
    await opened.bus.publish([LINUX])
    lease = await opened.bus.lease("linux", NOT_WAITING)
    assert lease is not None
    assert lease.message == LINUX
    await opened.bus.complete(lease.id)
    opened.passes(LEASE_SECONDS)
    assert await opened.bus.lease("linux", NOT_WAITING) is None


async def test_publishing_nothing_is_nothing(opened: OpenedBus):
    await opened.bus.publish([])
    assert await opened.bus.depth("linux") == 0


async def test_two_consumers_never_hold_one_message(opened: OpenedBus):
    await opened.bus.publish([LINUX] * 5)
    leases = await asyncio.gather(*(opened.bus.lease("linux", NOT_WAITING) for _ in range(12)))
    assert len({lease.id for lease in leases if lease}) == 5


async def test_an_abandoned_lease_comes_back_at_once(opened: OpenedBus):
    await opened.bus.publish([LINUX])
    first = await taken(opened.bus)
    await opened.bus.abandon(first)
    assert await taken(opened.bus) != first


async def test_an_expired_lease_comes_back(opened: OpenedBus):
    await opened.bus.publish([LINUX])
    await taken(opened.bus)
    opened.passes(LEASE_SECONDS - 1)
    assert await opened.bus.lease("linux", NOT_WAITING) is None
    opened.passes(1)
    assert await opened.bus.lease("linux", NOT_WAITING) is not None


async def test_an_expired_lease_cannot_complete_what_another_holds(opened: OpenedBus):
    await opened.bus.publish([LINUX])
    late = await taken(opened.bus)
    opened.passes(LEASE_SECONDS)
    await opened.bus.complete(late)
    current = await taken(opened.bus)
    await opened.bus.complete(late)
    await opened.bus.abandon(late)
    assert await opened.bus.lease("linux", NOT_WAITING) is None, "the second lease still holds it"
    await opened.bus.abandon(current)
    await waiting_comes_to(opened.bus, 1)


async def test_complete_and_abandon_are_idempotent(opened: OpenedBus):
    await opened.bus.publish([LINUX, LINUX])
    done, back = await taken(opened.bus), await taken(opened.bus)
    for _ in range(2):
        await opened.bus.complete(done)
        await opened.bus.abandon(back)
    await waiting_comes_to(opened.bus, 1)
    await opened.bus.complete("never-leased")
    await opened.bus.abandon("never-leased")


async def test_subjects_are_separate(opened: OpenedBus):
    await opened.bus.publish([LINUX, ARM])
    assert (await opened.bus.depth("linux"), await opened.bus.depth("arm64")) == (1, 1)
    await taken(opened.bus, "arm64")
    assert await opened.bus.lease("arm64", NOT_WAITING) is None
    assert await opened.bus.depth("linux") == 1


async def test_depth_does_not_count_what_is_leased(opened: OpenedBus):
    await opened.bus.publish([LINUX, LINUX])
    await taken(opened.bus)
    assert await opened.bus.depth("linux") == 1
    opened.passes(LEASE_SECONDS)
    await waiting_comes_to(opened.bus, 2)


async def test_the_largest_message_passes_and_a_larger_one_does_not(opened: OpenedBus):
    room = LARGEST_MESSAGE - len(encoded(RunnerRequest(pool="")))
    largest = RunnerRequest(pool="x" * room)
    assert len(encoded(largest)) == LARGEST_MESSAGE
    if not opened.refuses_unknown:  # elsewhere no pool has so long a name
        await opened.bus.publish([largest])
        assert await opened.bus.depth(largest.subject) == 1
    with pytest.raises(Permanent, match="larger than"):
        await opened.bus.publish([LINUX, RunnerRequest(pool="x" * (room + 1))])
    assert await opened.bus.depth("linux") == 0, "all of a publish, or nothing"


async def test_a_message_is_kept_for_seven_days(opened: OpenedBus):
    await opened.bus.publish([LINUX])
    opened.passes(7 * DAY - 1)
    assert await opened.bus.depth("linux") == 1
    opened.passes(2)
    assert await opened.bus.lease("linux", NOT_WAITING) is None


async def test_an_old_message_does_not_grow_younger_by_being_leased(opened: OpenedBus):
    await opened.bus.publish([LINUX])
    opened.passes(7 * DAY - 60)
    await opened.bus.abandon(await taken(opened.bus))
    opened.passes(61)
    assert await opened.bus.lease("linux", NOT_WAITING) is None


async def test_a_waiting_lease_is_woken_by_a_publish(opened: OpenedBus):
    waiting = asyncio.create_task(opened.bus.lease("linux", LONG))
    await settled(waiting)
    await opened.bus.publish([ARM])
    assert not waiting.done()
    await opened.bus.publish([LINUX])
    await woken_not_by_looking(waiting)


async def test_a_waiting_lease_is_woken_by_an_abandon(opened: OpenedBus):
    await opened.bus.publish([LINUX])
    held = await taken(opened.bus)
    waiting = asyncio.create_task(opened.bus.lease("linux", LONG))
    await settled(waiting)
    await opened.bus.abandon(held)
    await woken_not_by_looking(waiting)


async def test_every_message_wakes_one_of_many_waiting(opened: OpenedBus):
    async with asyncio.timeout(10):
        waiting = [asyncio.create_task(opened.bus.lease("linux", LONG)) for _ in range(4)]
        await settled(waiting[-1])
        await opened.bus.publish([LINUX] * 4)
        assert len({lease.id for lease in await asyncio.gather(*waiting) if lease}) == 4


@pytest.mark.parametrize("steps", range(12))
async def test_a_cancelled_wait_loses_no_message(opened: OpenedBus, steps: int):
    """Cancelled at every place it can be; at worst the message returns after its lease."""
    waiting = asyncio.create_task(opened.bus.lease("linux", LONG))
    await settled(waiting)
    published = asyncio.create_task(opened.bus.publish([LINUX]))
    for _ in range(steps):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await published
    opened.passes(LEASE_SECONDS)
    await waiting_comes_to(opened.bus, 1)
    assert await opened.bus.lease("linux", NOT_WAITING) is not None


async def test_the_one_who_still_waits_gets_what_a_cancelled_one_would_have(opened: OpenedBus):
    async with asyncio.timeout(10):
        first = asyncio.create_task(opened.bus.lease("linux", LONG))
        second = asyncio.create_task(opened.bus.lease("linux", LONG))
        await settled(second)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await opened.bus.publish([LINUX])
        assert await second is not None


async def test_a_poisoned_message_harms_no_other(opened: OpenedBus):
    await opened.put("linux", b'{"type":"something else"}')
    await opened.bus.publish([LINUX])
    lease = await opened.bus.lease("linux", SOON)
    assert lease is not None
    assert lease.message == LINUX
    (dead,) = await opened.bus.dead("linux", 10)
    assert dead.text == '{"type":"something else"}'
    assert "not one of ours" in dead.reason
    assert await opened.bus.depth("linux") == 0
    assert await opened.bus.dead("arm64", 10) == []


async def test_what_a_poisoned_message_says_is_shown_and_nothing_else_done_with_it(
    opened: OpenedBus,
):
    await opened.put("linux", b"\x1b[2J\xff" + b"x" * LARGEST_MESSAGE)
    assert await opened.bus.lease("linux", SOON) is None
    (dead,) = await opened.bus.dead("linux", 10)
    assert dead.text.isprintable()
    assert len(dead.text) <= LONGEST_LOOK


async def test_a_message_nobody_completes_dies(opened: OpenedBus):
    await opened.bus.publish([LINUX])
    for _ in range(LARGEST_DELIVERIES):
        lease = await opened.bus.lease("linux", SOON)
        assert lease is not None
        await opened.bus.abandon(lease.id)
    assert await opened.bus.lease("linux", SOON) is None
    (dead,) = await opened.bus.dead("linux", 10)
    assert "never completed" in dead.reason


async def test_dead_messages_wait_again_once_they_are_requeued(opened: OpenedBus):
    await opened.bus.publish([LINUX])
    for _ in range(LARGEST_DELIVERIES):
        lease = await opened.bus.lease("linux", SOON)
        assert lease is not None
        await opened.bus.abandon(lease.id)
    assert await opened.bus.lease("linux", SOON) is None
    assert await opened.bus.requeue("linux") == 1
    assert await opened.bus.dead("linux", 10) == []
    assert await opened.bus.lease("linux", SOON) is not None, "as if it had never been leased"
    assert await opened.bus.requeue("linux") == 0


async def test_a_dead_message_is_kept_for_seven_days_at_most(opened: OpenedBus):
    await opened.put("linux", b"?")
    assert await opened.bus.lease("linux", SOON) is None
    assert len(await opened.bus.dead("linux", 10)) == 1
    opened.passes(7 * DAY + 1)
    assert await opened.bus.dead("linux", 10) == []


async def test_a_look_takes_nothing(opened: OpenedBus):
    await opened.bus.publish([LINUX, LINUX])
    await taken(opened.bus)
    (seen,) = await opened.bus.peek("linux", 10)
    assert '"pool":"linux"' in seen.text
    await waiting_comes_to(opened.bus, 1)
    await taken(opened.bus)
    assert await opened.bus.peek("linux", 10) == []


async def test_draining_removes_what_waits_and_leaves_what_is_leased(opened: OpenedBus):
    await opened.bus.publish([LINUX] * 3 + [ARM])
    held = await taken(opened.bus)
    assert await opened.bus.drain("linux") == 2
    assert (await opened.bus.depth("linux"), await opened.bus.depth("arm64")) == (0, 1)
    await opened.bus.abandon(held)
    await waiting_comes_to(opened.bus, 1)


async def test_publishing_for_a_subject_nobody_declared_is_never_a_silent_drop(
    opened: OpenedBus,
):
    stray = RunnerRequest(pool="nobody-declared-it")
    if opened.refuses_unknown:
        with pytest.raises(Permanent, match="nobody-declared-it"):
            await opened.bus.publish([stray])
    else:
        await opened.bus.publish([stray])
        assert await opened.bus.depth(stray.subject) == 1


async def test_what_a_killed_consumer_held_comes_back(opened: OpenedBus):
    backend, url = able(opened.consumer)
    await opened.bus.publish([LINUX])
    consumer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.consumer"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert consumer.stdin is not None
        assert consumer.stdout is not None
        place = Place(backend=backend, url=url, now=opened.clock.now())
        consumer.stdin.write(msgspec.json.encode(place) + b"\n")
        assert await consumer.stdout.readline() == HELD
        assert await opened.bus.lease("linux", NOT_WAITING) is None, "the consumer holds it"
    finally:
        consumer.kill()
        await consumer.wait()
    opened.passes(LEASE_SECONDS)
    lease = await opened.bus.lease("linux", LONG)
    assert lease is not None
    assert lease.message == LINUX


@pytest.mark.filterwarnings(LEFT_SOCKETS)
async def test_what_was_published_outlives_a_restart_of_what_keeps_it(lasting: OpenedBus):
    restart = able(lasting.restart)
    await lasting.bus.publish([LINUX] * 3)
    bus = await restart()
    for _ in range(3):
        lease = await in_the_end(lambda: bus.lease("linux", LONG))
        assert lease is not None
        await bus.complete(lease.id)
    assert await in_the_end(lambda: bus.lease("linux", NOT_WAITING)) is None
    gc.collect()


@pytest.mark.filterwarnings(LEFT_SOCKETS)
async def test_what_is_published_during_a_reconnect_is_refused_or_there(opened: OpenedBus):
    wire, bus = able(opened.wire), opened.bus
    await bus.publish([LINUX])
    underway = [asyncio.create_task(bus.publish([LINUX])) for _ in range(5)]
    await settled(underway[0])
    await wire.cut()
    ends = await asyncio.gather(*underway, return_exceptions=True)
    assert all(end is None or isinstance(end, Transient) for end in ends), ends
    with pytest.raises(Transient):
        await bus.publish([LINUX])
    late = asyncio.create_task(in_the_end(lambda: bus.publish([LINUX])))
    await settled(late)
    await wire.mend()
    await late
    for _ in range(1 + ends.count(None) + 1):
        lease = await in_the_end(lambda: bus.lease("linux", LONG))
        assert lease is not None
        await bus.complete(lease.id)
    gc.collect()


PUBLISH_AND_DIE = """
import asyncio, os, signal, sys
from mayfly.bus.sql import open_bus
from mayfly.engine.clock import SystemClock
from mayfly.model.requests import RunnerRequest

async def main():
    async with open_bus(sys.argv[1], SystemClock(), ["linux"]) as bus:
        await bus.publish([RunnerRequest(pool="linux")] * 3)
        await bus.lease("linux", __import__("datetime").timedelta(0))
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_was_published_outlives_a_killed_process(tmp_path: Path):
    path = tmp_path / "mayfly.db"
    url = f"sqlite:///{path}"
    publisher = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", PUBLISH_AND_DIE, url], check=False
    )
    assert publisher.returncode == -9
    from mayfly.bus.sql import open_bus
    from mayfly.engine.clock import SystemClock

    clock = ManualClock(SystemClock().now())
    async with open_bus(url, clock, SUBJECTS) as bus:
        assert await bus.depth("linux") == 2
        clock.advance(LEASE_SECONDS)
        assert await bus.depth("linux") == 3, "the lease of the dead comes back"
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_lease_hears_of_another_process_on_the_same_file(tmp_path: Path):
    from mayfly.bus.sql import SqlBus
    from mayfly.database import open_database
    from mayfly.database.sqlite import Database

    path = tmp_path / "mayfly.db"
    clock = ManualClock()
    async with open_database(f"sqlite:///{path}") as ours, asyncio.timeout(10):
        theirs = Database(str(path))
        try:
            waiting = asyncio.create_task(SqlBus(ours, clock).lease("linux", LONG))
            await settled(waiting)
            await SqlBus(theirs, ManualClock(series="b")).publish([LINUX])
            assert await waiting is not None
        finally:
            await theirs.close()
