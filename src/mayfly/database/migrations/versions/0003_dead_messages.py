"""What dead messages need: how often one was leased, and why one cannot be read."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Messages that wait were never leased, as far as anybody knows."""
    op.add_column(
        "message", sa.Column("deliveries", sa.Integer, nullable=False, server_default="0")
    )
    op.add_column("message", sa.Column("misread", sa.Text))
