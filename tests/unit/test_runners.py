"""Claims: their state table, and what each state counts for."""

from itertools import product

import msgspec
import pytest

from mayfly.model.errors import StaleClaim
from mayfly.model.jobs import GroupId
from mayfly.model.runners import LIVE, Claim, ClaimId, ClaimState, advanced, runner_name
from tests.fakes.clocks import NOON

S = ClaimState
EDGES = {
    S.CLAIMED: {S.MINTING, S.WITHDRAWN, S.FAILED, S.LOST},
    S.MINTING: {S.MINTING, S.REGISTERED, S.BUSY, S.DONE, S.FAILED, S.LOST},
    S.REGISTERED: {S.MINTING, S.BUSY, S.DONE, S.FAILED, S.LOST, S.RETIRED},
    S.BUSY: {S.BUSY, S.DONE},
}


def claim_in(state: ClaimState, **facts: object) -> Claim:
    made = Claim(
        id=ClaimId("c1"),
        group=GroupId(1),
        pool="linux",
        owner="octo",
        machine="m1",
        boot="b1",
        key="k1",
        state=state,
        state_at=0.0,
        heard_at=0.0,
        made_at=NOON,
    )
    return msgspec.structs.replace(made, **facts)


@pytest.mark.parametrize(("before", "to"), list(product(ClaimState, ClaimState)))
def test_a_claim_moves_along_the_edges_of_the_table_only(before: ClaimState, to: ClaimState):
    claim = claim_in(before, unattributed=True, detail="old")
    if to in EDGES.get(before, set()):
        after = advanced(claim, to, 5.0)
        assert (after.state, after.state_at, after.unattributed) == (to, 5.0, False)
        assert after.detail == "old"
    else:
        with pytest.raises(StaleClaim, match=f"is {before}, so it cannot become {to}"):
            advanced(claim, to, 5.0)


@pytest.mark.parametrize(
    ("claim", "supply", "sure"),
    [
        (claim_in(S.CLAIMED), 1, 0),
        (claim_in(S.MINTING), 1, 1),
        (claim_in(S.REGISTERED), 1, 1),
        (claim_in(S.BUSY, unattributed=True), 1, 1),
        (claim_in(S.BUSY), 0, 0),
        *((claim_in(end, registrations=1), 0, 0) for end in S if end not in LIVE),
    ],
)
def test_supply_is_what_may_still_serve_a_queued_job(claim: Claim, supply: int, sure: int):
    assert (claim.supply, claim.sure) == (supply, sure)


@pytest.mark.parametrize(
    ("claim", "used"),
    [
        *((claim_in(state, finished=finished), 1) for state in LIVE for finished in (True, False)),
        (claim_in(S.DONE, registrations=1), 1),
        (claim_in(S.DONE, registrations=1, finished=True), 0),
        (claim_in(S.LOST, registrations=0), 0),
    ],
)
def test_a_slot_is_taken_until_the_runner_is_known_to_be_gone(claim: Claim, used: int):
    assert claim.used == used


def test_a_detail_given_replaces_the_old_one():
    assert advanced(claim_in(S.CLAIMED, detail="old"), S.LOST, 1.0, detail="new").detail == "new"


def test_a_runners_name_fits_github():
    name = runner_name("mayfly", ClaimId("0" * 26), 12)
    assert name == "mayfly-00000000000000000000000000-12"
    assert len(name) <= 64
