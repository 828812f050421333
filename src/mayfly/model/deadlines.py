"""Deadlines of claims and registrations, in ledger seconds (rules R5 to R9)."""

import msgspec


class Deadlines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[deadlines]` of mayfly.toml, in seconds; the rules were proven with the defaults."""

    turn_seconds: float = 20.0
    """Between two turns of the reconciler; ledger time moves with them."""
    heartbeat_seconds: float = 30.0
    """Between two heartbeats of an executor: four may be lost before it is silent."""
    silent_seconds: float = 120.0
    """Without a heartbeat, in any live state, before the executor is taken for dead."""
    surplus_seconds: float = 30.0
    """A claim nobody needs may stay so long, because the next job often arrives first."""
    proof_seconds: float = 45.0
    """After an executor's finish, for `completed` to arrive before GitHub is asked."""
    look_again_seconds: float = 60.0
    """Between two looks at a name that is busy, unreachable or not found."""
    ended_seconds: float = 60.0
    """A runner may take so long to exit after GitHub said its job completed."""
