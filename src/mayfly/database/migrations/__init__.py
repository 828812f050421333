"""The schema's history, applied under one lock so that two processes may start at once.

Steps only add: on PostgreSQL a control plane of the version before may still be at work, and goes
on with the tables as the next one leaves them. What is dropped or renamed was not in a release.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def migrate(connection: Connection) -> None:
    """Bring the database to the newest schema, inside the caller's transaction. Idempotent."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def history() -> list[str]:
    """Every revision this version knows, the newest first."""
    scripts = ScriptDirectory.from_config(_config())
    return [script.revision for script in scripts.walk_revisions()]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
