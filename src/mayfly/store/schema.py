"""The tables of the SQL store, as the migrations leave them."""

import sqlalchemy as sa

metadata = sa.MetaData()

job = sa.Table(
    "job",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("grp", sa.BigInteger),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("queued_at", sa.BigInteger, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.Float),
    sa.Column("pool", sa.Text),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("repo", sa.Text, nullable=False),
    sa.Column("runner_name", sa.Text),
    sa.Column("facts", sa.LargeBinary, nullable=False),
    sa.Column("installation", sa.BigInteger),
    sa.Column("pending", sa.Boolean, nullable=False, server_default=sa.false()),
)

grp = sa.Table(
    "grp",
    metadata,
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
    sa.Column("trouble", sa.Text, nullable=False, server_default=sa.text("''")),
    sa.Column("failed_on", sa.Text, nullable=False, server_default="[]"),
    sa.Column("stalled", sa.Boolean, nullable=False, server_default=sa.false()),
)

pool = sa.Table(
    "pool",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("used", sa.Integer, nullable=False),
)

owner_use = sa.Table(
    "owner_use",
    metadata,
    sa.Column("pool", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("used", sa.Integer, nullable=False),
)

clock = sa.Table(
    "clock",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("ledger_seconds", sa.Float, nullable=False),
    sa.Column("last_tick", sa.BigInteger),
    sa.Column("leader", sa.Text),
    sa.Column("leader_until", sa.BigInteger),
    sa.Column("log_position", sa.BigInteger),
    sa.Column("log_at", sa.BigInteger),
)

claim = sa.Table(
    "claim",
    metadata,
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
    sa.Column("due_at", sa.Float),
    sa.Column("run_repository", sa.Text),
    sa.Column("run_id", sa.BigInteger),
    sa.Column("run_attempt", sa.Integer),
    sa.Column("written_off", sa.Boolean, nullable=False, server_default=sa.false()),
)

registration = sa.Table(
    "registration",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("claim", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("github_id", sa.BigInteger),
    sa.Column("negatives", sa.Integer, nullable=False),
    sa.Column("next_look_at", sa.Float),
    sa.Column("unreachable_since", sa.Float),
    sa.Column("unreached", sa.Integer, nullable=False, server_default="0"),
    sa.Column("token_until", sa.Float),
)

machine = sa.Table(
    "machine",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("fails", sa.Integer, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)

executor = sa.Table(
    "executor",
    metadata,
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

release = sa.Table(
    "release",
    metadata,
    sa.Column("major", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("minor", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("patch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
)

launch = sa.Table(
    "launch",
    metadata,
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

access_rule = sa.Table(
    "access_rule",
    metadata,
    sa.Column("label_key", sa.Text, primary_key=True),
    sa.Column("owner_key", sa.Text, primary_key=True),
    sa.Column("repository_key", sa.Text, primary_key=True),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("repository", sa.Text),
    sa.Column("granted_at", sa.BigInteger, nullable=False),
)
