"""How fast each installation is asked: bursts are shaped here, before GitHub does it."""

import asyncio
import math
from collections import deque
from datetime import datetime, timedelta

from mayfly.model.errors import RateLimited
from mayfly.model.jobs import InstallationId
from mayfly.ports import Clock

_WINDOW = 60.0
"""Seconds; GitHub counts its secondary limits by the minute."""


class Pacing:
    """At most `per_minute` turns in any 60 s per installation; the others wait in their order.

    Waiting is bounded by `patience`. Time is the event loop's, so that it may be a virtual one.
    """

    def __init__(self, *, per_minute: int, patience: timedelta, clock: Clock) -> None:
        self._per_minute = per_minute
        self._patience = patience.total_seconds()
        self._clock = clock
        self._lanes: dict[InstallationId, _Lane] = {}

    async def turn(self, installation: InstallationId) -> None:
        """Return when it is this caller's turn; RateLimited at once when that is too far away."""
        loop = asyncio.get_running_loop()
        lane = self._lane(installation)
        give_up_at = loop.time() + self._patience
        while True:
            turn_at = lane.reserve(loop.time(), self._per_minute)
            if turn_at > give_up_at:
                lane.give_back(turn_at)
                raise self._too_soon(installation, turn_at - loop.time())
            try:
                await _sleep_until(turn_at)
            except asyncio.CancelledError:
                lane.give_back(turn_at)
                raise
            if lane.held_until <= turn_at:
                return
            # GitHub said stop while we waited: queue again, behind the hold.
            lane.give_back(turn_at)

    def check(self, installation: InstallationId) -> None:
        """RateLimited while GitHub wants this installation to be silent; never waits."""
        now = asyncio.get_running_loop().time()
        held_until = self._lane(installation).held_until
        if held_until > now:
            raise self._too_soon(installation, held_until - now)

    def hold(self, installation: InstallationId, until: datetime) -> None:
        """GitHub wants to hear nothing of this installation before `until`."""
        seconds = (until - self._clock.now()).total_seconds()
        lane = self._lane(installation)
        lane.held_until = max(lane.held_until, asyncio.get_running_loop().time() + seconds)

    def _lane(self, installation: InstallationId) -> "_Lane":
        return self._lanes.setdefault(installation, _Lane())

    def _too_soon(self, installation: InstallationId, seconds: float) -> RateLimited:
        return RateLimited(
            f"installation {installation} is at its limit for another {math.ceil(seconds)} s; "
            "nothing was asked of GitHub",
            retry_at=self._clock.now() + timedelta(seconds=seconds),
        )


class _Lane:
    """The turns of one installation: taken in the last minute, or promised."""

    def __init__(self) -> None:
        self._turns: deque[float] = deque()
        self.held_until = -math.inf

    def reserve(self, now: float, per_minute: int) -> float:
        while self._turns and self._turns[0] <= now - _WINDOW:
            self._turns.popleft()
        turn_at = max(now, self.held_until)
        if len(self._turns) >= per_minute:
            turn_at = max(turn_at, self._turns[-per_minute] + _WINDOW)
        if self._turns and turn_at <= self._turns[-1]:
            # Strictly later, because timers of one moment fire in no promised order.
            turn_at = math.nextafter(self._turns[-1], math.inf)
        self._turns.append(turn_at)
        return turn_at

    def give_back(self, turn_at: float) -> None:
        self._turns.remove(turn_at)


async def _sleep_until(at: float) -> None:
    loop = asyncio.get_running_loop()
    if at <= loop.time():
        return
    woken: asyncio.Future[None] = loop.create_future()
    timer = loop.call_at(at, _wake, woken)
    try:
        await woken
    finally:
        timer.cancel()


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
