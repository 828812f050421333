"""Proofs: whether the runner of a name is gone, by what GitHub answers about it (R6, R7)."""

import msgspec

from mayfly.model.deadlines import Deadlines
from mayfly.model.jobs import InstallationId
from mayfly.model.runners import (
    Claim,
    ClaimId,
    ClaimState,
    Registration,
    Sighting,
    advanced,
)
from mayfly.store import blame
from mayfly.store.due import AT_ONCE
from mayfly.store.turns import Turn

NEEDED_NEGATIVES = 2
"""A name not found once may still appear: a timed-out mint can take effect later (R6)."""
MOST_CHECKS = 5
"""The oldest jobs of a group are looked at when one of its runners is a riddle (R10)."""
_UNANSWERED = frozenset({Sighting.UNREACHABLE, Sighting.REFUSED})
_ABSENT = frozenset({Sighting.GONE, Sighting.DELETED, Sighting.NOT_FOUND})
WHILE_TOKEN_LIVES = 600.0
"""Ledger seconds between two looks at a name that a registration token may still bring back."""
LONGEST_SILENCE = 3600.0
"""Ledger seconds between two looks at a name whose installation does not answer (R6)."""


def watch(turn: Turn, claim: ClaimId, at: float) -> None:
    """Put the claim's names on the worklist, to be looked at from `at` on."""
    for registration in turn.tables.registrations_of(claim):
        too_late = registration.next_look_at is None or registration.next_look_at > at
        if too_late and not registration.negatives:  # the second negative must not come early
            turn.tables.put_registration(msgspec.structs.replace(registration, next_look_at=at))


def spoke_again(turn: Turn, claim: Claim) -> None:
    """An executor that was silent and is back keeps its runner, unless that was given up."""
    if is_given_up(claim):
        return
    for registration in turn.tables.registrations_of(claim.id):
        if registration.generation == claim.generation:
            unwatched = msgspec.structs.replace(registration, next_look_at=None, negatives=0)
            turn.tables.put_registration(unwatched)


def settled(turn: Turn, claim: ClaimId) -> None:
    """Nobody has a registration token of the claim any more: what GitHub answers is proof again."""
    for registration in turn.tables.registrations_of(claim):
        if registration.token_until is not None:
            due = registration.next_look_at
            turn.tables.put_registration(
                msgspec.structs.replace(
                    registration,
                    token_until=None,
                    next_look_at=None if due is None else min(due, turn.at),
                )
            )


def is_entrusted(turn: Turn, claim: ClaimId) -> bool:
    """Whether its executor was given a registration token, and has not said that it is spent."""
    names = turn.tables.registrations_of(claim)
    return any(registration.token_until is not None for registration in names)


def saw(turn: Turn, name: str, sighting: Sighting) -> None:
    """What GitHub answered about a name on the worklist."""
    registration = turn.tables.registration(name)
    claim = turn.tables.claim(registration.claim) if registration else None
    if registration is None or claim is None:
        return
    too_early = registration.next_look_at is not None and registration.next_look_at > turn.at
    if sighting is Sighting.NOT_FOUND and registration.negatives and too_early:
        return
    if registration.unreached and sighting not in _UNANSWERED:
        _answers(turn, claim)
    negatives = registration.negatives + int(sighting is Sighting.NOT_FOUND)
    if registration.may_appear(turn.at) and sighting in _ABSENT:
        _absent_for_now(turn, registration, claim)
    elif sighting in {Sighting.GONE, Sighting.DELETED} or negatives >= NEEDED_NEGATIVES:
        _proven_gone(turn, registration, claim, sighting)
    elif sighting in _UNANSWERED:
        _unreachable(turn, registration, claim)
    else:
        turn.tables.put_registration(
            msgspec.structs.replace(
                registration,
                negatives=negatives if sighting is Sighting.NOT_FOUND else 0,
                next_look_at=_look_again(turn, claim, sighting),
                unreachable_since=None,
                unreached=0,
            )
        )
    if sighting is Sighting.BUSY and claim.state in {ClaimState.MINTING, ClaimState.REGISTERED}:
        busy = advanced(claim, ClaimState.BUSY, turn.at)
        turn.claim(claim, msgspec.structs.replace(busy, unattributed=True))
        riddle(turn, claim)


def answers_again(turn: Turn, installation: InstallationId) -> None:
    """The pauses grew while it was silent, up to an hour (R6)."""
    for found in turn.tables.unreached(installation):
        claim = turn.tables.claim(found.claim)
        registration = turn.tables.registration(found.name)
        if claim is None or registration is None or registration.negatives:
            continue
        turn.tables.put_registration(
            msgspec.structs.replace(registration, next_look_at=turn.at, unreached=0)
        )


def _answers(turn: Turn, claim: Claim) -> None:
    """GitHub answered about a name after it had not: the other names need not wait either."""
    if group := turn.tables.group(claim.group):
        answers_again(turn, group.installation)


def riddle(turn: Turn, claim: Claim) -> None:
    """Something about the claim's runner is not understood: its group's oldest jobs are asked."""
    for job in turn.tables.oldest_queued(claim.group, MOST_CHECKS):
        turn.check_soon(job.key, AT_ONCE)


def _look_again(turn: Turn, claim: Claim, sighting: Sighting) -> float | None:
    """When the name is looked at next; a runner at work is its executor's business (R7).

    Two negatives have to be a minute of real time apart, and after an outage ledger time runs
    ahead of it by up to two turns (R8).
    """
    again = turn.at + turn.deadlines.look_again_seconds
    if sighting is Sighting.NOT_FOUND:
        return again + 2 * turn.deadlines.turn_seconds
    return None if claim.live and not is_silent(claim, turn.deadlines, turn.at) else again


def is_given_up(claim: Claim) -> bool:
    """Its deadline is over, so GitHub is asked whatever its executor says (R5, R7)."""
    return claim.state is not ClaimState.BUSY and claim.due_at is None


def is_silent(claim: Claim, deadlines: Deadlines, at: float) -> bool:
    """Whether its executor is taken for dead."""
    return at - claim.heard_at >= deadlines.silent_seconds


def _proven_gone(turn: Turn, registration: Registration, claim: Claim, sighting: Sighting) -> None:
    turn.tables.drop_registration(registration.name)
    after = msgspec.structs.replace(claim, registrations=claim.registrations - 1)
    current = registration.generation == claim.generation
    if claim.live and current:
        end = _end_without_runner(claim, silent=is_silent(claim, turn.deadlines, turn.at))
        after = advanced(after, end, turn.at)
    turn.claim(claim, after)
    if current and claim.job is None:
        _unproven_work(turn, claim, sighting)


def _absent_for_now(turn: Turn, registration: Registration, claim: Claim) -> None:
    """GitHub has no such runner, and whoever has the token may still make it: the name stays.

    The claim need not wait for that, nor its slot: such a runner is registered at most, because an
    executor starts it only once the ledger has been told of it.
    """
    again = turn.at + WHILE_TOKEN_LIVES
    turn.tables.put_registration(
        msgspec.structs.replace(
            registration,
            github_id=None,
            negatives=0,
            next_look_at=min(again, registration.token_until or again),
            unreachable_since=None,
            unreached=0,
        )
    )
    if claim.live and registration.generation == claim.generation:
        end = _end_without_runner(claim, silent=is_silent(claim, turn.deadlines, turn.at))
        after = advanced(claim, end, turn.at)
        turn.claim(claim, msgspec.structs.replace(after, written_off=True))


def _end_without_runner(claim: Claim, *, silent: bool) -> ClaimState:
    if claim.state is ClaimState.BUSY:
        return ClaimState.DONE
    if claim.state is ClaimState.REGISTERED and not silent:
        return ClaimState.RETIRED
    return ClaimState.LOST


def _unproven_work(turn: Turn, claim: Claim, sighting: Sighting) -> None:
    """GitHub named no job of the runner: it had one if it left GitHub by itself."""
    if sighting is Sighting.GONE:
        riddle(turn, claim)
    elif sighting is Sighting.DELETED and claim.state is ClaimState.DONE:
        blame.failed(
            turn, msgspec.structs.replace(claim, detail="its runner ended without taking a job")
        )


def _unreachable(turn: Turn, registration: Registration, claim: Claim) -> None:
    """GitHub cannot be asked: the slot is not held for ever, and the name not kept for ever."""
    since = registration.unreachable_since
    since = turn.at if since is None else since
    silent_for = turn.at - since
    if silent_for >= turn.deadlines.abandon_seconds:
        turn.abandoned.append(registration)
        _proven_gone(turn, registration, claim, Sighting.UNREACHABLE)
        return
    if silent_for >= turn.deadlines.unreachable_seconds:
        _write_off(turn, claim)
    pause = min(LONGEST_SILENCE, turn.deadlines.look_again_seconds * 2.0**registration.unreached)
    if silent_for < turn.deadlines.unreachable_seconds:
        pause = min(pause, turn.deadlines.unreachable_seconds - silent_for)
    turn.tables.put_registration(
        msgspec.structs.replace(
            registration,
            next_look_at=turn.at + pause,
            unreachable_since=since,
            unreached=min(registration.unreached + 1, 10),
        )
    )


def _write_off(turn: Turn, claim: Claim) -> None:
    """Free the slot of an executor that is silent too, or whose idle runner is not wanted."""
    after = claim
    if claim.live:
        silent = is_silent(claim, turn.deadlines, turn.at)
        if not (silent or _is_unwanted(turn, claim)):
            return
        watch(turn, claim.id, turn.at)
        after = advanced(claim, _end_without_runner(claim, silent=silent), turn.at)
    if not claim.written_off:
        turn.claim(claim, msgspec.structs.replace(after, written_off=True))


def _is_unwanted(turn: Turn, claim: Claim) -> bool:
    """Nobody took the runner, and it was to be deleted."""
    if claim.state is not ClaimState.REGISTERED:
        return False
    group = turn.tables.group(claim.group)
    return is_given_up(claim) or (group is not None and group.surplus > 0)
