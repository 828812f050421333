"""Counting again: the counters against the rows they stand for, one group at a time (R2)."""

from collections import Counter

from mayfly.model.changes import Recount
from mayfly.model.demand import DemandGroup
from mayfly.model.jobs import GroupId
from mayfly.store.tables import Counts, Tables


def recount(tables: Tables, after: GroupId | None) -> Recount | None:
    """The next group and its pool, put right; None when there is no further group."""
    group = tables.group_after(after)
    if group is None:
        return None
    wrong = [*_group(tables, group), *_pool(tables, group.pool)]
    return Recount(group.id, tuple(wrong))


def _group(tables: Tables, group: DemandGroup) -> list[str]:
    claims = tables.live_of_group(group.id)
    counted = {
        "queued": tables.count_queued(group.id),
        "supply": sum(claim.supply for claim in claims),
        "sure": sum(claim.sure for claim in claims),
    }
    moves = {name: number - getattr(group, name) for name, number in counted.items()}
    if any(moves.values()):
        tables.add_counts([Counts(group.id, **moves)], tables.clock().ledger_seconds)
    where = f"group {group.id} of pool {group.pool}"
    return [f"{where}: {name} was {-move:+d}" for name, move in moves.items() if move]


def _pool(tables: Tables, pool: str) -> list[str]:
    using = [claim for claim in tables.used_by(pool) if claim.used]
    owners = Counter(claim.owner for claim in using)
    at = tables.clock().ledger_seconds
    moves: dict[str | None, int] = {None: len(using) - tables.use(pool, at).used}
    stored = tables.owners_of(pool)
    moves |= {owner: owners[owner] - stored.get(owner, 0) for owner in {**stored, **owners}}
    wrong = {owner: move for owner, move in moves.items() if move}
    for owner, move in wrong.items():
        tables.add_use(pool, owner, move)
    return [
        f"pool {pool}{f', owner {owner}' if owner else ''}: used was {-move:+d}"
        for owner, move in wrong.items()
    ]
