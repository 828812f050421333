"""The schema's history, applied under one lock so that two processes may start at once.

Steps only add: on PostgreSQL a control plane of the version before may still be at work, and goes
on with the tables as the next one leaves them. What is dropped or renamed was not in a release.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from mayfly.model.errors import InvalidSettings


def migrate(connection: Connection) -> None:
    """Bring the database to the newest schema, inside the caller's transaction. Idempotent.

    InvalidSettings when a newer version has been there: what this one would write may be wrong.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    newest, *older = history()
    if found is not None and found not in (newest, *older):
        raise InvalidSettings(
            f"{too_new(found, newest)}; upgrade Mayfly, or restore the copy made before"
        )
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def too_new(found: str, newest: str) -> str:
    """What is wrong with a database whose schema this version does not know."""
    return f"the database is of a newer Mayfly (schema {found}; this one knows {newest})"


def history() -> list[str]:
    """Every revision this version knows, the newest first."""
    scripts = ScriptDirectory.from_config(_config())
    return [script.revision for script in scripts.walk_revisions()]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
