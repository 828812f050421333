"""Executors that were started where there was work, and what they prove themselves with."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Empty: nothing was ever started before."""
    op.create_table(
        "launch",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("wanted_at", sa.BigInteger, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("phase_at", sa.Float, nullable=False),
        sa.Column("worked", sa.Boolean, nullable=False),
        sa.Column("failed", sa.Boolean, nullable=False),
        sa.Column("tickets", sa.Text, nullable=False),
        sa.Column("nonce", sa.Text, nullable=False),
        sa.Column("redeemed_at", sa.Float, nullable=False),
        sa.Column("token", sa.Text, unique=True),
        sa.Column("token_until", sa.Float, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("retry_at", sa.Float, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("misused", sa.Integer, nullable=False),
    )
    op.create_index("launch_by_pool", "launch", ["pool", "phase", "id"])
