"""What GitHub allows: so many points in a minute, so many calls in an hour."""

import math
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

_MINUTE = 60.0

CORE = "core"
"""The hourly limit most calls count on."""
REGISTRATION = "actions_runner_registration"
"""The hourly limit of calls that register runners.

Source: https://docs.github.com/rest/rate-limit/rate-limit
"""
_UNTOLD = 5000
"""What an installation has at least, and an App.

Source: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""
_LONGEST_NUMBER = 12  # digits; seconds since 1970 have ten


class Minute:
    """Points spent in the last 60 s, whichever 60 s they are. Times are the event loop's."""

    def __init__(self) -> None:
        self._spent: deque[tuple[float, int]] = deque()
        self._sum = 0

    def spent(self, now: float) -> int:
        """The points of the last minute."""
        while self._spent and self._spent[0][0] + _MINUTE <= now:
            self._sum -= self._spent.popleft()[1]
        return self._sum

    def spend(self, points: int, now: float) -> None:
        """Count them."""
        self._spent.append((now, points))
        self._sum += points

    def give_back(self, points: int, at: float) -> None:
        """What was spent `at` was not needed after all."""
        if (at, points) in self._spent:
            self._spent.remove((at, points))
            self._sum -= points

    def fits_at(self, points: int, most: int, now: float) -> float:
        """When `points` more fit under `most`, if nobody else spends any."""
        before = self.spent(now)
        if before + points <= most:
            return now
        # More than fits in one minute goes out a minute after what has filled the one before.
        minutes, rest = divmod(points - 1, most)
        to_expire, at = before + rest + 1 - most, now - _MINUTE
        for spent_at, some in self._spent:
            if to_expire <= 0:
                break
            to_expire, at = to_expire - some, spent_at
        return at + _MINUTE * (minutes + 1)


class Told(NamedTuple):
    """What an answer tells of an hourly limit."""

    resource: str
    limit: int
    left: int
    reset: int
    """Seconds since 1970."""


def told_by(headers: Mapping[str, str]) -> Told | None:
    """None when the answer says nothing of it, or nothing that makes sense."""
    texts = [headers.get(f"x-ratelimit-{name}", "") for name in ("limit", "remaining", "reset")]
    if not all(_is_number(text) for text in texts):
        return None
    limit, left, reset = map(int, texts)
    resource = headers.get("x-ratelimit-resource", CORE)
    return Told(resource, limit, left, reset) if limit else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER


class Hour:
    """One hourly limit, as far as GitHub has told it. Times are the event loop's."""

    def __init__(self) -> None:
        self.limit = _UNTOLD
        self.under_way = 0
        """Calls whose answers have not told yet what they cost."""
        self._left = _UNTOLD
        self._reset_at = -math.inf

    def tell(self, limit: int, left: int, reset_at: float) -> None:
        """What GitHub has just said. Its word counts: a 304, for one, has cost nothing."""
        self.limit, self._left, self._reset_at = limit, min(left, limit), reset_at

    def left(self, now: float) -> int:
        """Calls that may still be made."""
        return self.limit if now >= self._reset_at else max(0, self._left - self.under_way)

    def fits_at(self, reserve: float, now: float) -> float:
        """When a call leaves this share of the limit untouched."""
        return now if self.left(now) > reserve * self.limit else self._reset_at
