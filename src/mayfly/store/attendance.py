"""Attendance: which executors are there, which of them serve, and who takes them out of it."""

from datetime import datetime

import msgspec

from mayfly.model.deadlines import Deadlines
from mayfly.model.executors import (
    MOST_UNPREPARED,
    Activity,
    Choice,
    Command,
    Executor,
    Service,
    Standing,
)
from mayfly.model.protocol import AttendOrder, ClaimOrder, Duty
from mayfly.model.runners import Claim
from mayfly.store import blame
from mayfly.store.tables import Tables
from mayfly.store.turns import Turn

MOST_BUSY = 100_000
"""Live claims that are looked through; pools bound them to far fewer."""


def attend(turn: Turn, pool: str, order: AttendOrder, now: datetime) -> Executor:
    """Heard of it. One that says goodbye is forgotten, unless it is not to come back as it was."""
    known = turn.tables.executors.find(pool, order.machine)
    executor = known or Executor(pool=pool, machine=order.machine, seen_at=now)
    if order.gone and known is not None and known.boot != order.boot:
        return known  # its successor is there already
    heard = msgspec.structs.replace(
        executor,
        boot="" if order.gone else order.boot,
        ending=order.ending and not order.gone,
        heard_at=turn.at,
        seen_at=now,
    )
    if order.gone and not heard.reason and not heard.unprepared:
        turn.tables.executors.drop(heard)
    else:
        turn.tables.executors.put(heard)
    return heard


def serves(turn: Turn, order: ClaimOrder) -> bool:
    """Whether the machine may have a claim; one that has not been heard of yet may."""
    executor = turn.tables.executors.find(order.pool, order.machine)
    return executor is None or executor.duty(order.boot) is Duty.SERVE


def prepared(turn: Turn, claim: Claim) -> None:
    """The claim's machine could prepare."""
    executor = turn.tables.executors.find(claim.pool, claim.machine)
    if executor is not None and executor.unprepared and not executor.broken:
        turn.tables.executors.put(msgspec.structs.replace(executor, unprepared=0))


def unprepared(turn: Turn, claim: Claim) -> None:
    """It could not: the third time in a row takes it out of service."""
    executor = turn.tables.executors.find(claim.pool, claim.machine) or Executor(
        pool=claim.pool, machine=claim.machine, heard_at=turn.at, seen_at=claim.made_at
    )
    failures, reason = executor.unprepared + 1, executor.reason
    if failures >= MOST_UNPREPARED and not reason:
        reason = f"it could not prepare {failures} times in a row, the last time: {claim.detail}"
    after = msgspec.structs.replace(executor, unprepared=failures, reason=reason)
    turn.tables.executors.put(after)
    if after.broken and not executor.broken:
        turn.broken.append(after)


def command(turn: Turn, told: Command, choice: Choice, reason: str) -> list[Standing]:
    """The chosen executors, as they are now; an empty list when none fits."""
    standings = [
        standing
        for standing in every(turn.tables, turn.deadlines, choice.pool)
        if choice.covers(standing.executor) and _can_be_told(told, standing)
    ]
    if choice.machine is None and not choice.everything:
        standings = [one for one in standings if _fits(told, one)][:1]
    return [
        standing._replace(executor=_tell(turn, told, standing.executor, reason))
        for standing in standings
    ]


def every(tables: Tables, deadlines: Deadlines, pool: str | None = None) -> list[Standing]:
    """Executors that are known, by pool and machine."""
    executors = tables.executors.every(pool)
    claims = tables.newest_claims(MOST_BUSY, live=True, pool=pool) if executors else []
    busy = {(claim.pool, claim.machine): claim for claim in reversed(claims)}
    before = tables.clock().ledger_seconds - deadlines.silent_seconds
    return [
        Standing(
            executor,
            busy.get((executor.pool, executor.machine)),
            absent=not executor.boot or executor.heard_at <= before,
        )
        for executor in executors
        if executor.boot or executor.reason  # else it has left, or never spoke, and serves
    ]


def _can_be_told(told: Command, standing: Standing) -> bool:
    """Only a process that runs can be told to end."""
    return told is not Command.SHUTDOWN or bool(standing.executor.boot)


def _fits(told: Command, standing: Standing) -> bool:
    """Whether any one of a pool may be this one."""
    if told is Command.RETURN:
        return standing.service is not Service.IN and not standing.executor.ending
    return standing.activity is Activity.IDLE and standing.serves


def _tell(turn: Turn, told: Command, executor: Executor, reason: str) -> Executor:
    rows, replace = turn.tables.executors, msgspec.structs.replace
    match told:
        case Command.DRAIN:
            after = replace(executor, reason=executor.reason or reason)
        case Command.SHUTDOWN:
            after = replace(executor, dismissed=executor.boot)
        case Command.RETURN:
            blame.forgiven(turn, executor.pool, executor.machine)
            after = replace(executor, reason="", dismissed="", unprepared=0)
    if after.boot or after.reason:
        rows.put(after)
    else:
        rows.drop(after)  # it has left, and nothing about it is to be remembered
    return after
