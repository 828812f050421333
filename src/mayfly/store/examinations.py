"""A database and its ledger as findings, read without changing either."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from mayfly.database import Schema, SchemaState, faults_of, hindrances, inspect, look
from mayfly.database.migrations import too_new
from mayfly.model.errors import MayflyError, Transient
from mayfly.model.findings import Finding, failed, good, unchecked, warning, wrong
from mayfly.store.figures import Figures, figures

_SILENT_TURNS = 3
"""A leader that was killed is followed by another after as many."""


async def examine(url: str, now: datetime, turn: timedelta) -> AsyncIterator[Finding]:
    """The schema, whether the file is whole, who is at work and what waits."""
    try:
        state = await inspect(url)
    except MayflyError as error:
        yield failed("store", error)
        yield unchecked("ledger", "it needs the store")
        return
    yield judge_schema(state)
    if state.schema is not Schema.ABSENT:
        yield await _integrity(url)
        for finding in await _rights(url):
            yield finding
    if state.schema is not Schema.CURRENT:
        yield unchecked("ledger", "it needs this version's schema")
        return
    try:
        read = await look(url, figures)
    except MayflyError as error:
        yield failed("ledger", error)
        return
    if read is not None:
        yield judge_turn(read, now, turn)
        yield judge_backlog(read)


def judge_schema(state: SchemaState) -> Finding:
    """The schema against this version's."""
    match state.schema:
        case Schema.CURRENT:
            return good("store", f"the schema is this version's, {state.newest}")
        case Schema.ABSENT:
            return good("store", "there is no database yet: `mayfly serve` makes it at its start")
        case Schema.BEHIND:
            return warning(
                "store",
                f"the schema is {state.found}, and this version's is {state.newest}",
                "`mayfly serve` migrates it at its start",
            )
        case Schema.AHEAD:
            return wrong(
                "store",
                too_new(str(state.found), state.newest),
                "upgrade Mayfly, or restore the copy made before",
            )
        case Schema.FOREIGN:
            return wrong(
                "store",
                "the database belongs to another program",
                "name another one in store.url",
            )


def judge_turn(read: Figures, now: datetime, turn: timedelta) -> Finding:
    """Whether a control plane is at work on it."""
    if read.last_turn is None:
        return warning("control plane", "none has run yet", "start it with `mayfly serve`")
    age = now - read.last_turn
    said = f"the last turn was {max(0, round(age.total_seconds()))} s ago"
    if age > _SILENT_TURNS * turn:
        return warning("control plane", f"none is at work: {said}", "start it with `mayfly serve`")
    return good("control plane", f"at work: {said}")


def judge_backlog(read: Figures) -> Finding:
    """What waits, and what waits in vain."""
    if read.stalled:
        return warning(
            "ledger",
            f"{read.queued} job(s) queued, {read.stalled} demand group(s) stalled",
            "see why with `mayfly jobs stalled`",
        )
    return good("ledger", f"{read.queued} job(s) queued, nothing stalled")


async def _integrity(url: str) -> Finding:
    try:
        faults = await look(url, faults_of)
    except Transient as error:
        return unchecked("integrity", str(error))
    except MayflyError as error:
        return failed("integrity", error)
    if faults:
        return wrong("integrity", ", ".join(faults), "stop `mayfly serve` and restore a copy")
    return good("integrity", "nothing is broken")


async def _rights(url: str) -> list[Finding]:
    """Of the user of a server; nothing to say of a file."""
    try:
        found = await look(url, hindrances)
    except MayflyError as error:
        return [failed("rights", error)]
    return [wrong("rights", what, remedy) for what, remedy in found or []]
