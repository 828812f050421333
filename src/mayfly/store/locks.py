"""Locks: what a step decides on stays as it read it, where a database has more than one writer.

Every counter, group and claim belongs to one pool, so a pool is locked; and a job for itself, for
it may be refused, and so in no pool, or not be there yet.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import ARRAY

from mayfly.database.advisory import CLOCK, POOLS, SPACE, Crossed
from mayfly.model.jobs import JobId

_BOUND = (
    sa.bindparam("space", POOLS, type_=sa.Integer),
    sa.bindparam("pools", type_=ARRAY(sa.Integer)),
    sa.bindparam("jobs", type_=ARRAY(sa.BigInteger)),
)
_WAIT = sa.text(
    "SELECT (SELECT count(pg_advisory_xact_lock(:space, pool)) FROM unnest(:pools) AS pool),"
    " (SELECT count(pg_advisory_xact_lock(job)) FROM unnest(:jobs) AS job)"
).bindparams(*_BOUND)
_TRY = sa.text(
    "SELECT coalesce((SELECT bool_and(pg_try_advisory_xact_lock(:space, pool))"
    " FROM unnest(:pools) AS pool), true) AND coalesce((SELECT"
    " bool_and(pg_try_advisory_xact_lock(job)) FROM unnest(:jobs) AS job), true)"
).bindparams(*_BOUND)


@dataclass
class Wants:
    """All that a step has asked for, in this try and in those before it."""

    pools: set[int] = field(default_factory=set)
    jobs: set[JobId] = field(default_factory=set)


class Locks(Protocol):
    """Held until the transaction is over."""

    def hold(self, pools: Iterable[str | None], jobs: Collection[JobId] = ()) -> bool:
        """Whether any was not held yet: then what was read before is to be read again."""

    def hold_clock(self) -> None: ...


class NoLocks:
    """For one writer at a time, and for readers, who decide nothing."""

    def hold(self, pools: Iterable[str | None], jobs: Collection[JobId] = ()) -> bool:
        del pools, jobs
        return False

    def hold_clock(self) -> None:
        """Nobody else writes it."""


class AdvisoryLocks:
    """PostgreSQL's advisory locks of one transaction.

    All steps take pools before jobs, and each in the order of their numbers, so none waits for
    one that waits for it. What a step finds it needs out of that order is taken if it is free;
    else the step begins again, and takes all it is known to want at first.
    """

    def __init__(self, connection: Connection, wants: Wants) -> None:
        self._connection = connection
        self._wants = wants
        self._held = Wants()

    def hold(self, pools: Iterable[str | None], jobs: Collection[JobId] = ()) -> bool:
        held, wants = self._held, self._wants
        asked_pools = {_number(pool) for pool in pools if pool is not None}
        if asked_pools <= held.pools and held.jobs.issuperset(jobs):
            return False
        wants.pools |= asked_pools
        wants.jobs |= set(jobs)
        fresh_pools, fresh_jobs = sorted(wants.pools - held.pools), sorted(wants.jobs - held.jobs)
        fresh = {"pools": fresh_pools, "jobs": fresh_jobs}
        if self._in_order(fresh_pools, fresh_jobs):
            self._connection.execute(_WAIT, fresh)
        elif not self._connection.execute(_TRY, fresh).scalar():
            raise Crossed
        held.pools |= wants.pools
        held.jobs |= wants.jobs
        return True

    def _in_order(self, pools: list[int], jobs: list[JobId]) -> bool:
        last_pool = max(self._held.pools, default=pools[0] if pools else 0)
        last_job = max(self._held.jobs, default=jobs[0] if jobs else 0)
        if pools and (self._held.jobs or pools[0] < last_pool):
            return False
        return not jobs or jobs[0] >= last_job

    def hold_clock(self) -> None:
        self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SPACE, CLOCK)))


def locks_of(connection: Connection, wants: Wants) -> Locks:
    """What the connection's database needs for a step that writes."""
    if connection.dialect.name == "postgresql":
        return AdvisoryLocks(connection, wants)
    return NoLocks()


def _number(pool: str) -> int:
    """Two pools that share it wait for each other, and no more."""
    return crc32(pool.encode()) - 2**31
