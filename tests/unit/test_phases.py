"""Phases: rare things happen once in each period, spread evenly, without a memory."""

from collections import Counter
from itertools import pairwise

import pytest

from mayfly.engine.phases import is_due

PERIOD = 600.0
NAMES = [f"octo/repository-{number}" for number in range(200)]


def moments(name: str, times: list[float], period: float = PERIOD) -> list[float]:
    """When a name is due, of these turns."""
    return [now for before, now in pairwise(times) if is_due(name, before, now, period)]


@pytest.mark.parametrize("step", [1, 20, 37])
def test_every_name_is_due_once_in_each_period(step: int):
    times = [float(at) for at in range(0, 3601, step)]
    for name in NAMES[:20]:
        found = moments(name, times)
        assert len(found) in {5, 6}
        assert all(580 <= late - early <= 640 for early, late in pairwise(found))


def test_where_the_turns_fall_changes_nothing():
    """A restart begins its turns at other moments."""
    for name in NAMES[:20]:
        first = moments(name, [float(at) for at in range(0, 1201, 20)])[0]
        other = moments(name, [float(at) for at in range(3, 1201, 7)])[0]
        assert abs(first - other) <= 20


def test_a_turn_that_took_long_makes_a_name_due_once():
    assert [is_due(name, 0.0, 10 * PERIOD, PERIOD) for name in NAMES] == [True] * len(NAMES)


def test_nothing_is_due_while_no_time_passes():
    assert not any(is_due(name, at, at, PERIOD) for name in NAMES for at in (0.0, 300.0, 600.0))


def test_many_names_are_spread_over_the_period():
    times = [float(at) for at in range(0, 601, 60)]
    spread = Counter(at for name in NAMES for at in moments(name, times))
    assert len(spread) == 10
    assert max(spread.values()) < 45
