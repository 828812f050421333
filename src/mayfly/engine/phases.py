"""Phases: things done rarely, each at a time of its own, that need no memory of when it was."""

from zlib import crc32


def is_due(name: str, before: float, now: float, period: float) -> bool:
    """Whether the moment of `name`, once in each `period`, lies in (before, now].

    Made of the name, so that what is many is spread evenly, and a restart repeats nothing. All in
    ledger seconds.
    """
    phase = crc32(name.encode()) % round(period)
    return (now - phase) // period > (before - phase) // period
