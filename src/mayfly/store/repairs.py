"""What the clock asks of claims: lose, relieve, extend, replace (R5, R7 to R9, R14)."""

from collections.abc import Collection
from datetime import datetime, timedelta

import msgspec

from mayfly.model.changes import Due
from mayfly.model.deadlines import Deadlines
from mayfly.model.demand import DemandGroup
from mayfly.model.runners import (
    Claim,
    ClaimId,
    ClaimState,
    Registration,
    advanced,
)
from mayfly.store import proofs
from mayfly.store.tables import Tables
from mayfly.store.turns import Turn

WRONG_CLOCK = timedelta(hours=1)
"""A leader that promised to lead for longer had a wrong clock, and locks nobody out (R8)."""
MOST_EXTENSIONS = 3
"""Then an idle runner is replaced: GitHub does not seem to use it (R7)."""


def tick(
    tables: Tables,
    instance: str,
    period: timedelta,
    now: datetime,
    mates: Collection[str] | None = None,
) -> float | None:
    """Ledger time never jumps: an outage adds at most two periods (R8).

    `mates`: the only instances whose promise to lead counts, because all others are known to be
    gone; None: everybody's counts.
    """
    tables.hold(clock=True)
    row = tables.clock()
    until = row.leader_until if mates is None or row.leader in mates else None
    if row.leader != instance and until is not None and now < until < now + WRONG_CLOCK:
        return None
    passed = (now - row.last_tick).total_seconds() if row.last_tick else 0.0
    seconds = row.ledger_seconds + max(0.0, min(passed, 2 * period.total_seconds()))
    tables.put_clock(
        row._replace(
            ledger_seconds=seconds, last_tick=now, leader=instance, leader_until=now + 3 * period
        )
    )
    return seconds


def resign(tables: Tables, instance: str) -> bool:
    """The leader ends in good order, and nobody has to wait; whether it led."""
    tables.hold(clock=True)
    row = tables.clock()
    if row.leader != instance:
        return False
    tables.put_clock(row._replace(leader=None, leader_until=None))
    return True


def due(tables: Tables, deadlines: Deadlines, limit: int) -> Due:
    """What the deadlines ask for, each list at most `limit` long."""
    at = tables.clock().ledger_seconds
    looks: dict[str, tuple[Registration, Claim, DemandGroup]] = {}
    for registration in tables.due_registrations(at, limit):
        claim = tables.claim(registration.claim)
        group = tables.group(claim.group) if claim else None
        current = claim is not None and registration.generation == claim.generation
        if claim and group and not (current and _is_needed(claim, group, deadlines, at)):
            looks[registration.name] = registration, claim, group
    surplus: list[Claim] = []
    for group in tables.surplus_groups(at - deadlines.surplus_seconds, limit):
        for claim in _spare(tables, group):
            if claim.state is ClaimState.CLAIMED:
                surplus.append(claim)
            else:
                for idle in tables.registrations_of(claim.id):
                    if idle.next_look_at is None or idle.next_look_at <= at:
                        looks[idle.name] = idle, claim, group
    return Due(
        looks=list(looks.values())[:limit],
        silent=tables.silent(at - deadlines.silent_seconds, limit),
        surplus=surplus[:limit],
        overdue=[
            (claim, group)
            for claim in tables.due_claims(at, limit)
            if (group := tables.group(claim.group)) is not None
        ],
        # Those that run are few, and would wait for hours behind a backlog of honest queued ones.
        checks=[
            *tables.due_jobs(at, limit, running=True),
            *tables.due_jobs(at, limit, running=False),
        ],
    )


def lose(turn: Turn, claim_id: ClaimId) -> None:
    """Nobody has heard of the claim for too long."""
    claim = turn.tables.claim(claim_id)
    if claim and claim.live and turn.at - claim.heard_at >= turn.deadlines.silent_seconds:
        mourn(turn, claim, "its executor went silent")


def mourn(turn: Turn, claim: Claim, why: str) -> None:
    """The executor is dead; GitHub decides about what it may have registered."""
    if not claim.registrations:
        end = ClaimState.DONE if claim.state is ClaimState.BUSY else ClaimState.LOST
        turn.claim(claim, advanced(claim, end, turn.at, detail=why))
        return
    proofs.watch(turn, claim.id, turn.at)
    silenced = turn.at - turn.deadlines.silent_seconds
    turn.claim(
        claim,
        msgspec.structs.replace(claim, heard_at=min(claim.heard_at, silenced), detail=why),
    )


def overdue(turn: Turn, claim_id: ClaimId) -> None:
    """What the deadline of the claim's state asks for (R5, R7, R9)."""
    claim = turn.tables.claim(claim_id)
    if claim is None or claim.due_at is None or claim.due_at > turn.at:
        return
    match claim.state:
        case ClaimState.CLAIMED:
            detail = f"not prepared within {turn.deadlines.prepare_seconds:.0f} s"
            turn.claim(claim, advanced(claim, ClaimState.LOST, turn.at, detail=detail))
        case ClaimState.MINTING:
            proofs.watch(turn, claim.id, turn.at)
            turn.claim(claim, msgspec.structs.replace(claim, due_at=None))
        case ClaimState.REGISTERED:
            _idle(turn, claim)
        case ClaimState.BUSY:
            _unresolved(turn, claim)


def _idle(turn: Turn, claim: Claim) -> None:
    """Nobody took the runner: are its group's oldest jobs what they seem (R7, R10)?"""
    proofs.riddle(turn, claim)
    if claim.idle_since is None:
        after = msgspec.structs.replace(claim, idle_since=claim.state_at)
    else:
        after = msgspec.structs.replace(claim, extensions=claim.extensions + 1)
    if after.extensions > MOST_EXTENSIONS:
        proofs.watch(turn, claim.id, turn.at)
        detail = "nobody took it although jobs waited"
        turn.claim(claim, msgspec.structs.replace(after, due_at=None, detail=detail))
    else:
        again = turn.at + turn.deadlines.idle_seconds
        turn.claim(claim, msgspec.structs.replace(after, due_at=again))


def _unresolved(turn: Turn, claim: Claim) -> None:
    """Nobody knows which job it has; for ever it must not count for a queued one (R9)."""
    if turn.at - claim.state_at >= turn.deadlines.unattributed_seconds:
        turn.claim(claim, msgspec.structs.replace(claim, unattributed=False, due_at=None))
    else:
        again = turn.at + turn.deadlines.attribute_seconds
        turn.claim(claim, msgspec.structs.replace(claim, due_at=again))


def relieve(turn: Turn, claim_id: ClaimId) -> None:
    """A `claimed` claim its group does not need moves to another group, or is withdrawn."""
    claim = turn.tables.claim(claim_id)
    group = turn.tables.group(claim.group) if claim else None
    if claim and group and claim.state is ClaimState.CLAIMED and group.surplus:
        rebound(turn, claim, group)


def rebound(turn: Turn, claim: Claim, group: DemandGroup) -> tuple[Claim, DemandGroup] | None:
    """The claim in another open group of its pool and variant (R14); None: withdrawn."""
    tables = turn.tables
    other = tables.next_group(claim.pool, (group.variant,), claim.per_owner, turn.at)
    if other is not None and tables.take_supply(other.id):
        moved = msgspec.structs.replace(claim, group=other.id, owner=other.owner)
        turn.claim(claim, moved, taken=True)
        return moved, other
    turn.claim(claim, advanced(claim, ClaimState.WITHDRAWN, turn.at, detail="not needed any more"))
    return None


def _is_needed(claim: Claim, group: DemandGroup, deadlines: Deadlines, at: float) -> bool:
    """An idle runner that was one too many when GitHub could not be asked about it."""
    idle = claim.state is ClaimState.REGISTERED and not proofs.is_given_up(claim)
    return idle and not group.surplus and not proofs.is_silent(claim, deadlines, at)


def _spare(tables: Tables, group: DemandGroup) -> list[Claim]:
    """As many claims as there are too many: those not yet registered first, then idle runners."""
    claims = tables.live_of_group(group.id)
    claimed = [claim for claim in claims if claim.state is ClaimState.CLAIMED]
    idle = [claim for claim in claims if claim.state is ClaimState.REGISTERED]
    return (claimed + idle)[: group.surplus]
