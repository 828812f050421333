"""ports.AccessRules: who may use which pool, by every backend and by mayfly.toml."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection

from mayfly import database as databases
from mayfly.database import open_database
from mayfly.database.sqlite import Database
from mayfly.model.access import AccessRule
from mayfly.model.errors import Permanent
from mayfly.ports import AccessRules
from mayfly.store.access import SqlAccessRules
from mayfly.store.declared import DeclaredAccessRules
from tests.fakes.clocks import ManualClock

T = TypeVar("T")
OWNER = AccessRule(owner="Octo", label="linux")
REPOSITORY = AccessRule(owner="Octo", repository="Hello", label="linux")


async def test_nobody_is_allowed_by_default(access: AccessRules):
    assert await access.find("octo", "hello", "linux") is None
    assert await access.rules() == []


@pytest.mark.parametrize(
    ("rule", "repository", "allowed"),
    [
        (OWNER, "hello", True),
        (OWNER, "world", True),
        (REPOSITORY, "hello", True),
        (REPOSITORY, "HELLO", True),
        (REPOSITORY, "world", False),
        (REPOSITORY, "hello2", False),
    ],
)
async def test_a_rule_covers_its_owner_or_its_repository(
    access: AccessRules, rule: AccessRule, repository: str, allowed: bool
):
    await access.grant(rule)
    found = await access.find("oCTO", repository, "LINUX")
    assert found == (rule if allowed else None)


async def test_a_rule_covers_no_other_pool_and_no_other_owner(access: AccessRules):
    await access.grant(OWNER)
    assert await access.find("octo", "hello", "arm64") is None
    assert await access.find("octo2", "hello", "linux") is None


async def test_the_rule_for_the_owner_is_named_before_a_finer_one(access: AccessRules):
    await access.grant(REPOSITORY)
    await access.grant(OWNER)
    assert await access.find("octo", "hello", "linux") == OWNER
    assert await access.revoke(OWNER)
    assert await access.find("octo", "hello", "linux") == REPOSITORY


async def test_a_grant_is_idempotent_without_regard_to_case(access: AccessRules):
    await access.grant(REPOSITORY)
    await access.grant(AccessRule(owner="OCTO", repository="hello", label="Linux"))
    assert await access.rules() == [REPOSITORY]


async def test_revoke_says_whether_there_was_such_a_rule(access: AccessRules):
    await access.grant(OWNER)
    assert not await access.revoke(REPOSITORY)
    assert await access.revoke(AccessRule(owner="octo", label="LINUX"))
    assert not await access.revoke(OWNER)
    assert await access.find("octo", "hello", "linux") is None


async def test_rules_come_sorted(access: AccessRules):
    for owner in ("zeta", "alpha", "mike"):
        await access.grant(AccessRule(owner=owner, label="linux"))
    assert [rule.owner for rule in await access.rules()] == ["alpha", "mike", "zeta"]


# Declared in mayfly.toml


def declared(beneath: AccessRules) -> DeclaredAccessRules:
    return DeclaredAccessRules((OWNER,), beneath)


async def test_a_declared_rule_allows_and_is_shown_as_declared(access: AccessRules):
    rules = declared(access)
    found = await rules.find("octo", "any", "linux")
    assert found is not None
    assert found.declared
    assert "declared in mayfly.toml" in str(found)
    assert [rule.declared for rule in await rules.rules()] == [True]
    assert await access.rules() == [], "it is not copied into the store"


async def test_a_declared_rule_cannot_be_changed_at_run_time(access: AccessRules):
    rules = declared(access)
    same = AccessRule(owner="OCTO", label="Linux")
    for change in (rules.grant, rules.revoke):
        with pytest.raises(Permanent, match=r"declared in mayfly\.toml; change it there"):
            await change(same)


async def test_rules_beside_the_declared_ones_can_change(access: AccessRules):
    rules = declared(access)
    other = AccessRule(owner="other", label="linux")
    await rules.grant(other)
    assert await rules.find("other", "x", "linux") == other
    assert len(await rules.rules()) == 2
    assert await rules.revoke(other)
    assert await rules.find("other", "x", "linux") is None


# Two control planes on one file


async def test_another_process_grant_and_revocation_are_seen_within_a_second(tmp_path: Path):
    path, clock = tmp_path / "mayfly.db", ManualClock()
    async with open_database(f"sqlite:///{path}") as ours:
        other = Database(str(path))
        try:
            here, there = SqlAccessRules(ours, clock), SqlAccessRules(other, clock)
            assert await here.find("octo", "hello", "linux") is None
            await there.grant(OWNER)
            clock.advance(1.001)
            assert await here.find("octo", "hello", "linux") == OWNER
            await there.revoke(OWNER)
            clock.advance(1.001)
            assert await here.find("octo", "hello", "linux") is None
        finally:
            await other.close()


class SlowReader:
    """A database whose first answers arrive when a test lets them."""

    def __init__(self, database: databases.Database, slow: int = 1000) -> None:
        self._database = database
        self._slow = slow
        self.read_already = asyncio.Event()
        self.arrive = asyncio.Event()

    async def read(self, step: Callable[[Connection], T]) -> T:
        answer = await self._database.read(step)
        self.read_already.set()
        self._slow -= 1
        if self._slow >= 0:
            await self.arrive.wait()
        return answer

    async def write(self, step: Callable[[Connection], T]) -> T:
        return await self._database.write(step)


async def test_a_grant_is_seen_at_once_although_an_older_look_is_under_way(tmp_path: Path):
    async with open_database(f"sqlite:///{tmp_path}/mayfly.db") as database, asyncio.timeout(10):
        slow: Any = SlowReader(database)
        rules = SqlAccessRules(slow, ManualClock())
        older = asyncio.create_task(rules.find("octo", "hello", "linux"))
        await slow.read_already.wait()
        await rules.grant(OWNER)
        slow.arrive.set()
        assert await older is None
        assert await rules.find("octo", "hello", "linux") == OWNER


async def test_a_look_that_was_overtaken_does_not_bring_older_rules_back(tmp_path: Path):
    async with open_database(f"sqlite:///{tmp_path}/mayfly.db") as database, asyncio.timeout(10):
        slow: Any = SlowReader(database, slow=1)
        clock = ManualClock()
        here, there = SqlAccessRules(slow, clock), SqlAccessRules(database, clock)
        older = asyncio.create_task(here.rules())
        await slow.read_already.wait()
        await there.grant(OWNER)
        assert await here.rules() == [OWNER]
        slow.arrive.set()
        assert await older == []
        assert await here.find("octo", "hello", "linux") == OWNER
