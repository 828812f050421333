"""Limits GitHub tells of: what an hour has left, and when it wants silence."""

import asyncio
from datetime import datetime, timedelta

import pytest

from mayfly.github.budgets import WRITE, Price, Remaining
from mayfly.github.limits import REGISTRATION
from tests.fakes.budgets import (
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

HOUR = 3600

# One hour


def test_repairs_leave_a_fifth_of_the_hour_and_mints_may_use_it():
    async def scenario() -> None:
        shared = budget()
        await call(shared, LOOK, hour(left=1001))
        await call(shared, LOOK, hour(left=1000))
        refused = await limited(shared, LOOK)
        assert refused.retry_at == START + timedelta(seconds=HOUR)
        core_mint = Price(WRITE, first=True)
        await call(shared, core_mint, hour(left=1))
        await call(shared, core_mint, hour(left=0))
        assert (await limited(shared, core_mint)).retry_at == START + timedelta(seconds=HOUR)

    virtually(scenario())


def test_calls_without_an_answer_yet_count_as_if_they_cost_something():
    async def scenario() -> None:
        shared = budget()
        await call(shared, LOOK, hour(left=1002))
        async with shared.turn(LOOK):
            async with shared.turn(LOOK):
                await limited(shared, LOOK)
            # Its answer said that it cost nothing: 304.
            await call(shared, LOOK, hour(left=1002))

    virtually(scenario())


def test_registrations_have_an_hour_of_their_own():
    async def scenario() -> None:
        shared = budget()
        await call(shared, LOOK, hour(left=0))
        await call(shared, MINT, hour(left=0, limit=10_000, resource=REGISTRATION))
        await limited(shared, MINT)
        await call(shared, Price(WRITE, "another", first=True))
        assert shared.remaining().calls_limit == 5000

    virtually(scenario())


def test_a_new_hour_is_a_full_one():
    async def scenario() -> None:
        shared = budget()
        await call(shared, LOOK, hour(left=0, reset=90))
        await limited(shared, LOOK)
        await asyncio.sleep(91)
        await call(shared, LOOK)
        assert shared.remaining().calls == 5000

    virtually(scenario())


def test_the_end_of_an_hour_is_waited_for_when_it_is_near():
    async def scenario() -> list[float | None]:
        shared = budget()
        await call(shared, LOOK, hour(left=0, reset=3))
        return await calls(shared, LOOK, 2)

    assert virtually(scenario()) == [3, 3]


@pytest.mark.parametrize(
    "change",
    [
        {"x-ratelimit-limit": ""},
        {"x-ratelimit-limit": "0"},
        {"x-ratelimit-remaining": "-1"},
        {"x-ratelimit-remaining": "٣"},
        {"x-ratelimit-reset": "soon"},
        {"x-ratelimit-reset": "9" * 400},
    ],
)
def test_headers_that_make_no_sense_change_nothing(change):
    async def scenario() -> Remaining:
        shared = budget()
        await call(shared, LOOK, hour(left=0) | change)
        return shared.remaining()

    assert virtually(scenario()) == Remaining(899, 5000, 5000)


def test_an_hour_that_ends_too_late_to_be_one_ends_in_an_hour():
    async def scenario() -> datetime | None:
        shared = budget()
        await call(shared, LOOK, hour(left=0, reset=10**9))
        return (await limited(shared, LOOK)).retry_at

    assert virtually(scenario()) == START + timedelta(seconds=HOUR)


# Holds


def test_a_hold_is_waited_for_by_mints_that_can_and_refuses_the_others_at_once():
    async def scenario() -> None:
        shared = budget(patience=30)
        shared.hold(START + timedelta(seconds=20))
        shared.hold(START + timedelta(seconds=5))  # an earlier end does not shorten it
        assert (await limited(shared, LOOK)).retry_at == START + timedelta(seconds=20)
        assert await calls(shared, MINT, 2) == [20, 20]
        shared.hold(START + timedelta(seconds=80))
        assert (await limited(shared, MINT)).retry_at == START + timedelta(seconds=80)
        await asyncio.sleep(56)
        assert await calls(shared, LOOK, 1) == [80]

    virtually(scenario())


def test_a_hold_stops_those_who_wait_already_and_keeps_their_order():
    async def scenario() -> list[float | None]:
        shared = budget(2, patience=300)
        waiting = asyncio.create_task(calls(shared, MINT, 4))
        await asyncio.sleep(10)
        shared.hold(START + timedelta(seconds=200))
        return await waiting

    assert virtually(scenario()) == [0, 0, 200, 200]


def test_a_hold_that_outlasts_the_patience_of_those_who_wait_refuses_them_at_once():
    async def scenario() -> float:
        shared = budget(1, patience=60)
        await call(shared, MINT)
        waiting = asyncio.create_task(calls(shared, MINT, 1))
        await asyncio.sleep(10)
        shared.hold(START + timedelta(seconds=200))
        assert await waiting == [None]
        return seconds()

    assert virtually(scenario()) == 10


def test_a_hold_is_of_one_installation():
    async def scenario() -> float:
        every = budgets()
        every.of(A).hold(START + timedelta(seconds=200))
        return await call(every.of(B), LOOK)

    assert virtually(scenario()) == 0
