"""A stage for a module, and for each test on it the check that nothing is left."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.e2e.endings import check_nothing_is_left
from tests.e2e.stage import Stage, opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Stage]:
    """One control plane, no executor; tests keep apart by their repositories."""
    async with opened() as stage:
        await stage.plane()
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(shared: Stage) -> AsyncIterator[Stage]:
    """The shared stage, left as it was found."""
    yield shared
    shared.show_logs()
    await check_nothing_is_left(shared)


@pytest_asyncio.fixture
async def own_stage() -> AsyncIterator[Stage]:
    """A stage for one test alone, without a process."""
    async with opened() as stage:
        yield stage
        await check_nothing_is_left(stage)
