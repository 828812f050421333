"""Pacing on virtual time: a minute passes as soon as nothing else is left to do."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mayfly.github.pacing import Pacing
from mayfly.model.errors import RateLimited
from mayfly.model.jobs import InstallationId

START = datetime(2025, 11, 3, 10, 0, tzinfo=UTC)
A, B = InstallationId(1), InstallationId(2)
T = TypeVar("T")


class Leap(selectors.DefaultSelector):
    """Waits for nothing: a wait moves the loop's time instead."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.leap = Leap()
        super().__init__(self.leap)

    def time(self) -> float:
        return self.leap.now


class LoopClock:
    def now(self) -> datetime:
        elapsed = asyncio.get_running_loop().time() - 1000.0
        return START + timedelta(seconds=elapsed)

    def new_id(self) -> str:
        raise NotImplementedError


def virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def pacing(per_minute: int = 3, patience: float = 3600) -> Pacing:
    return Pacing(per_minute=per_minute, patience=timedelta(seconds=patience), clock=LoopClock())


async def turns(pace: Pacing, count: int, installation: InstallationId = A) -> list[float]:
    """When each of `count` callers that come at once has its turn, in the order they came."""

    async def one() -> float:
        await pace.turn(installation)
        return asyncio.get_running_loop().time() - 1000.0

    return list(await asyncio.gather(*(one() for _ in range(count))))


def test_as_many_as_allowed_start_at_once_and_the_others_wait_in_their_order():
    at = virtually(turns(pacing(3), 8))
    assert at == sorted(at)
    assert [round(t) for t in at] == [0, 0, 0, 60, 60, 60, 120, 120]


def test_those_who_wait_for_the_same_moment_go_in_the_order_they_came():
    async def scenario() -> list[int]:
        pace, went = pacing(50), []

        async def one(number: int) -> None:
            await pace.turn(A)
            went.append(number)

        await asyncio.gather(*(one(number) for number in range(150)))
        return went

    assert virtually(scenario()) == list(range(150))


def test_never_more_than_allowed_in_any_sixty_seconds():
    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.floats(0, 90), min_size=1, max_size=40))
    def check(gaps: list[float]) -> None:
        async def scenario() -> list[float]:
            pace, at = pacing(5), []

            async def one() -> None:
                await pace.turn(A)
                at.append(asyncio.get_running_loop().time())

            async with asyncio.TaskGroup() as group:
                for gap in gaps:
                    group.create_task(one())
                    await asyncio.sleep(gap / 10)
            return at

        at = virtually(scenario())
        assert len(at) == len(gaps)
        for first, sixth in zip(at, at[5:], strict=False):
            assert sixth - first >= 60 - 1e-6

    check()


def test_installations_do_not_wait_for_each_other():
    async def scenario() -> list[float]:
        pace = pacing(1)
        await pace.turn(A)
        return await turns(pace, 1, B)

    assert virtually(scenario()) == [0]


def test_a_wait_beyond_the_patience_is_refused_at_once_with_the_time_to_come_back():
    async def scenario() -> tuple[RateLimited, float]:
        pace = pacing(1, patience=59)
        await pace.turn(A)
        await asyncio.sleep(0.5)
        with pytest.raises(RateLimited) as raised:
            await pace.turn(A)
        return raised.value, asyncio.get_running_loop().time() - 1000.0

    limited, at = virtually(scenario())
    assert at == 0.5
    assert limited.retry_at is not None
    assert abs(limited.retry_at - (START + timedelta(seconds=60))) < timedelta(milliseconds=1)


def test_those_refused_take_no_turn_from_those_who_wait():
    async def scenario() -> list[float]:
        pace = pacing(1, patience=70)
        await pace.turn(A)
        waiting = asyncio.create_task(pace.turn(A))
        await asyncio.sleep(0)
        for _ in range(5):
            with pytest.raises(RateLimited):
                await pace.turn(A)
        await waiting
        return await turns(pace, 1)

    assert [round(t) for t in virtually(scenario())] == [120]


def test_a_caller_who_gives_up_leaves_its_turn_to_the_next():
    async def scenario() -> list[float]:
        pace = pacing(1)
        await pace.turn(A)
        gone = asyncio.create_task(pace.turn(A))
        await asyncio.sleep(1)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await turns(pace, 1)

    assert [round(t) for t in virtually(scenario())] == [60]


def test_a_hold_stops_those_who_wait_already_and_keeps_their_order():
    async def scenario() -> list[float]:
        pace = pacing(2)
        waiting = asyncio.create_task(turns(pace, 4))
        await asyncio.sleep(10)
        pace.hold(A, START + timedelta(seconds=200))
        return await waiting

    at = virtually(scenario())
    assert [round(t) for t in at] == [0, 0, 200, 200]
    assert at == sorted(at)


def test_while_held_nothing_else_is_asked_either_and_afterwards_it_is():
    async def scenario() -> None:
        pace = pacing()
        pace.check(A)
        pace.hold(A, START + timedelta(seconds=30))
        pace.hold(A, START + timedelta(seconds=5))  # an earlier end does not shorten it
        pace.check(B)
        with pytest.raises(RateLimited) as raised:
            pace.check(A)
        assert raised.value.retry_at == START + timedelta(seconds=30)
        await asyncio.sleep(30.001)
        pace.check(A)

    virtually(scenario())
