"""One SQL database: its transactions, its migrations, and who leads the processes that share it."""

from mayfly.database.inspections import Schema, SchemaState, faults_of, inspect, look
from mayfly.database.opening import Database, open_database

__all__ = ["Database", "Schema", "SchemaState", "faults_of", "inspect", "look", "open_database"]
