"""What a ledger's database tells at a glance, read beside whoever works on it."""

from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from mayfly.store.schema import clock, grp


class Figures(NamedTuple):
    """How much waits, and when a reconciler was last at work."""

    queued: int
    """Admitted jobs."""
    stalled: int
    """Demand groups."""
    last_turn: datetime | None
    """By the wall clock; None when no control plane has ever led."""


def figures(connection: Connection) -> Figures:
    """Of a database with the newest schema."""
    stalled = sa.func.sum(sa.case((grp.c.stalled, 1), else_=0))
    counted = connection.execute(sa.select(sa.func.sum(grp.c.queued), stalled)).one()
    ticked = connection.execute(sa.select(clock.c.last_tick)).scalar()
    last_turn = None if ticked is None else datetime.fromtimestamp(ticked / 1000, UTC)
    return Figures(int(counted[0] or 0), int(counted[1] or 0), last_turn)
