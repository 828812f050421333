"""Launches: how many are wanted, which are given up, and who may speak for one."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from hmac import compare_digest

import msgspec

from mayfly.model.executors import Activity, Executor, Service, Standing
from mayfly.model.launches import (
    LIVE,
    SUPPLY,
    Issued,
    Launched,
    LaunchId,
    LaunchPhase,
    LaunchRecord,
    LaunchState,
    Plan,
    Redemption,
    TicketRefused,
    launch_of,
)
from mayfly.model.pools import Pool
from mayfly.model.protocol import AttendOrder, ClaimOrder
from mayfly.model.scaling import FAILURES, Supply, again, failures, pause, wanted
from mayfly.store import attendance
from mayfly.store.turns import Turn

TOKEN_SECONDS = 3600.0
"""A launched executor's token lasts for so long after it was last heard of."""
REDEEM_AGAIN_SECONDS = 60.0
"""An executor that did not hear the answer asks again at once."""
LEAVE_SECONDS = 30.0
"""For an executor that was told to end, before the platform is told."""
STRANDED_SECONDS = 600.0
"""While a new version is rolled out, the settings of two control planes may differ."""
_STRANDED = "its pool has no launcher any more; if the platform still has it, end it there"
_LEFT = "its executor ended by itself before it claimed, although there was work"
_LOOKED_BACK = 50
"""Launches; more failures in a row make no longer pause."""
_MOST_TICKETS = 8
_ENDED = {LaunchState.ENDED, LaunchState.FAILED}


def scale(
    turn: Turn, pool: Pool, fresh: Callable[[], str], now: datetime, *, overflows: bool
) -> Plan:
    """What the pool has too few of is wanted, what it has too many of is told to end.

    `overflows`: what parked executors have left lying is not theirs any more.
    """
    rows, at = turn.tables.launches, turn.at
    turn.tables.hold(pools=[pool.name])
    standings = attendance.every(turn.tables, turn.deadlines, pool.name)
    here = {one.executor.machine: one for one in standings}
    use = turn.tables.use(pool.name, at)
    live = rows.live(pool.name)
    written_off = [
        _ended(turn, launch, why, failed=not launch.worked)
        for launch in live
        if (why := _given_up(turn, pool, launch, here.get(launch.machine), use.open))
    ]
    supply = [
        launch
        for launch in rows.live(pool.name)
        if launch.phase in SUPPLY and _may_serve(here.get(launch.machine))
    ]
    parked = [one for one in standings if launch_of(one.executor.machine) is None]
    idle = sum(one.activity is Activity.IDLE and one.serves for one in parked)
    short = wanted(Supply(use.open, pool.max - use.used, len(supply) + idle), pool.idle_buffer)
    failed, last = failures(rows.newest(_LOOKED_BACK, pool.name))
    paused_until = last + pause(failed) if failed >= FAILURES else None
    there = [one for one in parked if one.serves]
    if short < 0:
        _shrink(turn, supply, -short, here)
    elif short and (overflows or not there) and (paused_until is None or at >= paused_until):
        # After a pause one is tried first, and its claim ends the row of failures.
        probing = failed >= FAILURES
        for _ in range(min(short, 1 - min(1, len(supply))) if probing else short):
            id_ = LaunchId(fresh())
            rows.put(LaunchRecord(id=id_, pool=pool.name, wanted_at=now, phase_at=at))
    return _plan(turn, pool, written_off, max(0, short), paused_until)


def ticketed(turn: Turn, id_: LaunchId, ticket: str, seconds: float) -> bool:
    """Whether the launch is still to be started, with one more ticket that will do."""
    launch = turn.tables.launches.find(id_)
    if launch is None or launch.phase is not LaunchPhase.WANTED:
        return False
    tickets = (*launch.tickets, Issued(ticket, turn.at + seconds))[-_MOST_TICKETS:]
    turn.tables.launches.put(msgspec.structs.replace(launch, tickets=tickets))
    return True


def accepted(turn: Turn, id_: LaunchId) -> None:
    """The platform has it; its executor may have been faster."""
    launch = turn.tables.launches.find(id_)
    if launch is not None and launch.phase is LaunchPhase.WANTED:
        turn.tables.launches.put(launch.moved(LaunchPhase.STARTING, turn.at, ""))


def refused(turn: Turn, id_: LaunchId, sentence: str, wait: float) -> None:
    """The platform did not take it, or was not heard; it is asked again later, and not before
    the seconds to `wait` that it named."""
    launch = turn.tables.launches.find(id_)
    if launch is not None and launch.phase is LaunchPhase.WANTED:
        tries = launch.tries + 1
        turn.tables.launches.put(
            msgspec.structs.replace(
                launch, tries=tries, retry_at=turn.at + max(wait, again(tries)), detail=sentence
            )
        )


def surveyed(turn: Turn, pool: str, seen: Sequence[Launched]) -> list[LaunchId]:
    """What the platform has; those it should not have any more.

    A platform that does not keep pools apart may show those of another one, which are not ours.
    """
    rows = turn.tables.launches
    live = {launch.id: launch for launch in rows.live(pool)}
    there = {one.id: one for one in seen}
    for launch in live.values():
        one = there.get(launch.id)
        ended = one is not None and one.state in _ENDED
        if launch.phase is LaunchPhase.ENDING and (one is None or ended):
            rows.put(launch.moved(LaunchPhase.OVER, turn.at))
        elif one is not None and ended and not _claims(turn, launch):
            rows.put(_came_to_nothing(turn, launch, one))
    unknown = [one.id for one in seen if one.id not in live and one.state not in _ENDED]
    return [id_ for id_ in unknown if (row := rows.find(id_)) is None or row.pool == pool]


def strand(turn: Turn, pools: Collection[str]) -> list[LaunchRecord]:
    """Those of pools without a launcher are over, unless they hold a claim."""
    rows = turn.tables.launches
    stranded = []
    for pool in sorted(rows.live_pools() - set(pools)):
        for launch in rows.live(pool):
            if turn.at - launch.phase_at > STRANDED_SECONDS and not _claims(turn, launch):
                over = launch.moved(LaunchPhase.OVER, turn.at, _STRANDED)
                rows.put(over)
                stranded.append(over)
    return stranded


def redeem(turn: Turn, redemption: Redemption) -> LaunchRecord | TicketRefused:
    """A token for a ticket, once; again for the same executor while it has not been heard."""
    rows = turn.tables.launches
    launch = rows.find(redemption.launch)
    if launch is None:
        return TicketRefused("this ticket is not known here", None)
    if why := _misused(turn, launch, redemption):
        rows.put(msgspec.structs.replace(launch, misused=launch.misused + 1))
        return TicketRefused(why, launch.pool)
    ready = msgspec.structs.replace(
        launch.moved(LaunchPhase.READY, turn.at, ""),
        nonce=redemption.nonce,
        redeemed_at=launch.redeemed_at or turn.at,
        token=redemption.token,
        token_until=turn.at + TOKEN_SECONDS,
    )
    rows.put(ready)
    return ready


def attended(turn: Turn, executor: Executor, order: AttendOrder) -> Executor:
    """A launched executor spoke: its token lasts, and it hears whether it is to end."""
    id_ = launch_of(executor.machine)
    launch = turn.tables.launches.find(id_) if id_ else None
    if launch is None or launch.pool != executor.pool or launch.phase is LaunchPhase.OVER:
        return executor  # a token of one pool says nothing about the launches of another
    if order.gone and not _claims(turn, launch):
        turn.tables.launches.put(_left(turn, launch, executor, order))
        return executor
    if launch.token_until - turn.at < TOKEN_SECONDS / 2:
        lasting = msgspec.structs.replace(launch, token_until=turn.at + TOKEN_SECONDS)
        turn.tables.launches.put(lasting)
    if launch.phase is LaunchPhase.ENDING and not order.gone:
        return msgspec.structs.replace(executor, dismissed=order.boot)
    return executor


def may_claim(turn: Turn, order: ClaimOrder) -> bool:
    """Whether a launched executor still may; a parked one is not asked about here."""
    id_ = launch_of(order.machine)
    if id_ is None:
        return True
    launch = turn.tables.launches.find(id_)
    may = {LaunchPhase.READY, LaunchPhase.WORKING}
    return launch is not None and launch.pool == order.pool and launch.phase in may


def claimed(turn: Turn, machine: str) -> None:
    """It has a claim, which counts in its place from now on."""
    id_ = launch_of(machine)
    launch = turn.tables.launches.find(id_) if id_ else None
    if launch is not None:
        working = launch.moved(LaunchPhase.WORKING, turn.at, "")
        turn.tables.launches.put(msgspec.structs.replace(working, worked=True))


def _given_up(
    turn: Turn, pool: Pool, launch: LaunchRecord, standing: Standing | None, open_: int
) -> str | None:
    """Why nobody waits for it any longer; None: it is well, or not to be judged yet."""
    since, limit = turn.at - launch.phase_at, pool.start_deadline_seconds
    silent = since > turn.deadlines.silent_seconds and (standing is None or standing.absent)
    match launch.phase:
        case LaunchPhase.STARTING if since > limit:
            return f"no executor spoke within {limit:.0f} s of its start"
        case LaunchPhase.READY if silent:
            return "its executor fell silent before it claimed"
        case LaunchPhase.READY if (
            open_ and not pool.idle_buffer and since > limit and _may_serve(standing)
        ):
            return f"its executor did not claim within {limit:.0f} s, although there was work"
        case LaunchPhase.WORKING if silent and not _claims(turn, launch):
            return "its executor is gone"
    return None


def _may_serve(standing: Standing | None) -> bool:
    """Whether nobody has told it to take no claim; one that has not spoken yet has not heard."""
    return standing is None or standing.service is Service.IN


def _shrink(turn: Turn, supply: list[LaunchRecord], count: int, here: dict[str, Standing]) -> None:
    """First what the platform was not asked for, then who waited for longest."""
    rows = turn.tables.launches
    patience = turn.deadlines.surplus_seconds
    for launch in sorted(supply, key=lambda one: (one.phase is LaunchPhase.READY, one.id)):
        if count and launch.phase is LaunchPhase.WANTED and not launch.tickets:
            rows.put(launch.moved(LaunchPhase.OVER, turn.at, "not needed any more"))
        elif count and launch.tries and launch.phase is LaunchPhase.WANTED:
            _ended(turn, launch, "not needed any more")
        elif count and launch.phase is LaunchPhase.READY and turn.at - launch.phase_at >= patience:
            if _claims(turn, launch):
                continue
            _ended(turn, launch, "not needed any more")
            if standing := here.get(launch.machine):
                executor = standing.executor
                told = msgspec.structs.replace(executor, dismissed=executor.boot)
                turn.tables.executors.put(told)
        else:
            continue
        count -= 1


def _plan(
    turn: Turn, pool: Pool, written_off: list[LaunchRecord], short: int, paused: float | None
) -> Plan:
    live = turn.tables.launches.live(pool.name)
    ending = [one for one in live if one.phase is LaunchPhase.ENDING]
    return Plan(
        start=[one for one in live if one.phase is LaunchPhase.WANTED and one.retry_at <= turn.at],
        stop=[one for one in ending if one.failed or turn.at - one.phase_at >= LEAVE_SECONDS],
        written_off=written_off,
        short=short,
        watched=any(one.phase in {LaunchPhase.STARTING, LaunchPhase.ENDING} for one in live),
        phases={phase: sum(one.phase is phase for one in live) for phase in sorted(LIVE)},
        paused_until=paused,
    )


def _ended(turn: Turn, launch: LaunchRecord, why: str, *, failed: bool = False) -> LaunchRecord:
    after = msgspec.structs.replace(launch.moved(LaunchPhase.ENDING, turn.at, why), failed=failed)
    turn.tables.launches.put(after)
    return after


def _came_to_nothing(turn: Turn, launch: LaunchRecord, one: Launched) -> LaunchRecord:
    said = one.detail or f"the platform says {one.state}"
    idled = launch.phase is LaunchPhase.READY and one.state is LaunchState.ENDED
    return msgspec.structs.replace(
        launch.moved(LaunchPhase.OVER, turn.at, said), failed=not launch.worked and not idled
    )


def _left(turn: Turn, launch: LaunchRecord, executor: Executor, order: AttendOrder) -> LaunchRecord:
    """Who goes unasked while there is work has come to nothing: its successors may, too."""
    over = launch.moved(LaunchPhase.OVER, turn.at)
    asked = executor.is_told or order.ending
    if (
        launch.phase is not LaunchPhase.READY
        or asked
        or not turn.tables.use(launch.pool, turn.at).open
    ):
        return over
    return msgspec.structs.replace(over, failed=True, detail=_LEFT)


def _misused(turn: Turn, launch: LaunchRecord, redemption: Redemption) -> str | None:
    """Why the ticket gives nothing; None: it is good."""
    issued = [one for one in launch.tickets if compare_digest(one.hash, redemption.ticket)]
    if not issued:
        return "this ticket is not known here"
    if launch.pool != redemption.pool:
        return f"the ticket of launch {launch.id} is for another pool than {redemption.pool}"
    if launch.phase in {LaunchPhase.ENDING, LaunchPhase.OVER}:
        return f"launch {launch.id} is {launch.phase}, so its ticket gives nothing any more"
    if launch.phase in {LaunchPhase.WANTED, LaunchPhase.STARTING}:
        late = turn.at > issued[0].until
        return f"the time of the ticket of launch {launch.id} is over" if late else None
    same = compare_digest(launch.nonce, redemption.nonce)
    heard = turn.tables.executors.find(launch.pool, launch.machine) is not None
    soon = turn.at - launch.redeemed_at <= REDEEM_AGAIN_SECONDS
    if same and soon and not heard and launch.phase is LaunchPhase.READY:
        return None
    return f"the ticket of launch {launch.id} was used already"


def _claims(turn: Turn, launch: LaunchRecord) -> bool:
    claims = turn.tables.live_of_machine(launch.machine)
    return any(claim.pool == launch.pool for claim in claims)
