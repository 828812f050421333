"""The ledger's counters, as stored and as a recount of jobs, claims and names gives them.

The recount shares no code with the ledger: it reads the rows and counts by the words of the rules.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mayfly.model.access import Admitted
from mayfly.model.jobs import JobState
from mayfly.ports import Ledger
from mayfly.store.ledger import TransactionalLedger
from mayfly.store.memory import MemoryTransactions
from mayfly.store.memory_tables import MemoryTables
from tests.fakes.rows import SQLITE, rows_of

ALIVE = {"claimed", "minting", "registered", "busy"}


class Counters(NamedTuple):
    """Only what is not zero, so that a row of zeros equals no row."""

    groups: dict[int, tuple[int, int, int]]
    """queued, supply, sure."""
    pools: dict[str, int]
    owners: dict[tuple[str, str], int]
    names: dict[str, int]
    """Unproven registrations of each claim."""


class _ClaimRow(NamedTuple):
    id: str
    group: int
    pool: str
    owner: str
    state: str
    unattributed: bool
    finished: bool
    written_off: bool
    registrations: int


def recount_of(ledger: Ledger, url: str) -> tuple[Counters, Counters]:
    """The stored counters of any backend, and their recount."""
    if isinstance(ledger, TransactionalLedger) and isinstance(
        ledger._transactions, MemoryTransactions
    ):
        return _in_memory(ledger._transactions.tables)
    return in_database(url)


def break_counter(ledger: Ledger, url: str, counter: str, by: int) -> None:
    """Put it wrong behind the ledger's back: a counter of the groups, `used` or `owner`."""
    if isinstance(ledger, TransactionalLedger) and isinstance(
        ledger._transactions, MemoryTransactions
    ):
        _break_in_memory(ledger._transactions.tables, counter, by)
        return
    tables = {"used": ("pool", "used"), "owner": ("owner_use", "used")}
    table, column = tables.get(counter, ("grp", counter))
    rows_of(url, f"UPDATE {table} SET {column} = {column} + {by}")


def _break_in_memory(tables: MemoryTables, counter: str, by: int) -> None:
    if counter in {"used", "owner"}:
        for pool, owner in tables._used:
            if (owner is None) == (counter == "used"):
                tables._used[pool, owner] += by
        return
    for id_, group in tables._groups.items():
        broken = {counter: getattr(group, counter) + by}
        tables._groups[id_] = msgspec.structs.replace(group, **broken)


def in_file(path: Path) -> tuple[Counters, Counters]:
    """The same of a SQLite file."""
    return in_database(f"{SQLITE}{path}")


def in_database(url: str) -> tuple[Counters, Counters]:
    """The same, through a connection of its own."""
    groups, pools, owners, unproven, claims, queued, names = rows_of(
        url,
        "SELECT id, queued, supply, sure FROM grp",
        "SELECT name, used FROM pool",
        "SELECT pool, owner, used FROM owner_use",
        "SELECT id, registrations FROM claim",
        "SELECT id, grp, pool, owner, state, unattributed, finished, written_off,"
        " registrations FROM claim",
        "SELECT grp FROM job WHERE state = 2 AND grp IS NOT NULL",
        "SELECT claim FROM registration",
    )
    return _stored(groups, pools, owners, unproven), _recounted(
        [group for (group,) in queued],
        [_ClaimRow(*row) for row in claims],
        [claim for (claim,) in names],
    )


def _in_memory(tables: MemoryTables) -> tuple[Counters, Counters]:
    stored = _stored(
        [(group.id, group.queued, group.supply, group.sure) for group in tables._groups.values()],
        [(pool, used) for (pool, owner), used in tables._used.items() if owner is None],
        [(pool, owner, used) for (pool, owner), used in tables._used.items() if owner is not None],
        [(claim.id, claim.registrations) for claim in tables._claims.values()],
    )
    queued = [
        job.group
        for job in tables._jobs.values()
        if job.event.state is JobState.QUEUED
        and isinstance(job.decision, Admitted)
        and job.group is not None
        and not job.doubted
    ]
    claims = [
        _ClaimRow(
            claim.id,
            claim.group,
            claim.pool,
            claim.owner,
            claim.state.value,
            claim.unattributed,
            claim.finished,
            claim.written_off,
            claim.registrations,
        )
        for claim in tables._claims.values()
    ]
    names = [registration.claim for registration in tables._registrations.values()]
    return stored, _recounted(queued, claims, names)


def _stored(
    groups: Iterable[Any], pools: Iterable[Any], owners: Iterable[Any], names: Iterable[Any]
) -> Counters:
    return Counters(
        {id_: tuple(counts) for id_, *counts in groups if any(counts)},
        {pool: used for pool, used in pools if used},
        {(pool, owner): used for pool, owner, used in owners if used},
        {claim: count for claim, count in names if count},
    )


def _recounted(queued: Sequence[int], claims: list[_ClaimRow], names: list[Any]) -> Counters:
    unproven = Counter(str(claim) for claim in names)
    groups: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    pools: Counter[str] = Counter()
    owners: Counter[tuple[str, str]] = Counter()
    for group in queued:
        groups[group][0] += 1
    for claim in claims:
        unknown = claim.state == "busy" and claim.unattributed
        sure = claim.state in {"minting", "registered"} or unknown
        groups[claim.group][1] += claim.state == "claimed" or sure
        groups[claim.group][2] += sure
        over = claim.finished or claim.written_off
        takes_a_slot = claim.state in ALIVE or (not over and unproven[claim.id] > 0)
        pools[claim.pool] += takes_a_slot
        owners[claim.pool, claim.owner] += takes_a_slot
    return _stored(
        [(group, *counts) for group, counts in groups.items()],
        pools.items(),
        [(pool, owner, used) for (pool, owner), used in owners.items()],
        unproven.items(),
    )
