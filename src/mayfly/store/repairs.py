"""What the clock and GitHub's answers do to claims: lose, relieve, prove gone (R5 to R8, R14)."""

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
    Sighting,
    advanced,
)
from mayfly.store.tables import ClockRow, Tables
from mayfly.store.turns import Turn

NEEDED_NEGATIVES = 2
"""A name not found once may still appear: a timed-out mint can take effect later (R6)."""


def tick(tables: Tables, instance: str, period: timedelta, now: datetime) -> float | None:
    """Ledger time never jumps: an outage adds at most two periods (R8)."""
    row = tables.clock()
    if row.leader != instance and row.leader_until is not None and now < row.leader_until:
        return None
    passed = (now - row.last_tick).total_seconds() if row.last_tick else 0.0
    seconds = row.ledger_seconds + max(0.0, min(passed, 2 * period.total_seconds()))
    tables.put_clock(ClockRow(seconds, now, instance, now + 3 * period))
    return seconds


def due(tables: Tables, deadlines: Deadlines, limit: int) -> Due:
    """What the deadlines ask for, each list at most `limit` long."""
    at = tables.clock().ledger_seconds
    silenced = at - deadlines.silent_seconds
    looks: dict[str, tuple[Registration, Claim, DemandGroup]] = {}
    for registration in tables.due_registrations(at, limit):
        claim = tables.claim(registration.claim)
        group = tables.group(claim.group) if claim else None
        if claim and group and not _spoke_again(claim, registration, silenced):
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
        silent=tables.silent(silenced, limit),
        surplus=surplus[:limit],
    )


def lose(turn: Turn, claim_id: ClaimId) -> None:
    """Nobody has heard of the claim for too long."""
    claim = turn.tables.claim(claim_id)
    if claim and claim.live and turn.at - claim.heard_at >= turn.deadlines.silent_seconds:
        mourn(turn, claim, "its executor went silent")


def mourn(turn: Turn, claim: Claim, why: str) -> None:
    """The executor is dead; GitHub decides about what it may have registered."""
    if claim.state is ClaimState.CLAIMED:
        turn.claim(claim, advanced(claim, ClaimState.LOST, turn.at, detail=why))
        return
    watch(turn, claim.id, turn.at)
    silenced = turn.at - turn.deadlines.silent_seconds
    turn.claim(
        claim,
        msgspec.structs.replace(claim, heard_at=min(claim.heard_at, silenced), detail=why),
    )


def watch(turn: Turn, claim: ClaimId, at: float) -> None:
    """Put the claim's names on the worklist, to be looked at from `at` on."""
    for registration in turn.tables.registrations_of(claim):
        too_late = registration.next_look_at is None or registration.next_look_at > at
        if too_late and not registration.negatives:  # the second negative must not come early
            turn.tables.put_registration(msgspec.structs.replace(registration, next_look_at=at))


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


def saw(turn: Turn, name: str, sighting: Sighting) -> None:
    """What GitHub answered about a name on the worklist."""
    registration = turn.tables.registration(name)
    claim = turn.tables.claim(registration.claim) if registration else None
    if registration is None or claim is None:
        return
    too_early = registration.next_look_at is not None and registration.next_look_at > turn.at
    if sighting is Sighting.NOT_FOUND and registration.negatives and too_early:
        return
    negatives = registration.negatives + int(sighting is Sighting.NOT_FOUND)
    if sighting is Sighting.GONE or negatives >= NEEDED_NEGATIVES:
        _proven_gone(turn, registration, claim)
        return
    turn.tables.put_registration(
        msgspec.structs.replace(
            registration,
            negatives=negatives,
            next_look_at=turn.at + turn.deadlines.look_again_seconds,
        )
    )
    if sighting is Sighting.BUSY and claim.state in {ClaimState.MINTING, ClaimState.REGISTERED}:
        busy = advanced(claim, ClaimState.BUSY, turn.at)
        turn.claim(claim, msgspec.structs.replace(busy, unattributed=True))


def _spoke_again(claim: Claim, registration: Registration, silenced: float) -> bool:
    """An executor that was silent and is back keeps its idle runner."""
    waiting = claim.state in {ClaimState.MINTING, ClaimState.REGISTERED}
    current = registration.generation == claim.generation
    return waiting and current and claim.heard_at > silenced


def _proven_gone(turn: Turn, registration: Registration, claim: Claim) -> None:
    turn.tables.drop_registration(registration.name)
    after = msgspec.structs.replace(claim, registrations=claim.registrations - 1)
    if claim.live and registration.generation == claim.generation:
        silent = turn.at - claim.heard_at >= turn.deadlines.silent_seconds
        after = advanced(after, _end_without_runner(claim, silent=silent), turn.at)
    turn.claim(claim, after)


def _end_without_runner(claim: Claim, *, silent: bool) -> ClaimState:
    if claim.state is ClaimState.BUSY:
        return ClaimState.DONE
    if claim.state is ClaimState.REGISTERED and not silent:
        return ClaimState.RETIRED
    return ClaimState.LOST


def _spare(tables: Tables, group: DemandGroup) -> list[Claim]:
    """As many claims as there are too many: those not yet registered first, then idle runners."""
    claims = tables.live_of_group(group.id)
    claimed = [claim for claim in claims if claim.state is ClaimState.CLAIMED]
    idle = [claim for claim in claims if claim.state is ClaimState.REGISTERED]
    return (claimed + idle)[: group.surplus]
