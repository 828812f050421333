"""Access rules in Cosmos DB: others' documents, accounts that are away, keys that are wrong."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from secrets import token_hex
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from mayfly.model.access import AccessRule
from mayfly.model.errors import InvalidSettings, Permanent, Transient
from mayfly.ports import AccessRules
from mayfly.store.cosmos import (
    ASK_AGAIN,
    FRESH,
    LONGEST,
    CosmosAccessRules,
    open_access_rules,
)
from tests.fakes.answers import answering
from tests.fakes.backends import opened_cosmos
from tests.fakes.clocks import ManualClock
from tests.servers import cosmos
from tests.servers.cosmos import KEY, Cosmos

OWNER = AccessRule(owner="Octo", label="Linux")
REPOSITORY = AccessRule(owner="Octo", repository="Hello", label="linux")
NOBODY_HOME = "http://127.0.0.1:9"


class Opened(NamedTuple):
    """Rules of a database that is empty at first."""

    account: Cosmos
    database: str
    rules: AccessRules
    clock: ManualClock

    async def put(self, container: str, **document: object) -> None:
        await self.account.put(self.database, container, **document)

    async def later(self) -> None:
        """The snapshot is not fresh any more."""
        self.clock.advance(FRESH.total_seconds() + 1)


@pytest.fixture
async def opened(account: Cosmos) -> AsyncIterator[Opened]:
    database, clock = token_hex(8), ManualClock()
    await account.create(database)
    async with opened_cosmos(account, clock, database) as rules:
        yield Opened(account, database, rules, clock)


@pytest.fixture
def mortal() -> Iterator[Cosmos]:
    """An account that a test may kill."""
    with cosmos.running() as running:
        yield running


# Documents of others


async def test_documents_with_odd_case_and_other_fields_are_rules(opened: Opened):
    await opened.put("AllowOwner", id="x y", owner="OctO", label="LINUX", since=2019, note={"a": 1})
    await opened.put("AllowRepository", owner="mona", repo="Tools", label="gpu", repository="evil")
    await opened.later()
    assert await opened.rules.find("octo", "any", "linux") == AccessRule(
        owner="OctO", label="LINUX"
    )
    assert await opened.rules.find("MONA", "tools", "GPU") is not None
    assert await opened.rules.find("mona", "evil", "gpu") is None


@pytest.mark.parametrize(
    "document",
    [
        {"owner": "mona", "label": "gpu"},
        {"owner": "mona", "repo": None, "label": "gpu"},
        {"owner": "mona", "repo": "", "label": "gpu"},
        {"owner": "mona", "repo": 7, "label": "gpu"},
        {"owner": "mona", "repo": "tools"},
    ],
)
async def test_a_document_that_is_no_rule_allows_nothing_and_is_named_once(
    opened: Opened, document: dict[str, object]
):
    await opened.put("AllowRepository", id="odd", **document)
    await opened.put("AllowRepository", owner="mona", repo="good", label="gpu")
    with capture_logs() as said:
        for _ in range(2):
            assert [rule.repository for rule in await opened.rules.rules()] == ["good"]
    assert [(one["event"], one["document"]) for one in said] == [
        ("rule.skipped", "AllowRepository/odd")
    ]


async def test_a_grant_writes_no_second_document_for_a_rule_in_another_case(opened: Opened):
    await opened.put("AllowRepository", owner="OCTO", repo="hello", label="LINUX")
    await opened.rules.grant(REPOSITORY)
    assert len(await opened.account.documents(opened.database, "AllowRepository")) == 1


async def test_two_who_grant_the_same_rule_at_once_make_one_document(opened: Opened):
    async with opened_cosmos(opened.account, opened.clock, opened.database) as other:
        await asyncio.gather(other.grant(OWNER), opened.rules.grant(OWNER))
    (document,) = await opened.account.documents(opened.database, "AllowOwner")
    assert {**document, "id": ""} == {"id": "", "owner": "Octo", "label": "Linux"}


@pytest.mark.parametrize("key", ["/owner", "/id", "/label", "/tenant", "/note/by"])
async def test_a_revocation_deletes_every_document_of_the_rule_whatever_partitions_them(
    account: Cosmos, key: str
):
    database = token_hex(8)
    await account.create(database, key=key)
    await account.put(database, "AllowOwner", owner="OCTO", label="linux", note={"by": "me"})
    await account.put(database, "AllowOwner", owner="octo", label="LINUX", tenant="x")
    await account.put(database, "AllowOwner", owner="octo", label="gpu", tenant=None)
    async with opened_cosmos(account, ManualClock(), database) as rules:
        await rules.grant(OWNER)
        assert await rules.revoke(OWNER)
        assert await rules.find("octo", "hello", "linux") is None
        assert [str(rule) for rule in await rules.rules()] == ["AllowOwner octo → gpu"]
        assert not await rules.revoke(OWNER)


async def test_others_changes_are_seen_within_the_stated_time(opened: Opened):
    assert await opened.rules.find("octo", "hello", "linux") is None
    await opened.put("AllowOwner", owner="octo", label="linux")
    opened.clock.advance(FRESH.total_seconds())
    assert await opened.rules.find("octo", "hello", "linux") is None, "no query for each webhook"
    opened.clock.advance(0.001)
    assert await opened.rules.find("octo", "hello", "linux") is not None


# Missing containers


async def test_without_the_database_nobody_is_allowed_and_that_is_said_once(account: Cosmos):
    clock = ManualClock()
    with capture_logs() as said:
        async with opened_cosmos(account, clock, "nowhere") as rules:
            for _ in range(2):
                clock.advance(60)
                assert await rules.find("octo", "hello", "linux") is None
            assert not await rules.revoke(OWNER)
    assert [one["event"] for one in said] == ["container.missing"] * 2
    reasons = " ".join(sorted(one["reason"] for one in said))
    for container in ("AllowOwner", "AllowRepository"):
        assert f"container {container} in database nowhere" in reasons


async def test_a_grant_into_a_missing_container_says_how_to_make_it(account: Cosmos):
    database = token_hex(8)
    await account.create(database, ("AllowOwner",))
    async with opened_cosmos(account, ManualClock(), database) as rules:
        await rules.grant(OWNER)
        with pytest.raises(Permanent, match=r"az cosmosdb sql container create --name AllowRepo"):
            await rules.grant(REPOSITORY)
        assert await rules.rules() == [OWNER]


# Accounts that are away


async def test_rules_outlast_an_account_that_is_away_by_the_stated_time_and_no_longer(
    mortal: Cosmos,
):
    await mortal.create("GitHubWebHookDB")
    clock = ManualClock()
    async with opened_cosmos(mortal, clock) as rules:
        await rules.grant(OWNER)
        assert await rules.find("octo", "hello", "linux") == OWNER
        mortal.kill()
        with capture_logs() as said:
            clock.advance(LONGEST.total_seconds())
            assert await rules.find("octo", "hello", "linux") == OWNER
            clock.advance(0.001)
            with pytest.raises(Transient, match="cannot be reached"):
                await rules.find("octo", "hello", "linux")
        assert [one["event"] for one in said] == ["rules.unread"]
        mortal.start()
        await mortal.create("GitHubWebHookDB")
        with pytest.raises(Transient):
            await rules.find("octo", "hello", "linux")
        clock.advance(ASK_AGAIN.total_seconds())
        assert await rules.find("octo", "hello", "linux") is None, "the new account is empty"


async def test_after_a_change_of_our_own_older_rules_admit_nobody(mortal: Cosmos):
    await mortal.create("GitHubWebHookDB")
    async with opened_cosmos(mortal, ManualClock()) as rules:
        await rules.grant(OWNER)
        assert await rules.find("octo", "hello", "linux") == OWNER
        mortal.kill()
        with pytest.raises(Transient):
            await rules.revoke(OWNER)
        with pytest.raises(Transient):
            await rules.find("octo", "hello", "linux")


async def test_a_control_plane_starts_although_the_account_is_away():
    clock = ManualClock()
    with capture_logs() as said:
        async with open_access_rules(NOBODY_HOME, clock, database="d", key=KEY) as rules:
            for ask in (rules.rules(), rules.find("o", "r", "l"), rules.grant(OWNER)):
                with pytest.raises(Transient, match="cannot be reached"):
                    await ask
    assert [one["event"] for one in said] == ["rules.unread"]


class SlowAccount:
    """Answers when a test lets it."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = 0

    async def query(self, container: str, _: str) -> list[dict[str, str]]:
        self.asked += 1
        await self.may_answer.wait()
        return [{"owner": "octo", "label": "linux"}] if container == "AllowOwner" else []


async def test_nobody_waits_long_for_an_account_that_is_slow():
    account, clock = SlowAccount(), ManualClock()
    slow: Any = account
    wait = timedelta(seconds=1)
    rules = CosmosAccessRules(slow, clock, wait)

    async def ask() -> AccessRule | None:
        return await rules.find("octo", "hello", "linux")

    began = time.monotonic()
    answers = await asyncio.gather(*(ask() for _ in range(50)), return_exceptions=True)
    assert time.monotonic() - began < 2 * wait.total_seconds()
    assert all(isinstance(one, Transient) for one in answers)
    async with asyncio.timeout(wait.total_seconds() / 2):
        with pytest.raises(Transient, match="were not read within 1 s"):
            await ask()
    assert account.asked == 2, "once in each container"
    account.may_answer.set()
    assert len(await rules.rules()) == 1
    account.may_answer.clear()
    clock.advance(LONGEST.total_seconds())
    assert await ask() is not None, "by what was read before"
    async with asyncio.timeout(wait.total_seconds() / 2):
        assert await ask() is not None
    assert account.asked == 6
    await rules.close()


# Answers that are refusals

FIREWALL = b'{"code":"Forbidden","message":"This is blocked by your account firewall settings."}'


@pytest.mark.parametrize(
    ("status", "body", "headers", "sentence"),
    [
        (429, b"{}", {"x-ms-retry-after-ms": "60000"}, "did not answer within|HTTP 429"),
        (500, b"{}", {}, "answered HTTP 500"),
        (503, b"<html>", {}, "answered HTTP 503"),
        (403, FIREWALL, {}, "the firewall of .* keeps this machine out"),
        (404, b"{}", {"x-ms-substatus": "1002"}, "answered HTTP 404"),
        (200, b"not JSON", {}, "cannot be reached"),
    ],
)
async def test_what_passes_by_itself_makes_jobs_wait(
    status: int, body: bytes, headers: dict[str, str], sentence: str
):
    async with (
        answering(status, body, headers) as url,
        open_access_rules(url, ManualClock(), database="d", key=KEY) as rules,
    ):
        with pytest.raises(Transient, match=sentence):
            await rules.find("octo", "hello", "linux")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, r"does not accept the key; put the account's present one into \[access_rules\]"),
        (403, "Cosmos DB Built-in Data Reader, or Contributor to grant and revoke"),
    ],
)
async def test_a_key_or_a_right_that_is_wrong_at_start_is_a_setting_that_is_wrong(
    status: int, sentence: str
):
    async with answering(status) as url, AsyncExitStack() as stack:
        with pytest.raises(InvalidSettings, match=sentence):
            await stack.enter_async_context(
                open_access_rules(url, ManualClock(), database="d", key=KEY)
            )


@pytest.mark.parametrize(
    ("url", "key", "sentence"),
    [
        ("http://acc.documents.azure.com", KEY, "http:// goes only to this machine"),
        ("http://127.0.0.1.example.org", KEY, "http:// goes only to this machine"),
        ("https://user:pass@acc.documents.azure.com", KEY, "must be the account's endpoint"),
        ("acc.documents.azure.com", KEY, "must be the account's endpoint"),
        ("https://[", KEY, "must be the account's endpoint"),
        ("https://acc.documents.azure.com", "not base64!", "is not base64"),
    ],
)
async def test_settings_that_cannot_be_right_are_refused_before_anything_is_sent(
    url: str, key: str, sentence: str
):
    async with AsyncExitStack() as stack:
        with pytest.raises(InvalidSettings, match=sentence) as refused:
            await stack.enter_async_context(
                open_access_rules(url, ManualClock(), database="d", key=key)
            )
    assert key not in str(refused.value)
    assert "pass" not in str(refused.value)


async def test_the_key_is_in_no_error_and_in_no_log(mortal: Cosmos):
    key = base64.b64encode(b"a key that must not be seen anywhere").decode()
    await mortal.create("GitHubWebHookDB")
    seen: list[str] = []
    with capture_logs() as said:
        async with opened_cosmos(mortal, ManualClock(), key=key) as rules:
            mortal.kill()
            for ask in (rules.rules(), rules.grant(OWNER), rules.revoke(OWNER)):
                with pytest.raises(Transient) as failed:
                    await ask
                seen += [str(failed.value), repr(failed.value), repr(failed.value.__cause__)]
    assert seen
    assert key not in " ".join(seen)
    assert key not in str(said)
