"""Rights: what Mayfly's user of a PostgreSQL needs there, and has not."""

from itertools import groupby
from operator import itemgetter

import sqlalchemy as sa
from sqlalchemy import Connection

NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""On every table; the one who migrates owns them."""

_LACKING = sa.text(
    "SELECT t.relname, n.needed, current_user"
    " FROM pg_class t, unnest(CAST(:needed AS text[])) WITH ORDINALITY AS n (needed, place)"
    " WHERE t.relkind = 'r' AND t.relname <> 'alembic_version'"
    " AND t.relnamespace = (SELECT relnamespace FROM pg_class"
    " WHERE oid = to_regclass('alembic_version'))"
    " AND NOT has_table_privilege(t.oid, n.needed) ORDER BY t.relname, n.place"
)
_STANDBY = "it is a standby, which only reads"


def hindrances(connection: Connection) -> list[tuple[str, str]]:
    """Why nothing can be written there, each with what to do; files have no such rights."""
    if connection.dialect.name != "postgresql":
        return []
    found = []
    if connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar():
        found.append((_STANDBY, "let store.url name the primary"))
    rows = connection.execute(_LACKING, {"needed": list(NEEDED)}).all()
    for table, lacking in groupby(rows, itemgetter(0)):
        rights, users = zip(*((right, user) for _, right, user in lacking), strict=True)
        words = ", ".join(rights)
        found.append(
            (
                f"user {users[0]} lacks the right {words} on table {table}",
                f"its owner gives it: GRANT {words} ON {table} TO {users[0]}",
            )
        )
    return found
