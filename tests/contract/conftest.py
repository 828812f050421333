"""One empty backend a test; every test of the ledger ends with a recount of its counters."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.backends import STORES, OpenedStore, named, opened_store


@pytest.fixture(params=STORES, ids=named)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenedStore]:
    async with opened_store(request.param, tmp_path) as opened:
        yield opened
        stored, recounted = opened.counters()
        assert stored == recounted
