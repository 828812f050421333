"""Demand groups: arithmetic, identity, doorbells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mayfly.model.access import Admitted, Scope
from mayfly.model.demand import Demand, DemandGroup, demand_for, demand_of, doorbells
from mayfly.model.jobs import GroupId, InstallationId
from tests.fakes.factories import queued_job, refused


def demand(
    *,
    installation: int = 7,
    scope: str = "repos/octo/hello",
    pool: str = "linux",
    labels: tuple[str, ...] = ("self-hosted", "linux"),
) -> Demand:
    admitted = Admitted(pool=pool, variant=None, scope=Scope(scope), rule="a rule")
    return demand_of(admitted, "Octo", InstallationId(installation), labels)


@pytest.mark.parametrize(
    ("queued", "supply", "open_", "surplus"), [(3, 1, 2, 0), (1, 3, 0, 2), (2, 2, 0, 0)]
)
def test_open_and_surplus_are_computed(queued: int, supply: int, open_: int, surplus: int):
    group = DemandGroup(
        id=GroupId(1),
        installation=InstallationId(7),
        scope=Scope("repos/octo/hello"),
        pool="linux",
        owner="octo",
        variant=None,
        labels=("linux", "self-hosted"),
        queued=queued,
        supply=supply,
    )
    assert (group.open, group.surplus) == (open_, surplus)


def test_a_refused_job_demands_nothing():
    assert demand_for(refused(queued_job())) is None
    assert demand_for(queued_job(installation=None)) is None


@pytest.mark.parametrize(
    "other",
    [
        demand(installation=8),
        demand(scope="orgs/octo"),
        demand(pool="arm64"),
        demand(labels=("linux", "self-hosted", "x")),
    ],
)
def test_what_differs_is_another_group(other: Demand):
    assert other.group != demand().group


def test_case_and_order_do_not_make_another_group():
    assert demand(scope="repos/Octo/HELLO").group == demand().group
    assert demand(labels=("LINUX", "Self-Hosted")).group == demand().group


def test_a_demand_is_what_its_job_asks_for():
    assert demand_for(queued_job()) == demand()
    assert demand().owner == "octo"


def test_a_groups_id_never_changes():
    """Two releases of Mayfly share a database: the id is a format, not a detail."""
    assert demand().group == 5178117597735662963


def test_a_groups_id_fits_a_signed_column():
    assert -(2**63) <= demand().group < 2**63


@pytest.mark.parametrize(
    ("open_", "free", "depth", "rings"),
    [(3, 5, 0, 3), (3, 2, 0, 2), (3, 5, 1, 2), (3, 5, 4, 0), (0, 5, 0, 0), (3, 0, 0, 0)],
)
def test_it_rings_for_what_is_open_and_fits_and_is_not_rung_for(
    open_: int, free: int, depth: int, rings: int
):
    assert doorbells(open_=open_, free=free, depth=depth) == rings


@given(st.integers(-3, 9), st.integers(-3, 9), st.integers(0, 9))
def test_a_ring_is_never_for_nothing(open_: int, free: int, depth: int):
    assert 0 <= doorbells(open_=open_, free=free, depth=depth) <= max(0, min(open_, free))
