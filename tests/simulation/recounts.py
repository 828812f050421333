"""Recounts: the counters, counted row by row as rows change, by the words of the rules alone."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from mayfly.model.access import Admitted
from mayfly.model.jobs import GroupId, JobState, WorkflowJob
from mayfly.model.pools import Pool
from mayfly.model.runners import Claim, ClaimId, Registration
from tests.simulation.stores import WatchedTables

LIVE = ("claimed", "minting", "registered", "busy")

Use = tuple[str, str | None]
"""A pool, and an owner in it or the whole of it."""


class Changed(NamedTuple):
    """What one transaction has changed: rows before and after, and whose counters."""

    jobs: list[tuple[WorkflowJob | None, WorkflowJob | None]]
    claims: list[tuple[Claim | None, Claim | None]]
    names: list[tuple[Registration | None, Registration | None]]
    groups: dict[GroupId, None]
    uses: dict[Use, None]


class _Share(NamedTuple):
    """What one claim adds to the counters."""

    group: GroupId
    pool: str
    owner: str
    supply: int
    sure: int
    used: int
    live: int


def changed(tables: WatchedTables) -> Changed:
    """By the tables' own journal of what is about to be kept."""
    before: dict[int, dict[Any, Any]] = defaultdict(dict)
    for table, key, old in tables._journal:
        before[id(table)].setdefault(key, old)

    def rows(table: dict[Any, Any]) -> list[tuple[Any, Any]]:
        return [(_row(old), table.get(key)) for key, old in before.get(id(table), {}).items()]

    return Changed(
        jobs=rows(tables._jobs),
        claims=rows(tables._claims),
        names=rows(tables._registrations),
        groups=dict.fromkeys(before.get(id(tables._groups), {})),
        uses=dict.fromkeys(before.get(id(tables._used), {})),
    )


class Recount:
    """Keeps counts of its own; shares no code with the ledger (5)."""

    def __init__(
        self, tables: WatchedTables, pools: tuple[Pool, ...], complain: Callable[[str], object]
    ) -> None:
        self._tables = tables
        self._pools = {pool.name: pool for pool in pools}
        self._complain = complain
        self.queued: Counter[GroupId] = Counter()
        self.names: defaultdict[ClaimId, dict[str, None]] = defaultdict(dict)
        self._supply: Counter[GroupId] = Counter()
        self._sure: Counter[GroupId] = Counter()
        self._used: Counter[Use] = Counter()
        self._live: Counter[str] = Counter()
        self._shares: dict[ClaimId, _Share] = {}

    def follow(self, changes: Changed) -> None:
        """Count what has changed, and compare it with what the ledger has counted."""
        for before, after in changes.jobs:
            self._job(before, -1, changes)
            self._job(after, 1, changes)
        moved = {row.id: None for pair in changes.claims for row in pair if row is not None}
        for old, new in changes.names:
            moved |= {row.claim: None for row in (old, new) if row is not None}
            if old is not None:
                self.names[old.claim].pop(old.name, None)
            if new is not None:
                self.names[new.claim][new.name] = None
        for claim_id in moved:
            self._claim(claim_id, changes)
        self._compare(changes)

    def _job(self, job: WorkflowJob | None, sign: int, changes: Changed) -> None:
        if job is not None and job.group is not None and _counts(job):
            self.queued[job.group] += sign
            changes.groups[job.group] = None

    def _claim(self, claim_id: ClaimId, changes: Changed) -> None:
        claim, names = self._tables._claims.get(claim_id), len(self.names[claim_id])
        if claim is not None and claim.registrations != names:
            self._complain(f"claim {claim_id} counts {claim.registrations} names, has {names}")
        before = self._shares.pop(claim_id, None)
        share = None if claim is None else _share(claim, names)
        if share is not None:
            self._shares[claim_id] = share
        if share != before:
            self._move(before, -1, changes)
            self._move(share, 1, changes)

    def _move(self, share: _Share | None, sign: int, changes: Changed) -> None:
        if share is None:
            return
        changes.groups[share.group] = None
        changes.uses[share.pool, None] = changes.uses[share.pool, share.owner] = None
        self._supply[share.group] += sign * share.supply
        self._sure[share.group] += sign * share.sure
        self._used[share.pool, None] += sign * share.used
        self._used[share.pool, share.owner] += sign * share.used
        self._live[share.pool] += sign * share.live

    def _compare(self, changes: Changed) -> None:
        for group in changes.groups:
            row = self._tables._groups.get(group)
            stored = (row.queued, row.supply, row.sure) if row else (0, 0, 0)
            counted = (self.queued[group], self._supply[group], self._sure[group])
            if stored != counted:
                self._complain(f"group {group}: stored {stored}, counted {counted}")
        for use in changes.uses:
            used = self._tables._used.get(use, 0)
            if used != self._used[use]:
                self._complain(f"use of {use}: stored {used}, counted {self._used[use]}")
            self._bound(*use, used)

    def _bound(self, name: str, owner: str | None, used: int) -> None:
        """No more runners than the pool may have, and than one owner may have of it (3)."""
        pool = self._pools[name]
        if owner is None and max(used, self._live[name]) > pool.max:
            self._complain(f"pool {name}: {used} used, {self._live[name]} live > {pool.max}")
        if owner is not None and used > (pool.max_per_owner or pool.max):
            self._complain(f"pool {name}: {owner} has {used}, {pool.max_per_owner} are allowed")


def _row(old: object) -> Any:
    """The journal's word for a row that was not there is an object of its own."""
    return None if type(old) is object else old


def _counts(job: WorkflowJob) -> bool:
    queued = job.event.state is JobState.QUEUED and not job.doubted
    return queued and isinstance(job.decision, Admitted)


def _share(claim: Claim, names: int) -> _Share:
    state = claim.state.value
    sure = int(state in ("minting", "registered") or (state == "busy" and claim.unattributed))
    live = state in LIVE
    over = claim.finished or claim.written_off
    return _Share(
        group=claim.group,
        pool=claim.pool,
        owner=claim.owner,
        supply=int(state == "claimed" or sure),
        sure=sure,
        used=int(live or (not over and names > 0)),
        live=int(live),
    )
