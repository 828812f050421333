"""The scaler listens to a platform that rings, on virtual time; what is true is still the list."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from mayfly.engine.scaler import RUNG_SECONDS
from mayfly.engine.watches import Watch
from mayfly.model.errors import Permanent
from mayfly.model.launches import LaunchId, LaunchPhase, LaunchState
from mayfly.model.pools import Pool
from tests.fakes.clocks import TURN
from tests.fakes.engine import Engine, opened_engine
from tests.fakes.factories import completed_job
from tests.fakes.launchers import RingingPlatform
from tests.pull.planes import on_virtual_time

LINUX = Pool(name="linux", max=5, launcher="cloud")


class Heard(NamedTuple):
    """An engine whose scaler may listen."""

    engine: Engine
    platform: RingingPlatform

    async def launched(self) -> LaunchId:
        """One that runs, and whose beginning has been surveyed."""
        await self.engine.queue(1)
        await self.engine.turns()
        await asyncio.sleep(2 * RUNG_SECONDS)
        (launch,) = self.platform.running
        return launch

    def fails(self, launch: LaunchId) -> None:
        self.platform.states[launch] = LaunchState.FAILED
        self.platform.ring()

    async def turns_in_their_time(self, count: int) -> None:
        for _ in range(count):
            await self.engine.turns()
            await asyncio.sleep(TURN.total_seconds())


@asynccontextmanager
async def heard() -> AsyncIterator[Heard]:
    platform = RingingPlatform()
    async with (
        opened_engine(pools=(LINUX,), launchers={"linux": platform}) as engine,
        engine.scaler.open(),
    ):
        yield Heard(engine, platform)


async def until(there: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not there():  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)


def test_one_that_fails_is_replaced_within_seconds_and_without_a_turn():
    async def scene() -> None:
        async with heard() as made:
            failed = await made.launched()
            made.fails(failed)
            await until(lambda: bool(made.platform.running), RUNG_SECONDS)
            assert made.platform.running != [failed]

    on_virtual_time(scene)


def test_what_ended_before_anybody_listened_is_found_by_the_first_ring():
    async def scene() -> None:
        async with heard() as made:
            await made.engine.turns()  # lists for the first time in this hour
            await made.engine.queue(1)
            await made.engine.turns()
            (failed,) = made.platform.running
            made.platform.states[failed] = LaunchState.FAILED
            await until(lambda: bool(made.platform.running), 2 * RUNG_SECONDS)

    on_virtual_time(scene)


def test_a_storm_of_rings_costs_a_list_every_few_seconds():
    async def scene() -> None:
        async with heard() as made:
            await made.launched()
            before = made.platform.lists
            for _ in range(3000):
                made.platform.ring()
                await asyncio.sleep(0.01)
            await asyncio.sleep(RUNG_SECONDS)
            made.platform.ring()
            await asyncio.sleep(RUNG_SECONDS)
            assert 5 <= made.platform.lists - before <= 30 / RUNG_SECONDS + 2

    on_virtual_time(scene)


def test_a_ring_just_after_a_list_of_the_turn_s_own_waits_as_long():
    async def scene() -> None:
        async with heard() as made:
            await made.launched()
            await made.turns_in_their_time(2)
            before = made.platform.lists
            await made.engine.turns()
            assert made.platform.lists == before + 1
            made.platform.ring()
            await asyncio.sleep(RUNG_SECONDS - 0.5)
            assert made.platform.lists == before + 1
            await asyncio.sleep(1.0)
            assert made.platform.lists == before + 2

    on_virtual_time(scene)


def test_a_list_of_the_turn_s_own_answers_a_ring_just_before_it():
    async def scene() -> None:
        async with heard() as made:
            await made.launched()
            await made.turns_in_their_time(2)
            before = made.platform.lists
            made.platform.ring()
            await asyncio.sleep(0.5)
            await made.engine.turns()
            await asyncio.sleep(2 * RUNG_SECONDS)
            assert made.platform.lists == before + 1

    on_virtual_time(scene)


def test_nobody_listens_before_something_is_launched_or_after_all_is_over():
    async def scene() -> None:
        async with heard() as made:
            await made.turns_in_their_time(3)
            assert made.platform.listened == 0
            launch = await made.launched()
            assert len(made.platform.listeners) == 1
            await made.turns_in_their_time(9)
            assert (made.platform.listened, len(made.platform.listeners)) == (1, 1)
            await made.engine.ledger.record([completed_job(1)])
            made.platform.states[launch] = LaunchState.ENDED
            made.platform.ring()
            await asyncio.sleep(RUNG_SECONDS + 1.0)
            (record,) = await made.engine.ledger.launches.newest(10)
            assert record.phase is LaunchPhase.OVER
            assert not made.platform.listeners

    on_virtual_time(scene)


def test_one_that_does_not_lead_any_more_neither_listens_nor_lists():
    async def scene() -> None:
        async with heard() as made:
            launch = await made.launched()
            await asyncio.sleep(2 * TURN.total_seconds() - 2 * RUNG_SECONDS - 0.5)
            assert made.platform.listeners
            before = made.platform.lists
            made.fails(launch)  # the last ring comes too late
            await asyncio.sleep(RUNG_SECONDS)
            assert (made.platform.lists, made.platform.listeners) == (before, set())
            await made.engine.turns()
            await asyncio.sleep(1.0)
            assert (made.platform.listened, len(made.platform.listeners)) == (2, 1)

    on_virtual_time(scene)


def test_a_list_that_fails_after_a_ring_is_repeated_by_the_next_turn():
    async def scene() -> None:
        async with heard() as made:
            failed = await made.launched()
            made.platform.away = True
            made.fails(failed)
            await asyncio.sleep(RUNG_SECONDS)
            made.platform.away = False
            await made.engine.turns()
            (record,) = [
                one for one in await made.engine.ledger.launches.newest(10) if one.id == failed
            ]
            assert record.phase is LaunchPhase.OVER

    on_virtual_time(scene)


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (Permanent("give the right to watch"), "launcher.unwatched"),
        (ValueError("a launcher with a bug"), "launcher.stumbled"),
    ],
    ids=["no-right", "bug"],
)
def test_a_platform_that_cannot_be_listened_to_is_surveyed_as_before(error: Exception, event: str):
    async def scene() -> None:
        with capture_logs() as said:
            async with heard() as made:
                made.platform.unwatched = error
                failed = await made.launched()
                made.platform.states[failed] = LaunchState.FAILED
                await made.turns_in_their_time(5)
                assert failed not in made.platform.running
                assert made.platform.running, "it was replaced"
                told = [one["event"] for one in said if one["event"].startswith("launcher.")]
                assert told == [event], "said once in ten minutes"
                made.platform.unwatched = None
                await made.turns_in_their_time(30)
                assert (made.platform.listened, len(made.platform.listeners)) == (2, 1)

    on_virtual_time(scene)


def test_a_wish_to_listen_that_comes_while_it_stops_is_heeded():
    async def scene() -> None:
        platform, loop = RingingPlatform(), asyncio.get_running_loop()
        watch = Watch("linux", platform, asyncio.Event().set)

        async def wish() -> None:
            watch.keep(loop.time() + 60.0)

        async with watch.open():
            await wish()
            await asyncio.sleep(1.0)
            watch.keep(0.0)
            await asyncio.create_task(wish())
            await asyncio.sleep(1.0)
            assert (platform.listened, len(platform.listeners)) == (2, 1)

    on_virtual_time(scene)


def test_nobody_listens_after_the_end():
    async def scene() -> None:
        async with heard() as made:
            await made.launched()
        assert not made.platform.listeners

    on_virtual_time(scene)
