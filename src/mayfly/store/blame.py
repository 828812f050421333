"""Blame: whose fault a failure is, who waits for it, and when a group is stalled (R15)."""

import msgspec

from mayfly.model.demand import DemandGroup
from mayfly.model.jobs import InstallationId
from mayfly.model.runners import Claim
from mayfly.store.tables import MachineRow
from mayfly.store.turns import Turn

FORGIVEN_FAILURES = 1
"""A machine may fail once without consequence."""
LONGEST_PAUSE = 600.0
"""Ledger seconds a failing machine, or a group GitHub refuses, waits at most."""
STALLED_AFTER = 5
"""Failures in a row, on two machines or on the pool's only one."""
STALLED_FOR = 3600.0
"""Ledger seconds until a stalled group is tried once more by itself."""
UNANSWERED_PAUSE = 300.0
"""Ledger seconds a group waits in favour of others, once GitHub has been silent for long."""
NEWEST = 200
"""Claims of a pool that are looked through for another machine."""


def pauses(turn: Turn, pool: str, machine: str) -> bool:
    """Whether the machine gets no claim for now."""
    return turn.tables.machine(_blamed(pool, machine)).until > turn.at


def cleared(turn: Turn, claim: Claim) -> None:
    """The claim's machine has shown that it works."""
    forgiven(turn, claim.pool, claim.machine)


def forgiven(turn: Turn, pool: str, machine: str) -> None:
    """The machine has no failures in a row."""
    turn.tables.put_machine(_blamed(pool, machine), MachineRow())


def failed(turn: Turn, claim: Claim) -> None:
    """The claim's machine failed; its group only when other machines cannot do better."""
    name = _blamed(claim.pool, claim.machine)
    fails = turn.tables.machine(name).fails + 1
    pause = _pause(fails) if fails > FORGIVEN_FAILURES else 0.0
    turn.tables.put_machine(name, MachineRow(fails, turn.at + pause))
    if group := turn.tables.group(claim.group):
        machines = group.failed_on
        if claim.machine not in machines:
            machines = (*machines, claim.machine)[-2:]
        trouble = f"{claim.detail} (machine {claim.machine})"
        _fail(turn, msgspec.structs.replace(group, failed_on=machines, trouble=trouble))


def refused(turn: Turn, group: DemandGroup, sentence: str) -> None:
    """GitHub's refusal is no machine's fault."""
    waits = msgspec.structs.replace(
        group, trouble=sentence, retry_at=turn.at + _pause(group.fails + 1)
    )
    _fail(turn, waits, everywhere=True)


def unanswered(turn: Turn, group: DemandGroup, sentence: str) -> None:
    """GitHub's silence is nobody's failure, but the machines have better things to do."""
    waits = turn.at + UNANSWERED_PAUSE
    turn.tables.put_health(msgspec.structs.replace(group, trouble=sentence, retry_at=waits))


def retry(turn: Turn, group: DemandGroup) -> None:
    """An operator has repaired something: all is forgotten, of its machines too."""
    for machine in group.failed_on:
        turn.tables.put_machine(_blamed(group.pool, machine), MachineRow())
    _reopen(turn, group)


def revived(turn: Turn, installation: InstallationId) -> None:
    """GitHub may not refuse any more what it refused there."""
    for group in turn.tables.troubled_groups(installation):
        _reopen(turn, group)


def _reopen(turn: Turn, group: DemandGroup) -> None:
    turn.tables.put_health(group.healthy)
    turn.reopened(group.id)


def _fail(turn: Turn, group: DemandGroup, *, everywhere: bool = False) -> None:
    after = msgspec.structs.replace(group, fails=group.fails + 1)
    enough = after.fails >= STALLED_AFTER
    if enough and (everywhere or len(after.failed_on) > 1 or _is_only_machine(turn, after)):
        after = msgspec.structs.replace(after, stalled=True, retry_at=turn.at + STALLED_FOR)
        if not group.stalled:
            turn.stalled.append(after)
    turn.tables.put_health(after)


def _is_only_machine(turn: Turn, group: DemandGroup) -> bool:
    newest = turn.tables.newest_claims(NEWEST, live=False, pool=group.pool)
    return not any(claim.machine not in group.failed_on for claim in newest)


def _blamed(pool: str, machine: str) -> str:
    """The name a machine's failures are kept under: another pool's executors cannot add any."""
    return f"{pool}/{machine}"


def _pause(fails: int) -> float:
    return min(LONGEST_PAUSE, 5.0 * 2.0 ** min(fails, 10))
