"""Budgets on virtual time: a minute passes as soon as nothing else is left to do."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from mayfly.github.budgets import READ, WRITE, Budget, Budgets, Price
from mayfly.github.limits import REGISTRATION
from mayfly.model.errors import RateLimited
from mayfly.model.jobs import InstallationId

START = datetime(2025, 11, 3, 10, 0, tzinfo=UTC)
EPOCH = int(START.timestamp())
A, B = InstallationId(1), InstallationId(2)
MINT = Price(WRITE, REGISTRATION, first=True)
LOOK, DELETE = Price(READ), Price(WRITE)
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


def seconds() -> float:
    """Since the start."""
    return asyncio.get_running_loop().time() - 1000.0


class LoopClock:
    def now(self) -> datetime:
        return START + timedelta(seconds=seconds())

    def new_id(self) -> str:
        raise NotImplementedError


def virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def budgets(mints: int = 180, patience: float = 30) -> Budgets:
    return Budgets(
        mints_per_minute=mints,
        patience=timedelta(seconds=patience),
        concurrency=50,
        clock=LoopClock(),
    )


def budget(mints: int = 180, patience: float = 30) -> Budget:
    return budgets(mints, patience).of(A)


async def call(of: Budget, price: Price, answer: dict[str, str] | None = None) -> float:
    """A call that is answered at once; when it was made."""
    async with of.turn(price):
        of.heard(answer or {})
        return seconds()


async def calls(of: Budget, price: Price, count: int) -> list[float | None]:
    """When each of `count` callers that come at once has its turn; None: it was refused."""

    async def one() -> float | None:
        try:
            return await call(of, price)
        except RateLimited:
            return None

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def limited(of: Budget, price: Price) -> RateLimited:
    """The refusal of a call, which must come at once."""
    asked_at = seconds()
    with pytest.raises(RateLimited) as raised:
        await call(of, price)
    assert seconds() == asked_at
    return raised.value


def hour(left: int, limit: int = 5000, reset: float = 3600, resource: str = "core") -> Any:
    """What an answer tells of the hour; it ends `reset` seconds after the start."""
    told = {"limit": limit, "remaining": left, "reset": EPOCH + int(reset), "resource": resource}
    return {f"x-ratelimit-{name}": str(value) for name, value in told.items()}
