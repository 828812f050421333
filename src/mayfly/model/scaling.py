"""The arithmetic of elastic pools: how many executors there should be; recomputed, never kept."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mayfly.model.launches import SUPPLY, LaunchPhase, LaunchRecord

FAILURES = 3
"""Starts that fail in a row before the next ones wait."""
_SHORTEST_PAUSE = 10.0
_LONGEST_PAUSE = 600.0


class Supply(NamedTuple):
    """What a pool has and what it lacks."""

    open: int
    """Queued jobs that a claim would be made for now."""
    free: int
    """Slots: its maximum, less those in use."""
    ready: int
    """Executors that start or wait for a claim, parked ones included."""


def wanted(supply: Supply, idle_buffer: int) -> int:
    """How many more executors there should be; negative: how many too many."""
    target = min(max(supply.free, 0), max(supply.open, 0) + idle_buffer)
    return target - supply.ready


def pause(failures: int) -> float:
    """Seconds before the next start, after so many in a row came to nothing."""
    if failures < FAILURES:
        return 0.0
    return float(min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(failures - FAILURES, 10)))


def again(tries: int) -> float:
    """Seconds before a platform that refused a start is asked for it again."""
    return float(min(_LONGEST_PAUSE / 2, _SHORTEST_PAUSE / 2 * 2 ** min(tries, 10)))


def failures(newest_first: Iterable[LaunchRecord]) -> tuple[int, float]:
    """How many launches came to nothing since one worked, and when the last of them did."""
    count, last = 0, 0.0
    for launch in newest_first:
        if launch.worked:
            break
        if launch.failed and launch.phase in {LaunchPhase.ENDING, LaunchPhase.OVER}:
            count += 1
            last = max(last, launch.phase_at)
    return count, last


def told(newest_first: Sequence[LaunchRecord]) -> str:
    """How an elastic pool's executors come along, for people; empty: nothing starts or fails."""
    live = [one for one in newest_first if one.phase in SUPPLY]
    refused = next((one for one in live if one.phase is LaunchPhase.WANTED and one.detail), None)
    if refused is not None:
        return f"the platform does not start an executor: {refused.detail}"
    if early := [one for one in live if one.phase is not LaunchPhase.READY]:
        first = min(one.wanted_at for one in early)
        return f"starting {len(early)} executor(s) since {first:%H:%M:%S} UTC"
    count, _ = failures(newest_first)
    if count and not live:
        last = next(one for one in newest_first if one.failed)
        return f"{count} executor(s) in a row came to nothing, the last: {last.detail}"
    return ""
