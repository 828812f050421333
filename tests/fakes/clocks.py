"""Time that moves only when a test says so."""

from datetime import UTC, datetime, timedelta

from mayfly.ports import Ledger

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class ManualClock:
    """ports.Clock: stands still between `advance`s, and counts its ids."""

    def __init__(self, start: datetime = NOON, *, series: str = "a") -> None:
        self.time = start
        self._series = series
        self._ids = 0

    def now(self) -> datetime:
        return self.time

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._series}{self._ids:025d}"

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


TURN = timedelta(seconds=20)


async def pass_time(ledger: Ledger, clock: ManualClock, seconds: float) -> float:
    """So much ledger time goes by: as in many turns of a reconciler, but in one."""
    await _tick(ledger, TURN)
    clock.advance(seconds)
    return await _tick(ledger, max(TURN, timedelta(seconds=seconds)))


async def _tick(ledger: Ledger, period: timedelta) -> float:
    at = await ledger.tick("the-leader", period)
    assert at is not None, "another instance leads"
    return at
