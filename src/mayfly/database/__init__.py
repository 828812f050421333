"""One SQL database: its connections, its group commit and its migrations."""

from mayfly.database.inspections import Schema, SchemaState, faults_of, inspect, look
from mayfly.database.sqlite import Database, open_database

__all__ = ["Database", "Schema", "SchemaState", "faults_of", "inspect", "look", "open_database"]
