"""What is over is kept for a while, and then forgotten (R17)."""

from mayfly.model.deadlines import Deadlines
from mayfly.store.tables import Tables

ABSENT_SECONDS = 86_400.0
"""An executor nobody hears of for a day is not expected any more."""

LAUNCHES_SECONDS = 86_400.0
"""What became of a launch is asked for on the same day."""


def forget(tables: Tables, deadlines: Deadlines, limit: int) -> int:
    """Delete rows of all kinds whose time is over; how many jobs and claims."""
    at = tables.clock().ledger_seconds
    tables.executors.forget(at - ABSENT_SECONDS)
    tables.launches.forget(at - LAUNCHES_SECONDS)
    rows = tables.forget_jobs(at, limit) + tables.forget_claims(at, limit)
    if rows:
        tables.drop_unused_groups()
        tables.forget_machines(at - deadlines.retention_seconds)
    return rows
