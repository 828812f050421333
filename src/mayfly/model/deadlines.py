"""Deadlines of claims and registrations, in ledger seconds (rules R5 to R9)."""

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
"""More than nothing, at most a day: a loop without a pause is a mistake, and so is for ever."""


class Deadlines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[deadlines]` of mayfly.toml, in seconds; the rules were proven with the defaults."""

    turn_seconds: Seconds = 20.0
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
