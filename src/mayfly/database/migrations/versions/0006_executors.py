"""Executors that are known, and those that are out of service."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Empty: those that run say so within half a minute."""
    op.create_table(
        "executor",
        sa.Column("pool", sa.Text, primary_key=True),
        sa.Column("machine", sa.Text, primary_key=True),
        sa.Column("boot", sa.Text, nullable=False),
        sa.Column("heard_at", sa.Float, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Column("ending", sa.Boolean, nullable=False),
        sa.Column("dismissed", sa.Text, nullable=False),
        sa.Column("unprepared", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
