"""One empty backend a test; every test of the ledger ends with a recount of its counters."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from mayfly.ports import AccessRules
from tests.fakes.backends import (
    STORES,
    OpenedStore,
    named,
    opened_cosmos,
    opened_store,
)
from tests.fakes.clocks import ManualClock
from tests.servers import cosmos


@pytest.fixture(params=STORES, ids=named)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenedStore]:
    async with opened_store(request.param, tmp_path) as opened:
        yield opened
        stored, recounted = opened.counters()
        assert stored == recounted


@pytest.fixture(scope="session")
def account() -> Iterator[cosmos.Cosmos]:
    """One account for all tests that leave it running; each has a database of its own."""
    with cosmos.running() as running:
        yield running


@pytest.fixture(params=[*STORES, None], ids=lambda one: named(one) if one else "cosmos")
async def access(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AccessRules]:
    """Access rules of every backend, in a store or apart from it, without a rule."""
    if request.param is not None:
        async with opened_store(request.param, tmp_path) as opened:
            yield opened.access
        return
    server: cosmos.Cosmos = request.getfixturevalue("account")
    database = token_hex(8)
    await server.create(database)
    async with opened_cosmos(server, ManualClock(), database) as rules:
        yield rules
