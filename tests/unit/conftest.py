"""The stages for tests of the engine."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.engine import Engine, opened_engine


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with opened_engine() as opened:
        yield opened
