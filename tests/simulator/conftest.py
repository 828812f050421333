"""The fixtures: a running simulator with a client, and a webhook receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .support import Client, Receiver, receiver, simulated


@pytest.fixture
async def github() -> AsyncIterator[Client]:
    """A simulator with its default settings."""
    async with simulated() as client:
        yield client


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    """A webhook address nobody delivers to yet."""
    async with receiver() as running:
        yield running
