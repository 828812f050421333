"""The operator API: what there is, why, who may, and what happens now."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from mayfly.model.access import AccessRule
from mayfly.model.changes import PoolUse
from mayfly.model.errors import Permanent, Transient
from mayfly.model.jobs import JobState
from mayfly.ports import AccessRules
from tests.fakes.stalls import SUSPENDED, stalled_by_github
from tests.fakes.web import World, admitted_job, world

GRANT = {"owner": "octo", "repository": "hello", "label": "linux"}


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def ask(here: World, method: str, path: str, json: Any = None) -> Any:
    return await here.client.request(method, path, json=json, headers=here.bearer("operator"))


async def get(here: World, path: str) -> Any:
    return await ask(here, "GET", path)


async def test_a_waiting_job_shows_its_pool_and_how_long_it_waits(here: World):
    (job,) = (await get(here, "/v1/jobs")).json()
    assert (job["id"], job["attempt"], job["state"]) == (1, 1, "queued")
    assert (job["decision"], job["pool"], job["repository"]) == ("admitted", "linux", "octo/hello")
    assert job["waited_seconds"] == 60
    assert job["created_at"] == "2026-11-22T11:59:00Z"


async def test_jobs_are_filtered_by_state_and_pool(here: World):
    await here.plane.ledger.record([admitted_job(JobState.COMPLETED, 2)])
    assert [job["id"] for job in (await get(here, "/v1/jobs?state=completed")).json()] == [2]
    assert [job["id"] for job in (await get(here, "/v1/jobs?state=QUEUED")).json()] == [1]
    assert len((await get(here, "/v1/jobs?pool=Linux")).json()) == 2
    assert (await get(here, "/v1/jobs?pool=arm64")).json() == []
    assert len((await get(here, "/v1/jobs?limit=1")).json()) == 1
    await here.plane.ledger.record([admitted_job(JobState.COMPLETED, 3)])
    assert len((await get(here, "/v1/jobs?state=completed&limit=1")).json()) == 1


@pytest.mark.parametrize(
    ("path", "status", "names"),
    [
        ("/v1/jobs?state=done", 400, "in_progress"),
        ("/v1/jobs?limit=0", 400, "limit"),
        ("/v1/jobs?limit=1001", 400, "limit"),
        ("/v1/jobs?limit=many", 400, "limit"),
        ("/v1/jobs?pool=gpu", 404, "known pools: linux, arm64"),
        ("/v1/jobs/7", 404, "7"),
        ("/v1/jobs/7/explain", 404, "7"),
        ("/v1/stalled?limit=0", 400, "limit"),
        ("/v1/jobs/0", 400, "job_id"),
        (f"/v1/jobs/{2**63}", 400, "job_id"),
        ("/v1/jobs/one", 404, "/v1/jobs/one"),
        ("/v1/nothing", 404, "/v1/nothing"),
        ("/v1/access/check?owner=octo", 400, "Missing required"),
    ],
)
async def test_what_cannot_be_answered_says_why(here: World, path: str, status: int, names: str):
    answer = await get(here, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail"}
    assert names in answer.json()["detail"]


async def test_every_attempt_of_a_job_is_shown(here: World):
    attempts = (await get(here, "/v1/jobs/1")).json()
    assert [attempt["attempt"] for attempt in attempts] == [1]


async def test_a_job_is_explained(here: World):
    explanation = (await get(here, "/v1/jobs/1/explain")).json()
    assert explanation["job_id"] == 1
    assert explanation["summary"]
    assert any("linux" in fact for fact in explanation["facts"])


async def test_a_stalled_group_shows_why_and_a_job_to_retry(here: World):
    assert (await get(here, "/v1/stalled")).json() == []
    await stalled_by_github(here.plane.ledger, first=11)
    assert (await get(here, "/v1/stalled")).json() == [
        {
            "pool": "linux",
            "scope": "repos/octo/hello",
            "labels": ["linux", "self-hosted"],
            "queued": 5,
            "job_id": 11,
            "failures": 5,
            "machines": [],
            "reason": SUSPENDED,
        }
    ]


async def test_a_retry_forgets_and_rings_and_names_its_caller(here: World):
    await stalled_by_github(here.plane.ledger, first=11)
    async with here.plane.news.subscribe() as items:
        answer = await ask(here, "POST", "/v1/jobs/11/retry")
        item = await anext(items)
    assert (answer.status_code, answer.json()["failures"]) == (200, 5)
    assert SUSPENDED in answer.json()["sentence"]
    assert (item.event, item.fields["who"]) == ("group.retried", "operator")
    assert (await get(here, "/v1/stalled")).json() == []
    leased = await here.client.post(
        "/v1/pools/linux/lease", json={}, headers=here.bearer("executor")
    )
    assert leased.status_code == 200, "an executor that waits is told"


async def test_a_retry_that_changes_nothing_is_a_conflict(here: World):
    await here.plane.ledger.record([admitted_job(JobState.COMPLETED, 2)])
    answer = await ask(here, "POST", "/v1/jobs/2/retry")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:mayfly:problem:conflict")
    assert answer.json()["detail"].startswith("job 2 has ended")
    assert (await ask(here, "POST", "/v1/jobs/7/retry")).status_code == 404


async def test_a_runner_shows_its_claim_machine_and_newest_name(here: World):
    for _ in range(2):
        mint = await here.plane.ledger.minting(here.claim.id, "b1", "mayfly")
    (runner,) = (await get(here, "/v1/runners")).json()
    assert (runner["claim"], runner["machine"], runner["state"]) == (here.claim.id, "m1", "minting")
    assert runner["runner"] == mint.name
    assert mint.claim.generation == 2


async def test_a_pool_shows_settings_and_use(here: World):
    linux, arm = (await get(here, "/v1/pools")).json()
    assert (linux["name"], linux["max"], linux["used"], linux["queued"]) == ("linux", 4, 1, 1)
    assert (arm["name"], arm["used"], arm["open"]) == ("arm64", 0, 0)


async def test_a_rule_is_granted_checked_listed_and_revoked(here: World):
    check = "/v1/access/check?owner=OCTO&repository=Hello&label=linux"
    assert (await get(here, check)).json()["allowed"] is False
    granted = await ask(here, "PUT", "/v1/access", GRANT)
    assert (granted.status_code, granted.json()["text"]) == (
        200,
        "AllowRepository octo/hello → linux",
    )
    assert (await get(here, check)).json()["allowed"] is True
    assert [rule["repository"] for rule in (await get(here, "/v1/access")).json()] == ["hello"]
    path = "/v1/access?owner=octo&repository=hello&label=linux"
    assert (await ask(here, "DELETE", path)).status_code == 204
    assert (await get(here, check)).json()["allowed"] is False
    assert (await ask(here, "DELETE", path)).status_code == 404


async def test_queued_jobs_are_decided_again_when_the_rules_change(here: World):
    await ask(here, "PUT", "/v1/access", GRANT)
    assert here.intake.reviews == 1
    await ask(here, "DELETE", "/v1/access?owner=octo&repository=hello&label=linux")
    assert here.intake.reviews == 2


async def test_a_refused_check_says_what_to_do(here: World):
    path = "/v1/access/check?owner=octo&repository=hello&label=LINUX"
    assert "mayfly access allow octo/hello linux" in (await get(here, path)).json()["sentence"]


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ({**GRANT, "label": "gpu"}, 404),
        ({**GRANT, "owner": ""}, 400),
        ({**GRANT, "owner": "octo/hello"}, 400),
        ({**GRANT, "owner": "octo\n"}, 400),
        ({**GRANT, "repository": "a b"}, 400),
        ({**GRANT, "repository": "r" * 101}, 400),
        ({**GRANT, "declared": True}, 400),
        ({"owner": "octo"}, 400),
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(here: World, order: Any, status: int):
    assert (await ask(here, "PUT", "/v1/access", order)).status_code == status
    assert (await get(here, "/v1/access")).json() == []


class DeclaredRules:
    """Rules that stand in mayfly.toml, so that nobody changes them here."""

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        return None

    async def rules(self) -> list[AccessRule]:
        return []

    async def grant(self, rule: AccessRule) -> None:
        raise Permanent(f"{rule} is declared in mayfly.toml; change it there")

    async def revoke(self, rule: AccessRule) -> bool:
        raise Permanent(f"{rule} is declared in mayfly.toml; change it there")


async def test_a_declared_rule_is_changed_in_the_file_only():
    rules: AccessRules = DeclaredRules()
    async with world(access=rules) as here:
        for method, path, json in (
            ("PUT", "/v1/access", GRANT),
            ("DELETE", "/v1/access?owner=octo&label=linux", None),
        ):
            answer = await ask(here, method, path, json)
            assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")
            assert "mayfly.toml" in answer.json()["detail"]


async def test_a_method_that_is_not_served_names_those_that_are(here: World):
    answer = await ask(here, "POST", "/v1/jobs")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.json()["type"] == "urn:mayfly:problem:wrong-method"
    assert (await ask(here, "OPTIONS", "/v1/jobs")).headers["allow"] == "GET, OPTIONS"
    allowed = (await ask(here, "OPTIONS", "/v1/access")).headers["allow"]
    assert allowed == "DELETE, GET, OPTIONS, PUT"


async def test_a_large_request_is_refused(here: World):
    answer = await ask(here, "PUT", "/v1/access", {**GRANT, "owner": "o" * 70_000})
    assert (answer.status_code, answer.json()["status"]) == (413, 413)


class SilentLedger:
    """A store that never answers."""

    async def pools(self) -> Mapping[str, PoolUse]:
        await asyncio.Event().wait()
        raise AssertionError


class BrokenBus:
    """A bus whose error holds a password."""

    async def depth(self, subject: str) -> int:
        raise ConnectionError("amqp://mayfly:hunter2@bus")


async def test_readiness_names_what_does_not_answer_and_no_secret():
    ledger: Any = SilentLedger()
    bus: Any = BrokenBus()
    async with world(ledger=ledger, bus=bus) as here:
        answer = await get(here, "/readyz")
        assert answer.status_code == 503
        assert answer.json()["title"] == "Not ready"
        assert "store: no answer" in answer.json()["detail"]
        assert "bus, pool linux: ConnectionError" in answer.json()["detail"]
        assert "hunter2" not in answer.text


async def test_a_healthy_plane_is_ready(here: World):
    assert (await get(here, "/readyz")).json() == {"status": "ready"}


class FailingLedger:
    """A store that has gone away for a while."""

    async def pools(self) -> Mapping[str, PoolUse]:
        raise Transient("the database is locked")


async def test_figures_are_told_even_when_the_store_is_away():
    ledger: Any = FailingLedger()
    async with world(ledger=ledger) as here:
        answer = await get(here, "/metrics")
        assert answer.status_code == 200
        assert 'mayfly_pool_used_runners{pool="linux"} NaN' in answer.text
        assert 'mayfly_pool_stalled_groups{pool="linux"} NaN' in answer.text


async def test_figures_show_the_use_of_pools_and_no_repository(here: World):
    await here.plane.ledger.record([admitted_job(JobState.QUEUED, 2)])
    answer = await get(here, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'mayfly_pool_queued_jobs{pool="linux"} 2.0' in answer.text
    assert 'mayfly_pool_used_runners{pool="linux"} 1.0' in answer.text
    for name in ("octo", "hello"):
        assert name not in answer.text


async def test_figures_show_what_is_stalled(here: World):
    await stalled_by_github(here.plane.ledger, first=11)
    answer = await get(here, "/metrics")
    assert 'mayfly_pool_stalled_groups{pool="linux"} 1.0' in answer.text
    assert 'mayfly_pool_stalled_groups{pool="arm64"} 0.0' in answer.text


async def test_an_error_of_ours_leaks_nothing():
    class Broken:
        async def jobs(self, limit: int, pool: str | None = None) -> list[Any]:
            raise RuntimeError("hunter2")

    ledger: Any = Broken()
    async with world(ledger=ledger) as broken:
        answer = await get(broken, "/v1/jobs")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    for leak in ("hunter2", "Traceback", "RuntimeError", ".py"):
        assert leak not in answer.text
