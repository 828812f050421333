"""What may still be asked of GitHub: one budget for each installation, and minting comes first.

Minting may spend all of a minute's points and all of the hour. Everything else stops at 70 % of
the minute and leaves 20 % of the hour, so that repairs never keep a runner from being made.
"""

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

from mayfly.github.limits import CORE, Hour, Minute, told_by
from mayfly.model.errors import RateLimited
from mayfly.model.jobs import InstallationId
from mayfly.ports import Clock

READ, WRITE = 1, 5
"""Points of a GET, and of any other call.

Source: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""
_POINTS = 900
"""A minute, by GitHub's secondary limit."""
_OTHERS_POINTS = 0.7
_OTHERS_RESERVE = 0.2
_OTHERS_PATIENCE = 5.0
"""Seconds; whoever repairs has other installations to see to meanwhile, and comes again."""
_LONGEST_HOUR = 3600.0
_AT_ONCE = 0.6
"""Of all calls under way, those of one installation: where it is silent, the others go on."""


class Price(NamedTuple):
    """What one call costs, and what pays for it."""

    points: int = READ
    hour: str = CORE
    first: bool = False
    """It mints, or minting cannot begin without it."""


class Remaining(NamedTuple):
    """What is left of a budget."""

    points: int
    """Of this minute."""
    calls: int
    """Of this hour."""
    calls_limit: int

    @property
    def share(self) -> float:
        """The part of the hour's calls that is left, 0 to 1."""
        return self.calls / self.calls_limit


class Budgets:
    """The budgets of all installations, and under None that of the App itself."""

    def __init__(
        self, *, mints_per_minute: int, patience: timedelta, concurrency: int, clock: Clock
    ) -> None:
        self._mints_per_minute = mints_per_minute
        self._at_once = max(1, round(concurrency * _AT_ONCE))
        self._patience = patience.total_seconds()
        self._clock = clock
        self._budgets: dict[InstallationId | None, Budget] = {}

    def of(self, installation: InstallationId | None) -> "Budget":
        """The budget all calls of this installation share."""
        if installation not in self._budgets:
            self._budgets[installation] = self._made(installation)
        return self._budgets[installation]

    def remaining(self) -> Mapping[InstallationId | None, Remaining]:
        """What is left, for all who have asked anything so far."""
        return {who: budget.remaining() for who, budget in self._budgets.items()}

    def least_share(self) -> float:
        """The part of its hour that is left to whoever has the least, 0 to 1."""
        return min((left.share for left in self.remaining().values()), default=1.0)

    def _made(self, installation: InstallationId | None) -> "Budget":
        mints = WRITE * self._mints_per_minute
        # Whoever allows more mints lives on a server with limits of its own.
        points = max(_POINTS, mints)
        if installation is None:
            return Budget("the App", points, points, self._patience, self._at_once, self._clock)
        name = f"installation {installation}"
        return Budget(name, points, mints, self._patience, self._at_once, self._clock)


class Budget:
    """What one installation may still ask. Time is the event loop's, so that it may be virtual."""

    def __init__(
        self,
        name: str,
        points: int,
        mint_points: int,
        patience: float,
        at_once: int,
        clock: Clock,
    ) -> None:
        self.slots = asyncio.Semaphore(at_once)
        """One for each call under way."""
        self._name = name
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._points = points
        self._minute = Minute()
        self._hours: defaultdict[str, Hour] = defaultdict(Hour)
        self._held_until = -math.inf
        shared = round(points * _OTHERS_POINTS)
        self._first = _Line(points, mint_points, 0.0, patience)
        self._others = _Line(shared, shared, _OTHERS_RESERVE, min(patience, _OTHERS_PATIENCE))
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, price: Price) -> AsyncIterator[None]:
        """The call is made inside; RateLimited at once when its turn is too far away."""
        turn = self._queue(price)
        try:
            await turn.given
        except asyncio.CancelledError:
            self._leave(turn)
            raise
        try:
            yield
        finally:
            self._hours[price.hour].under_way -= 1
            self._serve()

    def heard(self, headers: Mapping[str, str]) -> None:
        """What an answer tells of the hour."""
        told = told_by(headers)
        if told is not None:
            seconds = min(told.reset - self._clock.now().timestamp(), _LONGEST_HOUR)
            reset_at = self._loop.time() + seconds
            self._hours[told.resource].tell(told.limit, told.left, reset_at)

    def hold(self, until: datetime) -> None:
        """GitHub wants to hear nothing before `until`."""
        seconds = (until - self._clock.now()).total_seconds()
        self._held_until = max(self._held_until, self._loop.time() + seconds)
        self._serve()

    def remaining(self) -> Remaining:
        """What is left now; 0 points while GitHub wants silence."""
        now = self._loop.time()
        held = now < self._held_until
        hour = self._hours[CORE]
        points = 0 if held else self._points - self._minute.spent(now)
        return Remaining(points, hour.left(now), hour.limit)

    def _queue(self, price: Price) -> "_Turn":
        now = self._loop.time()
        line = self._first if price.first else self._others
        before = self._first.points if line is self._others else 0
        wanted = line.points + price.points
        at = self._turn_at(line, price, now, before + wanted, wanted)
        if at > now + line.patience:
            raise self._too_soon(at - now)
        turn = _Turn(price, now + line.patience, self._loop.create_future())
        line.waiting.append(turn)
        self._serve()
        return turn

    def _turn_at(self, line: "_Line", price: Price, now: float, of_all: int, of_line: int) -> float:
        return max(
            self._held_until,
            self._hours[price.hour].fits_at(line.reserve, now),
            self._minute.fits_at(of_all, line.most_of_all, now),
            line.minute.fits_at(of_line, line.most, now),
        )

    def _serve(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        turns = [self._serve_line(line, now) for line in (self._first, self._others)]
        following = min(turns)
        if following < math.inf:
            self._timer = self._loop.call_at(following, self._serve)

    def _serve_line(self, line: "_Line", now: float) -> float:
        """Give every turn that is due; when the next one is."""
        while line.waiting:
            turn = line.waiting[0]
            at = self._turn_at(line, turn.price, now, turn.price.points, turn.price.points)
            if turn.given.done():
                pass  # its caller has given up
            elif at > turn.give_up_at:
                turn.given.set_exception(self._too_soon(at - now))
            elif at > now:
                return at
            else:
                self._give(turn, line, now)
            line.waiting.popleft()
        return math.inf

    def _give(self, turn: "_Turn", line: "_Line", now: float) -> None:
        turn.given.set_result(now)
        self._hours[turn.price.hour].under_way += 1
        for minute in (self._minute, line.minute):
            minute.spend(turn.price.points, now)

    def _leave(self, turn: "_Turn") -> None:
        """The caller was cancelled: what it was given goes to the others."""
        if not turn.given.cancelled() and turn.given.exception() is None:
            self._hours[turn.price.hour].under_way -= 1
            line = self._first if turn.price.first else self._others
            for minute in (self._minute, line.minute):
                minute.give_back(turn.price.points, turn.given.result())
        self._serve()

    def _too_soon(self, seconds: float) -> RateLimited:
        return RateLimited(
            f"{self._name} is at its limit for another {math.ceil(seconds)} s; "
            "nothing was asked of GitHub",
            retry_at=self._clock.now() + timedelta(seconds=seconds),
        )


class _Turn(NamedTuple):
    """Somebody's place in a line."""

    price: Price
    give_up_at: float
    given: asyncio.Future[float]
    """When it was given; RateLimited when it came to lie too far away."""


class _Line:
    """Those of one kind who wait, in the order they came, and what their kind may spend."""

    def __init__(self, most_of_all: int, most: int, reserve: float, patience: float) -> None:
        self.waiting: deque[_Turn] = deque()
        self.minute = Minute()
        self.most_of_all = most_of_all
        """Points of the minute that may be spent, by whomever, when one of these goes."""
        self.most = most
        """Points of a minute these may spend together."""
        self.reserve = reserve
        """The share of an hour they leave."""
        self.patience = patience

    @property
    def points(self) -> int:
        """What all who wait will cost."""
        return sum(turn.price.points for turn in self.waiting if not turn.given.done())
