"""What repairs need: due times, health of groups, runs of claims, the log's position."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs that live are due at once, so that nothing is missed; the rest has its usual time."""
    _jobs()
    _groups()
    _claims()
    op.add_column("registration", sa.Column("unreachable_since", sa.Float))
    op.add_column("registration", _zero("unreached"))
    op.add_column("clock", sa.Column("log_at", sa.BigInteger))


def _jobs() -> None:
    op.drop_index("job_check", "job")
    op.execute("ALTER TABLE job RENAME COLUMN next_check_at TO due_at")
    op.drop_column("job", "tries")
    op.add_column("job", sa.Column("installation", sa.BigInteger))
    op.execute(
        "UPDATE job SET due_at = CASE WHEN state < 4 AND pool IS NOT NULL THEN 0 ELSE "
        "COALESCE((SELECT ledger_seconds FROM clock), 0) + 691200 END"
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "UPDATE job SET installation = "
            "json_extract(CAST(facts AS TEXT), '$.event.installation')"
        )
    _index("job_check", "job", "due_at", "state < 4 AND pool IS NOT NULL")
    _index("job_forget", "job", "due_at", "state = 4 OR pool IS NULL")


def _groups() -> None:
    op.execute("ALTER TABLE grp RENAME COLUMN refusal TO trouble")
    op.add_column("grp", sa.Column("failed_on", sa.Text, nullable=False, server_default="[]"))
    op.add_column(
        "grp", sa.Column("stalled", sa.Boolean, nullable=False, server_default=sa.false())
    )
    _index("grp_stalled", "grp", "id", "stalled")


def _claims() -> None:
    op.add_column("claim", sa.Column("due_at", sa.Float))
    op.add_column("claim", sa.Column("run_repository", sa.Text))
    op.add_column("claim", sa.Column("run_id", sa.BigInteger))
    op.add_column("claim", sa.Column("run_attempt", sa.Integer))
    op.add_column(
        "claim", sa.Column("written_off", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.execute(
        "UPDATE claim SET due_at = CASE state WHEN 'claimed' THEN state_at + 1200 "
        "WHEN 'minting' THEN state_at + 300 WHEN 'registered' THEN state_at + 60 "
        "WHEN 'busy' THEN CASE WHEN unattributed THEN state_at + 15 END "
        "ELSE state_at + 691200 END"
    )
    _index("claim_due", "claim", "due_at", "due_at IS NOT NULL")
    op.create_index("claim_group", "claim", ["grp"])


def _zero(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _index(name: str, table: str, column: str, condition: str) -> None:
    op.create_index(
        name, table, [column], sqlite_where=sa.text(condition), postgresql_where=sa.text(condition)
    )
