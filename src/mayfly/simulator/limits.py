"""GitHub's budgets: so many calls an hour for each installation, so many points a minute."""

from __future__ import annotations

from collections import defaultdict

from msgspec import Struct

REGISTRATION_LIMIT = 10_000
HOUR = 3600
MINUTE = 60


class Budget(Struct, frozen=True, kw_only=True):
    """What is left of one window of one resource."""

    resource: str
    limit: int
    used: int
    reset: int
    """Unix seconds."""

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def headers(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-used": str(self.used),
            "x-ratelimit-reset": str(self.reset),
            "x-ratelimit-resource": self.resource,
        }

    def body(self) -> dict[str, int]:
        return {
            "limit": self.limit,
            "used": self.used,
            "remaining": self.remaining,
            "reset": self.reset,
        }


class Limits:
    """Counts calls by asker and resource."""

    def __init__(self, core: int, points_per_minute: int | None) -> None:
        self.core = core
        self.points_per_minute = points_per_minute
        self._used: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._reset: dict[tuple[str, str], int] = {}
        self._points: defaultdict[tuple[str, str, int], int] = defaultdict(int)

    def peek(self, asker: str, resource: str, now: float) -> Budget:
        key = (asker, resource)
        if self._reset.get(key, 0) <= now:
            self._reset[key] = int(now) + HOUR
            self._used[key] = 0
        limit = self.core if resource == "core" else REGISTRATION_LIMIT
        return Budget(resource=resource, limit=limit, used=self._used[key], reset=self._reset[key])

    def spend(self, asker: str, resource: str, now: float) -> tuple[Budget, bool]:
        """Count one call; False when the budget was spent before it."""
        before = self.peek(asker, resource, now)
        if before.remaining == 0:
            return before, False
        self._used[asker, resource] += 1
        return self.peek(asker, resource, now), True

    def forgive(self, asker: str, resource: str) -> None:
        """Take one call back."""
        self._used[asker, resource] = max(0, self._used[asker, resource] - 1)

    def exhaust(self, now: float) -> None:
        """Spend what every known asker has left."""
        for key in list(self._reset):
            self._used[key] = self.peek(*key, now).limit

    def refund(self) -> None:
        """Begin a new hour for everyone."""
        self._reset.clear()
        self._used.clear()

    def overrun(self, asker: str, endpoint: str, method: str, now: float) -> int | None:
        """The seconds to wait when this endpoint had its points of the minute, else None."""
        if self.points_per_minute is None:
            return None
        minute = int(now // MINUTE)
        key = (asker, endpoint, minute)
        self._points[key] += 1 if method in {"GET", "HEAD", "OPTIONS"} else 5
        if self._points[key] <= self.points_per_minute:
            return None
        return MINUTE - int(now % MINUTE)


def resource_of(method: str, path: str) -> str:
    """The budget a call is counted on."""
    registers = path.endswith(("/generate-jitconfig", "/registration-token"))
    return "actions_runner_registration" if method == "POST" and registers else "core"
