"""One SQL database: its transactions, its migrations, and who leads the processes that share it."""

from mayfly.database.inspections import Schema, SchemaState, faults_of, inspect, look
from mayfly.database.kinds import checked
from mayfly.database.opening import Database, open_database
from mayfly.database.rights import hindrances

__all__ = [
    "Database",
    "Schema",
    "SchemaState",
    "checked",
    "faults_of",
    "hindrances",
    "inspect",
    "look",
    "open_database",
]
