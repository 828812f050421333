"""Deadlines of claims and registrations, in ledger seconds (rules R5 to R9)."""

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
"""More than nothing, at most a day: a loop without a pause is a mistake, and so is for ever."""


class Deadlines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[deadlines]` of mayfly.toml, in seconds; the rules were proven with the defaults."""

    turn_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=600)] = 20.0
    """Between two turns of the reconciler; ledger time moves with them."""
    heartbeat_seconds: Seconds = 30.0
    """Between two heartbeats of an executor: four may be lost before it is silent."""
    silent_seconds: Seconds = 120.0
    """Without a heartbeat, in any live state, before the executor is taken for dead."""
    surplus_seconds: Seconds = 30.0
    """A claim nobody needs may stay so long, because the next job often arrives first."""
    proof_seconds: Seconds = 45.0
    """After an executor's finish, for `completed` to arrive before GitHub is asked."""
    look_again_seconds: Seconds = 60.0
    """Between two looks at a name that is busy, unreachable or not found."""
    ended_seconds: Seconds = 60.0
    """A runner may take so long to exit after GitHub said its job completed."""
    prepare_seconds: Seconds = 1200.0
    """From the claim to the registration, whatever its heartbeats say: longer than an executor's
    own prepare_timeout of 15 min."""
    minting_seconds: Seconds = 300.0
    """A mint nobody asks for again is looked at at GitHub after so long."""
    idle_look_seconds: Seconds = 60.0
    """Idle for so long although jobs are queued: GitHub is asked about the oldest of them."""
    idle_seconds: Seconds = 360.0
    """Idle for so long: a runner nobody needs is deleted, another is extended, three times."""
    attribute_seconds: Seconds = 15.0
    """Busy with an unknown job for so long: GitHub is asked which."""
    unattributed_seconds: Seconds = 120.0
    """Busy with an unknown job for so long: it does not count as a queued job's runner any more."""
    check_queued_seconds: Seconds = 180.0
    """Queued for so long: GitHub is asked whether it still is; each time twice as late."""
    check_longest_seconds: Seconds = 1800.0
    """At most so long between two such questions, and for a job that runs."""
    unreachable_seconds: Seconds = 600.0
    """GitHub cannot be asked about a silent runner for so long: its slot is freed."""
    abandon_seconds: Annotated[float, msgspec.Meta(gt=0, le=604_800)] = 90_000.0
    """GitHub cannot be asked for so long: the name is given up. GitHub removes unused runners
    after a day, so 25 h."""
    retention_seconds: Annotated[float, msgspec.Meta(ge=604_800, le=315_360_000)] = 691_200.0
    """Completed jobs are kept for so long: 8 days, longer than GitHub redelivers."""
