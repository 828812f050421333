"""Jobs that are pending a check can be found."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """None is pending yet: before this, nothing could be."""
    op.add_column(
        "job", sa.Column("pending", sa.Boolean, nullable=False, server_default=sa.false())
    )
    condition = sa.text("pending")
    op.create_index(
        "job_pending",
        "job",
        ["id", "attempt"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
