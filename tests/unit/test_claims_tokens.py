"""Token mode at the control plane: what goes out, when, and what has to come back."""

from collections.abc import AsyncIterator

import pytest

from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    Permanent,
    RefusalKind,
    StaleClaim,
    Transient,
)
from mayfly.model.protocol import ConfiguredOrder, Entrusted, FinishOrder, Outcome
from mayfly.model.runners import ClaimId, ClaimState
from tests.fakes.engine import Engine, opened_engine
from tests.fakes.factories import now_of
from tests.unit.test_claims import BOOT, granted, registered, unproven

LABELS = ("self-hosted", "linux")


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with opened_engine() as made:
        yield made


async def entrusted(engine: Engine) -> tuple[ClaimId, Entrusted]:
    await engine.queue()
    claim = ClaimId((await granted(engine)).claim)
    return claim, await engine.claims.entrust(claim, BOOT)


def configured(order: Entrusted, boot: str = BOOT, later: int = 0) -> ConfiguredOrder:
    return ConfiguredOrder(boot=boot, generation=order.generation + later)


async def state(engine: Engine, claim: ClaimId) -> ClaimState:
    return (await now_of(engine.ledger, claim)).state


async def test_a_token_comes_with_the_name_that_the_ledger_has_recorded(engine: Engine):
    claim, order = await entrusted(engine)
    assert order.token == "a-registration-token"
    assert order.token not in repr(order)
    assert (set(order.labels), order.url) == (set(LABELS), "https://github.com/octo/hello")
    (found,) = await engine.ledger.unproven()
    assert (found.name, found.token_until is not None) == (order.name, True)
    assert engine.github.verbs("mint", "registration_token") == ["registration_token"]
    assert await state(engine, claim) is ClaimState.MINTING


async def test_a_runner_that_was_configured_is_registered_with_its_id(engine: Engine):
    claim, order = await entrusted(engine)
    engine.github.configure(order.name, *LABELS)
    for _ in range(2):  # a reply that was lost costs nothing
        await engine.claims.configured(claim, configured(order))
    assert await state(engine, claim) is ClaimState.REGISTERED
    (found,) = await engine.ledger.unproven()
    assert found.github_id == engine.github.registered[order.name].id
    assert engine.github.verbs("delete_runner") == []


async def test_a_program_that_registered_nothing_is_told_apart_from_a_silent_github(
    engine: Engine,
):
    claim, order = await entrusted(engine)
    engine.github.fail_before("find_runner")
    with pytest.raises(GitHubUnreachable):
        await engine.claims.configured(claim, configured(order))
    with pytest.raises(Permanent, match=r"does not show a runner .* under the \{name\}"):
        await engine.claims.configured(claim, configured(order))
    assert await state(engine, claim) is ClaimState.MINTING


@pytest.mark.parametrize("labels", [("self-hosted",), (*LABELS, "X64"), ()])
async def test_a_runner_with_other_labels_is_refused(engine: Engine, labels: tuple[str, ...]):
    claim, order = await entrusted(engine)
    engine.github.configure(order.name, *labels)
    with pytest.raises(Permanent, match="--no-default-labels"):
        await engine.claims.configured(claim, configured(order))
    last = FinishOrder(boot=BOOT, outcome=Outcome.FAILED, token_spent=True)
    await engine.claims.finish(claim, last)
    await engine.turns()
    assert engine.github.registered == {}
    assert await unproven(engine) == []


@pytest.mark.parametrize(("boot", "later"), [("another", 0), (BOOT, 1), (BOOT, -1)])
async def test_only_the_generation_in_hand_is_confirmed(engine: Engine, boot: str, later: int):
    claim, order = await entrusted(engine)
    engine.github.configure(order.name, *LABELS)
    with pytest.raises(StaleClaim):
        await engine.claims.configured(claim, configured(order, boot, later))
    assert await state(engine, claim) is ClaimState.MINTING


async def test_a_runner_configured_too_late_is_taken_back(engine: Engine):
    claim, order = await entrusted(engine)
    engine.github.configure(order.name, *LABELS)
    await engine.claims.finish(claim, FinishOrder(boot=BOOT, outcome=Outcome.STOPPED))
    with pytest.raises(StaleClaim):
        await engine.claims.configured(claim, configured(order))
    assert engine.github.registered == {}
    assert await unproven(engine) == []


async def test_no_token_goes_out_when_github_does_not_give_one(engine: Engine):
    await engine.queue()
    claim = ClaimId((await granted(engine)).claim)
    engine.github.fail_before("registration_token")
    with pytest.raises(Transient):
        await engine.claims.entrust(claim, BOOT)
    (found,) = await engine.ledger.unproven()
    assert found.token_until is None
    assert (await engine.claims.entrust(claim, BOOT)).generation == 2
    refusal = GitHubRefused(RefusalKind.MISSING_PERMISSION, "the App may not")
    engine.github.fail_before("registration_token", refusal)
    with pytest.raises(GitHubRefused):
        await engine.claims.entrust(claim, BOOT)
    assert await state(engine, claim) is ClaimState.FAILED


async def test_an_older_runner_of_a_lost_reply_is_deleted_first(engine: Engine):
    claim, first = await entrusted(engine)
    engine.github.configure(first.name, *LABELS)
    second = await engine.claims.entrust(claim, BOOT)
    assert second.name != first.name
    assert engine.github.registered == {}
    assert sorted(await unproven(engine)) == [first.name, second.name], "its token may live"


async def test_registering_by_jit_config_is_as_before(engine: Engine):
    _, made = await registered(engine)
    (found,) = await engine.ledger.unproven()
    assert (found.name, found.token_until) == (made.name, None)
