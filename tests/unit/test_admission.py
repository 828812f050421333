"""Admission: labels and access rules give a decision."""

import pytest

from mayfly.engine.admission import Admission
from mayfly.model.access import AccessRule, Admitted, Reason, Refused, Scope
from mayfly.model.pools import Convention, Pool, PoolScope
from mayfly.store.memory import MemoryAccessRules
from tests.fakes.factories import event

POOLS = (Pool(name="Linux"), Pool(name="wide", scope=PoolScope.ORGANIZATION))


async def admission(*rules: AccessRule) -> Admission:
    access = MemoryAccessRules()
    for rule in rules:
        await access.grant(rule)
    return Admission(POOLS, Convention.SEQUENCE, access)


async def test_a_rule_admits_and_is_named():
    rule = AccessRule(owner="octo", label="linux")
    decision = await (await admission(rule)).decide(event())
    assert decision == Admitted(
        pool="Linux", variant=None, scope=Scope("repos/octo/hello"), rule=str(rule)
    )


async def test_without_a_rule_nobody_gets_a_runner_and_is_told_how_to():
    decision = await (await admission()).decide(event())
    assert isinstance(decision, Refused)
    assert decision.reason is Reason.NOT_ALLOWED
    assert "mayfly access allow octo/hello Linux" in decision.sentence


async def test_labels_are_judged_before_rules():
    decision = await (await admission()).decide(event(labels=("ubuntu-latest",)))
    assert isinstance(decision, Refused)
    assert decision.reason is Reason.NOT_SELF_HOSTED


async def test_a_delivery_without_an_installation_is_refused():
    rule = AccessRule(owner="octo", label="linux")
    decision = await (await admission(rule)).decide(event(installation=None))
    assert isinstance(decision, Refused)
    assert decision.reason is Reason.NO_INSTALLATION


@pytest.mark.parametrize(
    ("pool", "repository", "organization", "scope"),
    [
        ("linux", None, True, "repos/octo/hello"),
        ("wide", None, True, "orgs/octo"),
        ("wide", "hello", True, "repos/octo/hello"),
        ("wide", None, False, "repos/octo/hello"),
    ],
)
async def test_organization_level_only_where_the_rule_covers_every_repository(
    pool: str, repository: str | None, organization: bool, scope: str
):
    asked = await admission(AccessRule(owner="octo", repository=repository, label=pool))
    decision = await asked.decide(
        event(labels=("self-hosted", pool), owner_is_organization=organization)
    )
    assert isinstance(decision, Admitted)
    assert decision.scope == scope
