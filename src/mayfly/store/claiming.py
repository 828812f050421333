"""The way of a claim: made, minting, registered, finished (R3, R4)."""

from datetime import datetime

import msgspec

from mayfly.model.changes import Mint
from mayfly.model.errors import StaleClaim
from mayfly.model.protocol import ClaimOrder, Outcome
from mayfly.model.runners import (
    Claim,
    ClaimId,
    ClaimState,
    Registration,
    advanced,
    runner_name,
)
from mayfly.store import repairs
from mayfly.store.tables import MachineRow
from mayfly.store.turns import Turn

FORGIVEN_FAILURES = 1
"""A machine may fail once without consequence (R15)."""
LONGEST_PAUSE = 600.0
"""Ledger seconds a failing machine, or a group GitHub refuses, waits at most (R15)."""


def claim(
    turn: Turn,
    order: ClaimOrder,
    maximum: int,
    per_owner: int | None,
    fresh: ClaimId,
    now: datetime,
) -> Claim | None:
    """Guards first, rows afterwards: counting and then inserting broke the maximum (R3)."""
    tables = turn.tables
    if made := tables.claim_of_key(order.key):
        return made if (made.boot, made.pool) == (order.boot, order.pool) else None
    for predecessor in tables.live_of_machine(order.machine):
        # Who may speak for a machine is known for a pool only: an executor's token is bound to it.
        if predecessor.pool == order.pool and predecessor.boot != order.boot:
            repairs.mourn(turn, predecessor, "its machine came back with another boot id")
    turn.flush()
    if tables.machine(_blamed(order.pool, order.machine)).until > turn.at:
        return None
    if not tables.take_slot(order.pool, maximum):
        return None
    variants = (None, *(variant.lower() for variant in order.variants)) if order.variants else None
    while group := tables.next_group(order.pool, variants, per_owner, turn.at):
        if tables.take_supply(group.id):
            break
    else:
        tables.add_use(order.pool, None, -1)
        return None
    made = Claim(
        id=fresh,
        group=group.id,
        pool=group.pool,
        owner=group.owner,
        machine=order.machine,
        boot=order.boot,
        key=order.key,
        state_at=turn.at,
        heard_at=turn.at,
        made_at=now,
        per_owner=per_owner,
    )
    turn.claim(None, made, taken=True)
    return made


def minting(turn: Turn, claim: Claim, prefix: str) -> Mint | None:
    """Leave to mint the next generation; None when the claim was withdrawn instead."""
    tables = turn.tables
    if claim.state not in {ClaimState.CLAIMED, ClaimState.MINTING, ClaimState.REGISTERED}:
        raise StaleClaim(f"claim {claim.id} is {claim.state}, so it gets no registration")
    group = tables.group(claim.group)
    if group is None:
        raise StaleClaim(f"claim {claim.id} has lost its demand group")
    if claim.state is ClaimState.CLAIMED and group.queued <= group.sure:
        moved = repairs.rebound(turn, claim, group)
        if moved is None:
            return None
        claim, group = moved
    older = tables.registrations_of(claim.id)
    name = runner_name(prefix, claim.id, claim.generation + 1)
    tables.put_registration(
        Registration(name=name, claim=claim.id, generation=claim.generation + 1)
    )
    after = msgspec.structs.replace(
        advanced(claim, ClaimState.MINTING, turn.at),
        generation=claim.generation + 1,
        registrations=claim.registrations + 1,
        heard_at=turn.at,
    )
    turn.claim(claim, after)
    return Mint(claim=after, group=group, name=name, older=older)


def registered(turn: Turn, claim_id: ClaimId, generation: int, github_id: int) -> bool:
    """GitHub has minted; False when the claim has moved on meanwhile, but the id is kept."""
    tables = turn.tables
    claim = tables.claim(claim_id)
    for registration in tables.registrations_of(claim_id):
        if registration.generation == generation:
            tables.put_registration(
                msgspec.structs.replace(registration, github_id=github_id, negatives=0)
            )
    if claim is None or claim.state is not ClaimState.MINTING or claim.generation != generation:
        return False
    tables.put_refusal(claim.group, 0, None, "")
    turn.claim(claim, advanced(claim, ClaimState.REGISTERED, turn.at))
    return True


def refused(turn: Turn, claim_id: ClaimId, sentence: str) -> None:
    """GitHub's refusal is no machine's fault: the claim fails, and its group waits."""
    claim = turn.tables.claim(claim_id)
    group = turn.tables.group(claim.group) if claim else None
    if claim is None or group is None or claim.state is not ClaimState.MINTING:
        return
    fails = group.fails + 1
    turn.tables.put_refusal(group.id, fails, turn.at + _pause(fails), sentence)
    repairs.watch(turn, claim.id, turn.at)
    turn.claim(claim, advanced(claim, ClaimState.FAILED, turn.at, detail=sentence))


def finish(turn: Turn, claim: Claim, outcome: Outcome, detail: str) -> None:
    """The executor is done; what it registered is still to be proven gone (R6)."""
    if claim.finished:
        return
    after = claim
    if claim.live:
        after = advanced(claim, _end(claim, outcome), turn.at, detail=detail)
        patience = turn.deadlines.proof_seconds if outcome is Outcome.DONE else 0.0
        repairs.watch(turn, claim.id, turn.at + patience)
    if claim.live or after.state is ClaimState.DONE:
        _judge_machine(turn, after, outcome)
    turn.claim(claim, msgspec.structs.replace(after, finished=True, heard_at=turn.at))


def _blamed(pool: str, machine: str) -> str:
    """The name a machine's failures are kept under: another pool's executors cannot add any."""
    return f"{pool}/{machine}"


def _pause(fails: int) -> float:
    return min(LONGEST_PAUSE, 5.0 * 2.0 ** min(fails, 10))


def _end(claim: Claim, outcome: Outcome) -> ClaimState:
    if claim.state is ClaimState.BUSY or (
        claim.state is ClaimState.REGISTERED and outcome is Outcome.DONE
    ):
        return ClaimState.DONE
    if claim.state is ClaimState.CLAIMED and outcome is not Outcome.FAILED:
        return ClaimState.WITHDRAWN
    if claim.state is ClaimState.REGISTERED and outcome is Outcome.STOPPED:
        return ClaimState.RETIRED
    return ClaimState.FAILED


def _judge_machine(turn: Turn, ended: Claim, outcome: Outcome) -> None:
    """R15; a machine that was told to stop is not to blame, whatever it was doing."""
    blamed = _blamed(ended.pool, ended.machine)
    if ended.state is ClaimState.DONE:
        turn.tables.put_machine(blamed, MachineRow())
    elif ended.state is ClaimState.FAILED and outcome is Outcome.FAILED:
        fails = turn.tables.machine(blamed).fails + 1
        pause = _pause(fails) if fails > FORGIVEN_FAILURES else 0.0
        turn.tables.put_machine(blamed, MachineRow(fails, turn.at + pause))
