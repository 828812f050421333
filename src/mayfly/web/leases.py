"""Leases as callers name them: `POOL/ID`, so that each is settled by who is bound to its pool."""

from mayfly.web.callers import bound
from mayfly.web.tokens import Token


def handed_out(pool: str, lease_id: str) -> str:
    """What an executor is given for the bus's own id."""
    return f"{pool}/{lease_id}"


def bus_lease(token: Token, lease: str) -> str | None:
    """The bus's own id, 403 when the token is not bound to the pool; None for what is no lease.

    Who names a pool wrongly still needs the id, which only the holder was told.
    """
    pool, slash, lease_id = lease.partition("/")
    if not slash:
        return None
    bound(token, pool)
    return lease_id
