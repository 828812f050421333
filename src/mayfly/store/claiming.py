"""The way of a claim: made, minting, registered, finished (R3, R4)."""

from datetime import datetime

import msgspec

from mayfly.model.access import Refused
from mayfly.model.changes import Mint
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import StaleClaim
from mayfly.model.protocol import ClaimOrder, Order, Outcome
from mayfly.model.runners import (
    Claim,
    ClaimId,
    ClaimState,
    Registration,
    RunKey,
    advanced,
    runner_name,
)
from mayfly.store import attendance, blame, launching, proofs, repairs
from mayfly.store.turns import Turn

TOKEN_SECONDS = 3600.0
"""A registration token is good for an hour; ledger time is no faster, but for two turns (R8).

Source: https://docs.github.com/rest/actions/self-hosted-runners
"""
GIVES_WAY_AFTER = 120.0
"""Ledger seconds in which GitHub was asked in vain; then a claim holds its slot against no other
installation's jobs."""


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
    tables.hold(pools=[order.pool])
    if made := tables.claim_of_key(order.key):
        return made if (made.boot, made.pool) == (order.boot, order.pool) else None
    for predecessor in tables.live_of_machine(order.machine):
        # Who may speak for a machine is known for a pool only: an executor's token is bound to it.
        if predecessor.pool == order.pool and predecessor.boot != order.boot:
            # An executor ends what a crashed one left running before it asks for anything.
            proofs.settled(turn, predecessor.id)
            repairs.mourn(turn, predecessor, "its machine came back with another boot id")
    turn.flush()
    if blame.pauses(turn, order.pool, order.machine) or not attendance.serves(turn, order):
        return None
    if not launching.may_claim(turn, order):
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
    launching.claimed(turn, order.machine)
    return turn.claim(None, made, taken=True)


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
        idle_since=claim.idle_since if claim.state is ClaimState.MINTING else None,
    )
    after = turn.claim(claim, after)
    attendance.prepared(turn, claim)
    return Mint(claim=after, group=group, name=name, older=older)


def entrusted(turn: Turn, claim_id: ClaimId, generation: int) -> bool:
    """A registration token goes out; False when the claim has moved on, and it must not."""
    claim = turn.tables.claim(claim_id)
    if claim is None or (claim.state, claim.generation) != (ClaimState.MINTING, generation):
        return False
    until = turn.at + TOKEN_SECONDS + 2 * turn.deadlines.turn_seconds
    for minted in turn.tables.registrations_of(claim_id):
        if minted.generation == generation:
            turn.tables.put_registration(msgspec.structs.replace(minted, token_until=until))
    return True


def registered(turn: Turn, claim_id: ClaimId, generation: int, github_id: int) -> bool:
    """GitHub has minted; False when the claim has moved on meanwhile, but the id is kept."""
    tables = turn.tables
    claim = tables.claim(claim_id)
    proofs.settled(turn, claim_id)
    waited_for = claim is not None and (claim.state, claim.generation) == (
        ClaimState.MINTING,
        generation,
    )
    for minted in tables.registrations_of(claim_id):
        if minted.generation == generation:
            kept = msgspec.structs.replace(minted, github_id=github_id, negatives=0)
            if waited_for:
                kept = msgspec.structs.replace(kept, next_look_at=None)
            tables.put_registration(kept)
    if claim is None or not waited_for:
        return False
    fresh = advanced(claim, ClaimState.REGISTERED, turn.at)
    turn.claim(claim, msgspec.structs.replace(fresh, idle_since=None, extensions=0, detail=""))
    return True


def delayed(turn: Turn, claim_id: ClaimId, sentence: str) -> None:
    """GitHub is asked again, unless others could use the machine, and wait for it."""
    claim = turn.tables.claim(claim_id)
    group = turn.tables.group(claim.group) if claim else None
    if claim is None or group is None or claim.state is not ClaimState.MINTING:
        return
    since = turn.at if claim.idle_since is None else claim.idle_since
    if turn.at - since < GIVES_WAY_AFTER or not _others_wait(turn, claim, group):
        turn.tables.put_claim(msgspec.structs.replace(claim, idle_since=since, detail=sentence))
        return
    blame.unanswered(turn, group, sentence)
    proofs.watch(turn, claim.id, turn.at)
    turn.claim(claim, advanced(claim, ClaimState.FAILED, turn.at, detail=sentence))


def refused(turn: Turn, claim_id: ClaimId, sentence: str) -> None:
    """GitHub's refusal is no machine's fault: the claim fails, and its group waits."""
    claim = turn.tables.claim(claim_id)
    group = turn.tables.group(claim.group) if claim else None
    if claim is None or group is None or claim.state is not ClaimState.MINTING:
        return
    blame.refused(turn, group, sentence)
    proofs.watch(turn, claim.id, turn.at)
    turn.claim(claim, advanced(claim, ClaimState.FAILED, turn.at, detail=sentence))


def heartbeat(turn: Turn, claim: Claim) -> Order:
    """Heard of it; whether it shall go on."""
    if claim.live and proofs.is_silent(claim, turn.deadlines, turn.at):
        proofs.spoke_again(turn, claim)
        claim = msgspec.structs.replace(claim, detail="")
    turn.tables.put_claim(msgspec.structs.replace(claim, heard_at=turn.at))
    if claim.live:
        return Order.STOP if _has_refused_job(turn, claim) else Order.CONTINUE
    ending = claim.state is ClaimState.DONE
    if ending and turn.at - claim.state_at < turn.deadlines.ended_seconds:
        return Order.CONTINUE
    return Order.STOP


def finish(
    turn: Turn, claim: Claim, outcome: Outcome, detail: str, *, token_spent: bool = False
) -> None:
    """The executor is done; what it registered is still to be proven gone (R6)."""
    entrusted = proofs.is_entrusted(turn, claim.id)
    if token_spent:
        proofs.settled(turn, claim.id)
    if claim.finished:
        return
    after = claim
    if claim.live:
        after = advanced(claim, _end(claim, outcome), turn.at, detail=detail)
        patience = turn.deadlines.proof_seconds if outcome is Outcome.DONE else 0.0
        proofs.watch(turn, claim.id, turn.at + patience)
    if claim.live or after.state is ClaimState.DONE:
        _judge(turn, claim, after, outcome, entrusted=entrusted)
    turn.claim(claim, msgspec.structs.replace(after, finished=True, heard_at=turn.at))


def started(turn: Turn, claim: Claim, run: RunKey) -> None:
    """The executor says that a job of `run` began; which one, GitHub has to tell (R9)."""
    if claim.state not in {ClaimState.REGISTERED, ClaimState.MINTING, ClaimState.BUSY}:
        raise StaleClaim(f"claim {claim.id} is {claim.state} and has no runner at work")
    after = claim
    if claim.state is not ClaimState.BUSY:
        busy = advanced(claim, ClaimState.BUSY, turn.at)
        after = msgspec.structs.replace(busy, unattributed=True)
    if claim.run != run or after is not claim:
        turn.claim(claim, msgspec.structs.replace(after, run=run))


def _others_wait(turn: Turn, claim: Claim, group: DemandGroup) -> bool:
    """Whether another installation's jobs could have the machine; for those of its own GitHub is
    as silent, and an outage of GitHub as a whole is no reason to prepare everything anew."""
    variants = (None, group.variant)
    other = turn.tables.next_group(claim.pool, variants, claim.per_owner, turn.at)
    return other is not None and other.installation != group.installation


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


def _has_refused_job(turn: Turn, claim: Claim) -> bool:
    """GitHub gave the runner a job that was never admitted, and no guard held it back (R12)."""
    if claim.job is None:
        return False
    job = turn.tables.attempts([claim.job.id]).get(claim.job)
    return job is not None and isinstance(job.decision, Refused) and not job.pending


def _judge(turn: Turn, claim: Claim, ended: Claim, outcome: Outcome, *, entrusted: bool) -> None:
    """R15; a machine that was told to stop is not to blame, whatever it was doing.

    The exit of a runner is no evidence that it worked; that it had a job is. One that had a
    registration token was to register the runner itself, and waited for nobody.
    """
    if ended.state is ClaimState.DONE and (claim.state is ClaimState.BUSY or claim.job):
        blame.cleared(turn, ended)
    elif claim.state is ClaimState.MINTING and not entrusted:
        return  # it was ready, and waited for GitHub in vain: 5xx and 429 are no machine's fault
    elif ended.state is ClaimState.FAILED and outcome is Outcome.FAILED:
        blame.failed(turn, ended)
        if claim.state is ClaimState.CLAIMED:
            attendance.unprepared(turn, ended)
