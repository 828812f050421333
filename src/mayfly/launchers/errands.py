"""What a started executor is told: these words and nothing else of ours."""

from collections.abc import Collection, Mapping

from mayfly.model.errors import InvalidSettings
from mayfly.model.launches import Launch, Ticket

LAUNCH = "MAYFLY_LAUNCH"
POOL = "MAYFLY_POOL"
URL = "MAYFLY_URL"
TICKET = "MAYFLY_TICKET"
"""The one that must not be kept where others read it, or be worthless once it was used."""
TICKET_FILE = f"{TICKET}_FILE"
"""Or a file that has it, where others may look at the environment."""
OURS = frozenset({LAUNCH, POOL, URL, TICKET, TICKET_FILE})
_LONGEST = 500


def told(launch: Launch, server: str) -> dict[str, str]:
    """The environment of its executor, without the ticket."""
    return {URL: server, POOL: launch.pool, LAUNCH: launch.id}


def checked_variables(environment: Mapping[str, str], ours: Collection[str] = OURS) -> None:
    """InvalidSettings for a variable that no program can be given, or that is ours to set."""
    for name in environment:
        if not name or "=" in name:
            raise InvalidSettings(f"environment sets {name!r}, which is no name of a variable")
        if name in ours:
            raise InvalidSettings(f"environment sets {name}, which the launcher sets itself")


def withheld(said: str, ticket: Ticket | None = None) -> str:
    """A platform's own words, for one line; it may repeat what it was given."""
    # PostgreSQL takes no NUL, and a terminal obeys what an escape says.
    line = " ".join("".join(one if one.isprintable() else " " for one in said).split())
    if ticket is not None:
        line = line.replace(ticket.reveal(), "…")
    return line[:_LONGEST]
