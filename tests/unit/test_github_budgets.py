"""A budget: what a minute allows, who goes first, and what becomes of those who give up."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mayfly.github.budgets import WRITE, Price, Remaining
from mayfly.github.limits import REGISTRATION
from mayfly.model.errors import RateLimited
from tests.fakes.budgets import (
    DELETE,
    LOOK,
    MINT,
    START,
    A,
    B,
    budget,
    budgets,
    call,
    calls,
    hour,
    limited,
    seconds,
    virtually,
)

# One minute


def test_as_many_mints_as_allowed_start_at_once_and_the_others_wait_in_their_order():
    async def scenario() -> list[float | None]:
        return await calls(budget(3, patience=3600), MINT, 8)

    assert virtually(scenario()) == [0, 0, 0, 60, 60, 60, 120, 120]


def test_those_who_wait_for_the_same_moment_go_in_the_order_they_came():
    async def scenario() -> list[int]:
        shared, went = budget(50, patience=3600), []

        async def one(number: int) -> None:
            await call(shared, MINT)
            went.append(number)

        await asyncio.gather(*(one(number) for number in range(150)))
        return went

    assert virtually(scenario()) == list(range(150))


class Asked(NamedTuple):
    at: float
    price: Price


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 6), st.sampled_from([MINT, LOOK, DELETE]), st.integers(1, 150)),
        min_size=1,
        max_size=25,
    )
)
def test_no_sixty_seconds_have_more_points_or_mints_than_github_allows(waves):
    async def scenario() -> list[Asked]:
        shared, made = budget(120), []

        async def one(price: Price) -> None:
            with suppress(RateLimited):
                made.append(Asked(await call(shared, price), price))

        async with asyncio.TaskGroup() as group:
            for gap, price, count in waves:
                for _ in range(count):
                    group.create_task(one(price))
                await asyncio.sleep(gap)
        return made

    made = virtually(scenario())
    for first in made:
        window = [one for one in made if first.at <= one.at < first.at + 60 - 1e-6]
        assert sum(one.price.points for one in window) <= 900
        assert sum(one.price.first for one in window) <= 120
        others = [one for one in window if not one.price.first]
        assert sum(one.price.points for one in others) <= 630


def test_a_wait_beyond_the_patience_is_refused_at_once_with_the_time_to_come_back():
    async def scenario() -> datetime | None:
        shared = budget(1, patience=59)
        await call(shared, MINT)
        await asyncio.sleep(0.5)
        return (await limited(shared, MINT)).retry_at

    retry_at = virtually(scenario())
    assert retry_at is not None
    assert abs(retry_at - (START + timedelta(seconds=60))) < timedelta(milliseconds=1)


def test_a_thousand_mints_at_once_are_told_when_to_come_back_and_not_left_to_wait():
    async def scenario() -> tuple[list[float | None], float]:
        return await calls(budget(), MINT, 1000), seconds()

    at, ended = virtually(scenario())
    assert at == [0] * 180 + [None] * 820
    assert ended == 0


def test_what_is_refused_takes_no_turn_from_those_who_wait():
    async def scenario() -> list[float | None]:
        shared = budget(1, patience=70)
        await call(shared, MINT)
        waiting = asyncio.create_task(call(shared, MINT))
        await asyncio.sleep(0)
        for _ in range(5):
            await limited(shared, MINT)
        await waiting
        return await calls(shared, MINT, 1)

    assert virtually(scenario()) == [120]


def test_installations_and_the_app_do_not_wait_for_each_other():
    async def scenario() -> list[float]:
        every = budgets(1)
        return [await call(every.of(who), MINT) for who in (A, B, None)]

    assert virtually(scenario()) == [0, 0, 0]


def test_the_bound_on_mints_is_none_on_the_app_s_own_calls():
    async def scenario() -> list[float | None]:
        return await calls(budgets(1).of(None), Price(WRITE, first=True), 180)

    assert virtually(scenario()) == [0] * 180


def test_a_server_that_allows_more_mints_allows_more_points():
    async def scenario() -> list[float | None]:
        return await calls(budget(400), MINT, 400)

    assert virtually(scenario()) == [0] * 400


# Minting first


def test_repairs_stop_while_mints_still_go():
    async def scenario() -> None:
        shared = budget()
        assert await calls(shared, DELETE, 200) == [0] * 126 + [None] * 74  # 630 points
        assert await calls(shared, MINT, 60) == [0] * 54 + [None] * 6  # the other 270

    virtually(scenario())


def test_a_mint_overtakes_every_repair_that_waits():
    async def scenario() -> list[tuple[str, float]]:
        shared, went = budget(patience=60), []
        await calls(shared, DELETE, 126)
        await calls(shared, MINT, 54)
        await asyncio.sleep(56)

        async def one(name: str, price: Price) -> None:
            went.append((name, await call(shared, price)))

        repair = asyncio.create_task(one("repair", LOOK))
        await asyncio.sleep(1)
        await asyncio.gather(repair, *(one("mint", MINT) for _ in range(100)))
        return went

    went = virtually(scenario())
    assert went == [*[("mint", 60.0)] * 100, ("repair", 60.0)]


def test_a_repair_overtaken_by_too_many_mints_is_refused_before_its_patience_ends():
    async def scenario() -> float:
        shared = budget(patience=60)
        await calls(shared, DELETE, 126)
        await calls(shared, MINT, 54)
        await asyncio.sleep(56)
        repair = asyncio.create_task(call(shared, LOOK))
        mints = asyncio.create_task(calls(shared, MINT, 180))
        with pytest.raises(RateLimited):
            await repair
        refused_at = seconds()
        assert await mints == [60.0] * 180
        return refused_at

    assert virtually(scenario()) <= 61


def test_a_repair_that_comes_behind_too_many_mints_is_refused_at_once():
    async def scenario() -> None:
        shared = budget(patience=60)
        await calls(shared, MINT, 180)
        await asyncio.sleep(58)
        mints = asyncio.create_task(calls(shared, MINT, 180))
        await asyncio.sleep(1)
        assert (await limited(shared, LOOK)).retry_at == START + timedelta(seconds=120)
        assert await mints == [60] * 180

    virtually(scenario())


def test_repairs_go_while_mints_wait_for_their_own_bound():
    async def scenario() -> list[float | None]:
        shared = budget(2, patience=60)
        await calls(shared, MINT, 2)
        waiting = asyncio.create_task(calls(shared, MINT, 2))
        await asyncio.sleep(1)
        repairs = await calls(shared, DELETE, 100)
        assert await waiting == [60, 60]
        return repairs

    assert virtually(scenario()) == [1] * 100


# Giving up


def test_a_caller_who_gives_up_leaves_its_turn_to_the_next():
    async def scenario() -> list[float | None]:
        shared = budget(1, patience=70)
        await call(shared, MINT)
        gone = asyncio.create_task(call(shared, MINT))
        await asyncio.sleep(1)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await calls(shared, MINT, 1)

    assert virtually(scenario()) == [60]


def test_a_turn_given_to_somebody_who_has_just_gone_is_given_back():
    async def scenario() -> None:
        shared = budget()
        await call(shared, LOOK, hour(left=1001, reset=4))
        async with shared.turn(LOOK):
            gone = asyncio.create_task(call(shared, LOOK))
            await asyncio.sleep(1)
        # The turn is free now, and given to the one who waits; it has not run since.
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert seconds() == 1
        assert shared.remaining() == Remaining(898, 1001, 5000)

    virtually(scenario())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 130), st.floats(0, 130)), min_size=5, max_size=30))
def test_however_many_give_up_the_others_get_all_there_is(times):
    """Callers come and some go again; one of every minute's turns is always there in the end."""

    async def scenario() -> None:
        shared, made = budget(3, patience=10_000), []

        async def one(comes: float, goes: float) -> None:
            await asyncio.sleep(comes)
            with suppress(TimeoutError):
                async with asyncio.timeout(goes):
                    made.append(await call(shared, MINT))

        await asyncio.gather(*(one(*pair) for pair in times))
        await asyncio.sleep(61)
        assert await calls(shared, MINT, 3) == [seconds()] * 3
        assert shared.remaining().points == 900 - 15

    virtually(scenario())


def test_a_call_that_fails_is_not_under_way_any_more():
    async def scenario() -> None:
        shared = budget()
        await call(shared, LOOK, hour(left=1010))
        for _ in range(50):
            with pytest.raises(ConnectionError):
                async with shared.turn(LOOK):
                    raise ConnectionError
        await call(shared, LOOK)

    virtually(scenario())


# What is left


def test_what_is_left_can_be_read_for_each_and_for_the_poorest():
    async def scenario() -> None:
        every = budgets()
        assert every.least_share() == 1.0
        await call(every.of(A), MINT, hour(left=9000, limit=10_000, resource=REGISTRATION))
        await call(every.of(B), LOOK, hour(left=1250))
        await call(every.of(None), LOOK, hour(left=4000))
        assert every.remaining() == {
            A: Remaining(895, 5000, 5000),
            B: Remaining(899, 1250, 5000),
            None: Remaining(899, 4000, 5000),
        }
        assert every.least_share() == 0.25
        every.of(B).hold(START + timedelta(seconds=60))
        assert every.remaining()[B].points == 0

    virtually(scenario())
