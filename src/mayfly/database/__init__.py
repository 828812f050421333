"""One SQL database: its connections, its group commit and its migrations."""

from mayfly.database.sqlite import Database, open_database

__all__ = ["Database", "open_database"]
