"""The ledger's SQL, built once for every dialect.

Upserts are not standard: `insert` is PostgreSQL's, whose words SQLite took over. FOR UPDATE is
left out by SQLite, which has one writer.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from mayfly.model.jobs import JobState
from mayfly.model.runners import LIVE
from mayfly.store import schema
from mayfly.store.many import Among, Many

job, grp, pool, owner_use = schema.job, schema.grp, schema.pool, schema.owner_use
clock, claim, registration, machine, release = (
    schema.clock,
    schema.claim,
    schema.registration,
    schema.machine,
    schema.release,
)

IS_LIVE = claim.c.state.in_(sorted(LIVE))
# Literals, so that SQLite can prove that a partial index applies.
IS_QUEUED: sa.ColumnElement[bool] = sa.literal_column(f"job.state = {int(JobState.QUEUED)}")
IS_PENDING: sa.ColumnElement[bool] = sa.literal_column("job.pending")
IS_OPEN: sa.ColumnElement[bool] = sa.literal_column("grp.queued > grp.supply")


def upsert(table: sa.Table) -> Any:  # noqa: ANN401 - the dialect's insert has no common type
    """Insert, or replace every column but the key."""
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in keys
    }
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


put_job = upsert(job)
put_claim = upsert(claim)
put_registration = upsert(registration)
put_machine = upsert(machine)
put_clock = upsert(clock)

get_attempts = Among(sa.select(job.c.facts), job.c.id)
_by_key = sa.select(job.c.facts).order_by(job.c.id, job.c.attempt).limit(sa.bindparam("most"))
queued_jobs = _by_key.where(
    IS_QUEUED,
    sa.tuple_(job.c.id, job.c.attempt) > sa.tuple_(sa.bindparam("id"), sa.bindparam("attempt")),
)
pending_jobs = _by_key.where(IS_PENDING)
ahead = (
    sa.select(sa.func.count())
    .select_from(job)
    .where(
        IS_QUEUED,
        job.c.grp == sa.bindparam("group"),
        sa.or_(
            job.c.queued_at < sa.bindparam("at"),
            sa.and_(
                job.c.queued_at == sa.bindparam("at"),
                sa.tuple_(job.c.id, job.c.attempt)
                < sa.tuple_(sa.bindparam("id"), sa.bindparam("attempt")),
            ),
        ),
    )
)

oldest_queued = (
    sa.select(job.c.facts)
    .where(IS_QUEUED, job.c.grp == sa.bindparam("group"))
    .order_by(job.c.queued_at, job.c.id, job.c.attempt)
    .limit(sa.bindparam("most"))
)
count_queued = (
    sa.select(sa.func.count()).select_from(job).where(IS_QUEUED, job.c.grp == sa.bindparam("group"))
)
_due = (
    sa.select(job.c.facts)
    .where(
        sa.literal_column("job.state < 4 AND job.pool IS NOT NULL"),
        job.c.due_at <= sa.bindparam("at"),
    )
    .order_by(job.c.due_at, job.c.id, job.c.attempt)
    .limit(sa.bindparam("most"))
)
due_running = _due.where(job.c.state == int(JobState.IN_PROGRESS))
due_waiting = _due.where(job.c.state < int(JobState.IN_PROGRESS))
_over = (
    sa.select(job.c.id, job.c.attempt)
    .where(
        sa.literal_column("(job.state = 4 OR job.pool IS NULL)"),
        job.c.due_at <= sa.bindparam("at"),
    )
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True)
)
forget_jobs = sa.delete(job).where(sa.tuple_(job.c.id, job.c.attempt).in_(_over))
repositories = (
    sa.select(job.c.installation, job.c.owner, job.c.repo)
    .distinct()
    .where(
        job.c.received_at >= sa.bindparam("since"),
        job.c.pool.is_not(None),
        job.c.installation.is_not(None),
    )
    .order_by(job.c.installation, job.c.owner, job.c.repo)
)

_new = insert(grp)
_queued = grp.c.queued + _new.excluded.queued
add_queued = _new.on_conflict_do_update(
    index_elements=["id"],
    set_={
        "queued": _queued,
        "surplus_since": sa.case(
            (
                grp.c.supply > _queued,
                sa.func.coalesce(grp.c.surplus_since, sa.bindparam("at", type_=sa.Float)),
            ),
            else_=None,
        ),
    },
)
_counted = grp.c.queued + sa.bindparam("queued_change", type_=sa.Integer)
_supply = grp.c.supply + sa.bindparam("supply_change", type_=sa.Integer)
add_counts = (
    sa.update(grp)
    .where(grp.c.id == sa.bindparam("group"))
    .values(
        queued=_counted,
        supply=_supply,
        sure=grp.c.sure + sa.bindparam("sure_change", type_=sa.Integer),
        surplus_since=sa.case(
            (
                _supply > _counted,
                sa.func.coalesce(grp.c.surplus_since, sa.bindparam("at", type_=sa.Float)),
            ),
            else_=None,
        ),
    )
)
take_supply = (
    sa.update(grp)
    .where(grp.c.id == sa.bindparam("group"), grp.c.supply < grp.c.queued)
    .values(supply=grp.c.supply + 1)
)

put_health = (
    sa.update(grp)
    .where(grp.c.id == sa.bindparam("group"))
    .values({name: sa.bindparam(name) for name in ("fails", "failed_on", "retry_at", "trouble")})
    .values(stalled=sa.bindparam("stalled"))
)
forgive = (
    sa.update(grp)
    .where(grp.c.id == sa.bindparam("group"), grp.c.fails > 0)
    .values(fails=0, failed_on="[]", retry_at=None, trouble="", stalled=False)
)
group_after = sa.select(grp).where(grp.c.id > sa.bindparam("after")).order_by(grp.c.id).limit(1)
# Who forgets waits for nobody: what somebody is changing just now is not forgotten this time.
_unused = (
    sa.select(grp.c.id)
    .where(grp.c.queued == 0, grp.c.supply == 0, ~sa.exists().where(claim.c.grp == grp.c.id))
    .with_for_update(skip_locked=True)
)
drop_unused_groups = sa.delete(grp).where(grp.c.id.in_(_unused))
troubled_groups = (
    sa.select(grp)
    .where(grp.c.installation == sa.bindparam("installation"), grp.c.fails > 0)
    .order_by(grp.c.id)
)
scopes = (
    sa.select(grp.c.installation, grp.c.scope)
    .distinct()
    .where(grp.c.id.in_(sa.select(job.c.grp).where(job.c.received_at >= sa.bindparam("since"))))
    .order_by(grp.c.installation, grp.c.scope)
)
stalled_groups = (
    sa.select(grp)
    .where(sa.literal_column("grp.stalled"))
    .order_by(grp.c.id)
    .limit(sa.bindparam("most"))
)
_is_claimable = sa.and_(
    IS_OPEN,
    sa.or_(grp.c.retry_at.is_(None), grp.c.retry_at <= sa.bindparam("at", type_=sa.Float)),
    sa.or_(sa.not_(grp.c.stalled), grp.c.supply <= 0),
)

_oldest = (
    sa.select(sa.func.min(job.c.queued_at))
    .where(job.c.grp == grp.c.id, IS_QUEUED)
    .scalar_subquery()
)
_owned = sa.func.coalesce(owner_use.c.used, 0)
next_group = (
    sa.select(grp)
    .outerjoin(owner_use, sa.and_(owner_use.c.pool == grp.c.pool, owner_use.c.owner == grp.c.owner))
    .where(
        grp.c.pool == sa.bindparam("pool"),
        _is_claimable,
        _owned < sa.bindparam("per_owner"),
    )
    .order_by(_owned, _oldest, grp.c.id)
    .limit(1)
)
next_group_of = next_group.where(
    sa.func.coalesce(grp.c.variant, "").in_(sa.bindparam("variants", expanding=True))
)
surplus_groups = (
    sa.select(grp)
    .where(grp.c.surplus_since <= sa.bindparam("since"))
    .order_by(grp.c.surplus_since, grp.c.id)
    .limit(sa.bindparam("most"))
)

add_pool = insert(pool).values(name=sa.bindparam("pool"), used=0).on_conflict_do_nothing()
take_slot = (
    sa.update(pool)
    .where(pool.c.name == sa.bindparam("pool"), pool.c.used < sa.bindparam("maximum"))
    .values(used=pool.c.used + 1)
)
use_pool = (
    sa.update(pool)
    .where(pool.c.name == sa.bindparam("pool"))
    .values(used=pool.c.used + sa.bindparam("change", type_=sa.Integer))
)
_owner = insert(owner_use)
use_owner = _owner.on_conflict_do_update(
    index_elements=["pool", "owner"], set_={"used": owner_use.c.used + _owner.excluded.used}
)
_of_pool = grp.c.pool == sa.bindparam("pool")
pool_use = sa.select(
    sa.select(pool.c.used).where(pool.c.name == sa.bindparam("pool")).scalar_subquery(),
    sa.select(sa.func.sum(grp.c.queued)).where(_of_pool, grp.c.queued > 0).scalar_subquery(),
    sa.select(sa.func.sum(sa.case((grp.c.stalled, 1), else_=grp.c.queued - grp.c.supply)))
    .where(_of_pool, _is_claimable)
    .scalar_subquery(),
)
used_by = sa.select(claim).where(
    claim.c.pool == sa.bindparam("pool"),
    sa.or_(IS_LIVE, claim.c.id.in_(sa.select(registration.c.claim))),
)
owners_of = sa.select(owner_use.c.owner, owner_use.c.used).where(
    owner_use.c.pool == sa.bindparam("pool")
)

silent = (
    sa.select(claim)
    .where(
        IS_LIVE,
        claim.c.heard_at <= sa.bindparam("before"),
        ~sa.exists().where(
            registration.c.claim == claim.c.id, registration.c.next_look_at.is_not(None)
        ),
    )
    .order_by(claim.c.id)
    .limit(sa.bindparam("most"))
)
due_claims = (
    sa.select(claim)
    .where(IS_LIVE, claim.c.due_at <= sa.bindparam("at"))
    .order_by(claim.c.due_at, claim.c.id)
    .limit(sa.bindparam("most"))
)
_ended = (
    sa.select(claim.c.id)
    .where(sa.not_(IS_LIVE), claim.c.registrations == 0, claim.c.due_at <= sa.bindparam("at"))
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True)
)
forget_claims = sa.delete(claim).where(claim.c.id.in_(_ended))
_forgiven = (
    sa.select(machine.c.id)
    .where(machine.c.until <= sa.bindparam("at"))
    .with_for_update(skip_locked=True)
)
forget_machines = sa.delete(machine).where(machine.c.id.in_(_forgiven))
add_release = insert(release).on_conflict_do_nothing()
releases = sa.select(release).order_by(release.c.major, release.c.minor, release.c.patch)
registrations = (
    sa.select(registration, claim.c.pool)
    .outerjoin(claim, claim.c.id == registration.c.claim)
    .order_by(registration.c.name)
)
due_registrations = (
    registrations.where(registration.c.next_look_at <= sa.bindparam("at"))
    .order_by(None)
    .order_by(registration.c.next_look_at, registration.c.name)
    .limit(sa.bindparam("most"))
)

unreached = registrations.where(
    registration.c.unreachable_since.is_not(None),
    sa.exists().where(
        claim.c.id == registration.c.claim,
        claim.c.grp == grp.c.id,
        grp.c.installation == sa.bindparam("installation"),
    ),
)

put_job_many = Many(put_job, [column.name for column in job.columns])
_IDENTITY = ("id", "key", "installation", "scope", "pool", "owner", "variant", "labels")
add_queued_many = Many(
    add_queued,
    [*_IDENTITY, "queued", "supply", "sure"],
    shared=["at"],
)
