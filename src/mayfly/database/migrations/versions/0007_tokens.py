"""Names for which a registration token was handed out."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody has one: until now every runner was minted with a JIT config."""
    op.add_column("registration", sa.Column("token_until", sa.Float))
