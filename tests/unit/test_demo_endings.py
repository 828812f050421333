"""The demo's cleaning up is not cut short by a signal that comes in its middle."""

import asyncio

import pytest

from mayfly.cli.demo.endings import to_its_end
from mayfly.model.errors import Transient


async def test_a_cancellation_waits_for_the_work_and_is_heard_then():
    begun, free, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work():
        begun.set()
        await free.wait()
        done.set()

    cleaning = asyncio.create_task(to_its_end(work()))
    await begun.wait()
    cleaning.cancel()
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await cleaning
    assert done.is_set()


async def test_what_went_wrong_comes_before_the_cancellation():
    begun, free = asyncio.Event(), asyncio.Event()

    async def work():
        begun.set()
        await free.wait()
        raise Transient("left behind")

    cleaning = asyncio.create_task(to_its_end(work()))
    await begun.wait()
    cleaning.cancel()
    free.set()
    with pytest.raises(Transient, match="left behind"):
        await cleaning
