"""The ledger, the access rules and the bus."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

QUEUED = "state = 2"


def upgrade() -> None:
    """Create everything; ids that GitHub or Mayfly gives are never made by the database."""
    _jobs()
    _demand()
    _claims()
    _access_and_bus()


def _jobs() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("grp", sa.BigInteger),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("queued_at", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("next_check_at", sa.Float),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("pool", sa.Text),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("repo", sa.Text, nullable=False),
        sa.Column("runner_name", sa.Text),
        sa.Column("facts", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("job_waiting", "job", ["grp", "queued_at"], **_where(QUEUED))
    op.create_index(
        "job_check", "job", ["next_check_at"], **_where("state IN (2, 3) AND grp IS NOT NULL")
    )
    op.create_index("job_received", "job", ["received_at"])


def _demand() -> None:
    op.create_table(
        "grp",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("installation", sa.BigInteger, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("variant", sa.Text),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("queued", sa.Integer, nullable=False),
        sa.Column("supply", sa.Integer, nullable=False),
        sa.Column("sure", sa.Integer, nullable=False),
        sa.Column("surplus_since", sa.Float),
        sa.Column("fails", sa.Integer, nullable=False, server_default="0"),
        sa.Column("retry_at", sa.Float),
        sa.Column("refusal", sa.Text, nullable=False, server_default=sa.text("''")),
    )
    op.create_index("grp_open", "grp", ["pool"], **_where("queued > supply"))
    op.create_index("grp_surplus", "grp", ["surplus_since"], **_where("surplus_since IS NOT NULL"))
    op.create_table(
        "pool",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("used", sa.Integer, nullable=False),
    )
    op.create_table(
        "owner_use",
        sa.Column("pool", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("used", sa.Integer, nullable=False),
    )
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("ledger_seconds", sa.Float, nullable=False),
        sa.Column("last_tick", sa.BigInteger),
        sa.Column("leader", sa.Text),
        sa.Column("leader_until", sa.BigInteger),
        sa.Column("log_position", sa.BigInteger),
    )


def _claims() -> None:
    op.create_table(
        "claim",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("grp", sa.BigInteger, nullable=False),
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("boot", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("state_at", sa.Float, nullable=False),
        sa.Column("heard_at", sa.Float, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("job_id", sa.BigInteger),
        sa.Column("job_attempt", sa.Integer),
        sa.Column("unattributed", sa.Boolean, nullable=False),
        sa.Column("idle_since", sa.Float),
        sa.Column("extensions", sa.Integer, nullable=False, server_default="0"),
        sa.Column("registrations", sa.Integer, nullable=False),
        sa.Column("finished", sa.Boolean, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("per_owner", sa.Integer),
    )
    live = _where("state IN ('claimed', 'minting', 'registered', 'busy')")
    op.create_index("claim_live", "claim", ["heard_at"], **live)
    op.create_index("claim_live_group", "claim", ["grp"], **live)
    op.create_index("claim_live_machine", "claim", ["machine"], **live)
    op.create_table(
        "registration",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("claim", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("github_id", sa.BigInteger),
        sa.Column("negatives", sa.Integer, nullable=False),
        sa.Column("next_look_at", sa.Float),
    )
    op.create_index("registration_claim", "registration", ["claim"])
    op.create_index(
        "registration_look", "registration", ["next_look_at"], **_where("next_look_at IS NOT NULL")
    )
    op.create_table(
        "machine",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("fails", sa.Integer, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )


def _access_and_bus() -> None:
    op.create_table(
        "access_rule",
        sa.Column("label_key", sa.Text, primary_key=True),
        sa.Column("owner_key", sa.Text, primary_key=True),
        sa.Column("repository_key", sa.Text, primary_key=True),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("repository", sa.Text),
        sa.Column("granted_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "message",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("published_at", sa.BigInteger, nullable=False),
        sa.Column("leased_until", sa.BigInteger, nullable=False),
        sa.Column("lease", sa.Text, unique=True),
    )
    op.create_index("message_waiting", "message", ["subject", "leased_until", "id"])


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}
