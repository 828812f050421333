"""The executor API: long polls that end in time, errors that executors can act on."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from mayfly.model.errors import (
    GitHubRefused,
    NotFound,
    Permanent,
    RateLimited,
    RefusalKind,
    StaleClaim,
    Transient,
)
from mayfly.model.requests import LEASE_TIME, RunnerRequest
from tests.fakes.web import World, world

LEASE = "/v1/pools/linux/lease"
CLAIM_ORDER = {"pool": "linux", "machine": "m1", "boot": "b1", "key": "k1"}


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def post(here: World, path: str, order: Any) -> Any:
    return await here.client.post(
        path.replace("CLAIM", here.claim.id), json=order, headers=here.bearer("executor")
    )


async def test_a_lease_that_waits_is_handed_out_at_once(here: World):
    await here.plane.bus.publish([RunnerRequest(pool="linux")])
    answer = await post(here, LEASE, {})
    assert answer.status_code == 200
    assert answer.json()["lease"]
    assert await here.plane.bus.depth("linux") == 0


@pytest.mark.parametrize("wait", [0, -5, 0.01])
async def test_nobody_rang_is_an_empty_answer(here: World, wait: float):
    answer = await post(here, LEASE, {"wait_seconds": wait})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_wait_is_bounded_whatever_the_executor_asks_for():
    async with world(longest_wait=timedelta(milliseconds=10)) as here:
        answer = await asyncio.wait_for(post(here, LEASE, {"wait_seconds": 1e9}), 5)
        assert answer.status_code == 204


async def test_a_pool_is_named_without_regard_to_case(here: World):
    await here.plane.bus.publish([RunnerRequest(pool="linux")])
    assert (await post(here, "/v1/pools/LINUX/lease", {})).status_code == 200


class Executor:
    """An executor whose connection a test holds in its hands."""

    def __init__(self, here: World) -> None:
        self.sent: list[Any] = []
        self.gone = asyncio.Event()
        self.waiting = asyncio.Event()
        self._body: list[bytes] = [b'{"wait_seconds":30}']
        self._here = here

    async def receive(self) -> Any:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        self.waiting.set()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def ask(self) -> None:
        headers = {**self._here.bearer("executor"), "content-type": "application/json"}
        scope: Any = {
            "type": "http",
            "method": "POST",
            "path": LEASE,
            "raw_path": LEASE.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await self._here.app(scope, self.receive, self.send)


async def test_a_ring_ends_the_wait(here: World):
    executor = Executor(here)
    asking = asyncio.create_task(executor.ask())
    await asyncio.wait_for(executor.waiting.wait(), 5)
    await here.plane.bus.publish([RunnerRequest(pool="linux")])
    await asyncio.wait_for(asking, 30)
    assert executor.sent[0]["status"] == 200


async def test_the_wait_ends_when_the_server_stops(here: World):
    executor = Executor(here)
    asking = asyncio.create_task(executor.ask())
    await asyncio.wait_for(executor.waiting.wait(), 5)
    here.app.end_waits()
    await asyncio.wait_for(asking, 30)
    assert executor.sent[0]["status"] == 204


async def test_the_wait_ends_when_the_client_is_gone_and_takes_no_later_ring(here: World):
    executor = Executor(here)
    asking = asyncio.create_task(executor.ask())
    await asyncio.wait_for(executor.waiting.wait(), 5)
    executor.gone.set()
    await asyncio.wait_for(asking, 30)
    await here.plane.bus.publish([RunnerRequest(pool="linux")])
    assert await here.plane.bus.depth("linux") == 1


async def test_a_lease_for_a_client_that_is_gone_comes_back(here: World):
    executor = Executor(here)
    executor.gone.set()
    await here.plane.bus.publish([RunnerRequest(pool="linux")])
    await asyncio.wait_for(executor.ask(), 5)
    assert await here.plane.bus.depth("linux") == 1


async def leased(here: World, caller: str, pool: str) -> str:
    """What an executor is handed out for a runner request of the pool."""
    await here.plane.bus.publish([RunnerRequest(pool=pool)])
    answer = await here.client.post(f"/v1/pools/{pool}/lease", json={}, headers=here.bearer(caller))
    return str(answer.json()["lease"])


async def test_a_lease_is_completed_or_abandoned_by_who_is_bound_to_its_pool(here: World):
    done, back = await leased(here, "executor", "linux"), await leased(here, "executor", "linux")
    for _ in range(2):
        assert (await post(here, "/v1/leases/complete", {"lease": done})).status_code == 204
        assert (await post(here, "/v1/leases/abandon", {"lease": back})).status_code == 204
    assert await here.plane.bus.depth("linux") == 1
    here.clock.advance(LEASE_TIME.total_seconds())
    assert await here.plane.bus.depth("linux") == 1


@pytest.mark.parametrize("path", ["/v1/leases/complete", "/v1/leases/abandon", "/v1/claims"])
async def test_a_lease_of_another_pool_is_not_settled(here: World, path: str):
    foreign = await leased(here, "stranger", "arm64")
    order = {**CLAIM_ORDER, "lease": foreign} if path == "/v1/claims" else {"lease": foreign}
    answer = await post(here, path, order)
    assert answer.status_code == 403
    assert await here.plane.bus.depth("arm64") == 0, "its holder still has it"
    here.clock.advance(LEASE_TIME.total_seconds())
    assert await here.plane.bus.depth("arm64") == 1


async def test_nothing_to_do_is_an_empty_answer(here: World):
    answer = await post(here, "/v1/claims", CLAIM_ORDER)
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_claim_is_granted(here: World):
    here.claims.granted = "01abc"
    answer = await post(here, "/v1/claims", CLAIM_ORDER)
    assert answer.status_code == 201
    assert answer.json()["claim"] == "01abc"


async def test_a_registration_is_not_stored_anywhere_on_its_way(here: World):
    answer = await post(here, "/v1/claims/CLAIM/registration", {"boot": "b1"})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert answer.json()["jit_config"] == "a-jit-config"


async def test_the_other_verbs_answer_as_documented(here: World):
    beat = await post(here, "/v1/claims/CLAIM/heartbeat", {"boot": "b1"})
    assert (beat.status_code, beat.json()["order"]) == (200, "continue")
    order = {"boot": "b1", "repository": "octo/hello", "run_id": 9, "run_attempt": 1}
    began = await post(here, "/v1/claims/CLAIM/started", order)
    assert (began.status_code, began.json()["allowed"]) == (200, True)
    ended = await post(here, "/v1/claims/CLAIM/finish", {"boot": "b1", "outcome": "done"})
    assert (ended.status_code, ended.content) == (204, b"")


async def test_a_long_story_at_the_end_is_cut_not_refused(here: World):
    order = {"boot": "b1", "outcome": "failed", "detail": "no\x00 space\n" * 1000}
    assert (await post(here, "/v1/claims/CLAIM/finish", order)).status_code == 204
    (finished,) = here.claims.finished
    assert len(finished.detail) == 1000
    assert finished.detail.isprintable()


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (StaleClaim("claim 1 is done"), 410, "stale-claim"),
        (Transient("the database is locked"), 503, "try-again"),
        (RateLimited("too many"), 503, "try-again"),
        (GitHubRefused(RefusalKind.SUSPENDED, "ask the owner"), 502, "github-refused"),
        (NotFound("there is none"), 404, "not-found"),
        (Permanent("it cannot be"), 422, "not-possible"),
    ],
)
@pytest.mark.parametrize("verb", ["heartbeat", "registration"])
async def test_every_error_has_its_status_and_a_problem(
    here: World, error: Exception, status: int, kind: str, verb: str
):
    here.claims.failure = error
    answer = await post(here, f"/v1/claims/CLAIM/{verb}", {"boot": "b1"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": f"urn:mayfly:problem:{kind}",
        "title": answer.json()["title"],
        "status": status,
        "detail": str(error),
    }
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_retry_after_is_when_the_error_says(here: World):
    until = here.clock.time + timedelta(seconds=90)
    here.claims.failure = RateLimited("too many", retry_at=until)
    answer = await post(here, "/v1/claims/CLAIM/registration", {"boot": "b1"})
    assert answer.headers["retry-after"] == "90"


@pytest.mark.parametrize(
    "order",
    [
        None,
        [],
        {},
        {**CLAIM_ORDER, "surprise": 1},
        {**CLAIM_ORDER, "machine": 7},
        {**CLAIM_ORDER, "machine": "a\x00b"},
        {**CLAIM_ORDER, "machine": ""},
        {**CLAIM_ORDER, "boot": ""},
        {**CLAIM_ORDER, "key": ""},
        {**CLAIM_ORDER, "key": "k" * 1001},
        {**CLAIM_ORDER, "variants": ["a\nb"]},
    ],
)
async def test_an_unusable_order_is_refused_with_the_field(here: World, order: Any):
    answer = await post(here, "/v1/claims", order)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:mayfly:problem:invalid-request"


@pytest.mark.parametrize("verb", ["heartbeat", "registration"])
async def test_an_executor_without_a_boot_is_refused(here: World, verb: str):
    answer = await post(here, f"/v1/claims/CLAIM/{verb}", {"boot": ""})
    assert answer.status_code == 400
    assert "boot" in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"{", b'{"machine":"\xe9"}', b"[" * 30_000])
async def test_a_body_that_cannot_be_decoded_is_refused(here: World, body: bytes):
    headers = {**here.bearer("executor"), "content-type": "application/json"}
    answer = await here.client.post("/v1/claims", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:mayfly:problem:invalid-request"


@pytest.mark.parametrize(
    "error", [RecursionError("too deep"), UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "no")]
)
async def test_the_same_errors_from_anywhere_else_are_our_own(here: World, error: Exception):
    here.claims.failure = error
    assert (await post(here, "/v1/claims", CLAIM_ORDER)).status_code == 500


async def test_a_wrong_type_names_its_field(here: World):
    answer = await post(here, "/v1/claims", {**CLAIM_ORDER, "machine": 7})
    assert "machine" in answer.json()["detail"]


@pytest.mark.parametrize("run_id", [0, -1, 2**63])
async def test_a_run_that_cannot_be_is_refused(here: World, run_id: int):
    order = {"boot": "b1", "repository": "octo/hello", "run_id": run_id, "run_attempt": 1}
    assert (await post(here, "/v1/claims/CLAIM/started", order)).status_code == 400


async def test_a_claim_nobody_made_is_not_found(here: World):
    answer = await post(here, "/v1/claims/nobody/heartbeat", {"boot": "b1"})
    assert answer.status_code == 404
