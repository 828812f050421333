"""The delivery log and the lists of runs, in shapes no simulator gives."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from mayfly.github import webhook
from mayfly.model.deliveries import Attempt
from mayfly.model.errors import GitHubRefused, GitHubUnreachable, RefusalKind
from mayfly.model.jobs import JobState
from mayfly.model.repositories import Repository
from tests.fakes.budgets import virtually
from tests.fakes.canned_github import JOB, ONE, Reply, github, reply

ATTEMPT = {
    "id": 7_000_001,
    "guid": "0b989ba4-242f-11e5-81e1-c7b6966d2516",
    "delivered_at": "2025-11-03T12:00:00+02:00",
    "redelivery": False,
    "duration": 0.03,
    "status": "OK",
    "status_code": 202,
    "event": "workflow_job",
    "action": "queued",
    "installation_id": 1,
    "repository_id": 2,
}
LOG = "GET /app/hook/deliveries"


async def test_an_attempt_is_as_github_says():
    async with github({LOG: reply(200, [ATTEMPT])}) as (app, _):
        (attempt,) = [attempt async for attempt in app.deliveries()]
    assert attempt == Attempt(
        7_000_001,
        "0b989ba4-242f-11e5-81e1-c7b6966d2516",
        datetime(2025, 11, 3, 10, 0, tzinfo=UTC),
        "workflow_job",
        "queued",
        202,
        ONE,
    )
    assert attempt.succeeded


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        {},
        ATTEMPT | {"id": "7"},
        ATTEMPT | {"delivered_at": "yesterday"},
        ATTEMPT | {"delivered_at": "0001-01-01T00:00:00+14:00"},
        ATTEMPT | {"guid": None},
    ],
)
async def test_one_attempt_that_cannot_be_read_hides_no_other(odd):
    silent = ATTEMPT | {"id": 5, "status_code": None, "action": None, "installation_id": None}
    async with github({LOG: reply(200, [ATTEMPT, odd, silent])}) as (app, _):
        with capture_logs() as logs:
            found = [attempt async for attempt in app.deliveries()]
    assert [(one.id, one.status_code, one.action) for one in found] == [
        (7_000_001, 202, "queued"),
        (5, 0, ""),
    ]
    assert [entry["event"] for entry in logs] == ["attempt.skipped"]


async def test_the_delivery_log_is_followed_by_github_s_own_cursor():
    def page(request: httpx.Request) -> Reply:
        cursor = request.url.params.get("cursor")
        shown = ATTEMPT | {"id": {None: 3, "v1_2": 2, "v1_1": 1}[cursor]}
        following = {None: "v1_2", "v1_2": "v1_1"}.get(cursor)
        # Another name of the same server: the token stays here.
        link = f'<https://internal.example/x?per_page=1&cursor={following}>; rel="next"'
        return reply(200, [shown], link=link) if following else reply(200, [shown])

    async with github({LOG: page}) as (app, canned):
        assert [attempt.id async for attempt in app.deliveries()] == [3, 2, 1]
    assert {request.url.host for request in canned.requests} == {"ghe.example"}
    assert {request.url.params["per_page"] for request in canned.requests} == {"100"}


async def test_a_log_that_leads_in_a_circle_ends():
    link = '<https://ghe.example/api/v3/app/hook/deliveries?cursor=v1_2>; rel="next"'
    async with github({LOG: reply(200, [ATTEMPT], link=link)}) as (app, canned):
        assert len([attempt async for attempt in app.deliveries()]) == 2
    assert len(canned.requests) == 2


JOB_DELIVERY = {
    "action": "queued",
    "workflow_job": JOB | {"status": "queued"},
    "repository": {"name": "octo-repo", "owner": {"login": "octo-org", "type": "Organization"}},
    "installation": {"id": 1},
}
DELIVERY = "GET /app/hook/deliveries/7000001"


def delivered(payload: Any, **more: Any) -> httpx.Response:
    secret = {"X-Hub-Signature-256": "sha256=planted"}
    record = ATTEMPT | {"request": {"headers": secret, "payload": payload}} | more
    return httpx.Response(
        200, content=json.dumps(record), headers={"content-type": "application/json"}
    )


async def test_a_delivery_is_decoded_as_the_webhook_would_be():
    async with github({DELIVERY: delivered(JOB_DELIVERY)}) as (app, _):
        event = await app.delivery(7_000_001)
    assert event is not None
    assert (event.key, event.state) == ((11, 1), JobState.QUEUED)
    assert event.delivery == ATTEMPT["guid"]
    assert event.name == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    "answer",
    [
        delivered({"zen": "Keep it logically awesome."}, event="ping"),
        delivered(JOB_DELIVERY, event="check_run"),
        delivered({"action": "queued", "workflow_job": None}),
        delivered({}),
        delivered([]),
        delivered("text"),
    ],
    ids=repr,
)
async def test_what_is_not_used_is_nothing(answer):
    async with github({DELIVERY: answer}) as (app, _):
        assert await app.delivery(7_000_001) is None


@pytest.mark.parametrize(
    "change",
    [{"sender": 2**80}, {"workflow_job": JOB | {"head_branch": "\N{GHOST}"}}],
)
async def test_odd_payloads_are_decoded_as_the_webhook_would_decode_them(change):
    payload = JOB_DELIVERY | change
    async with github({DELIVERY: delivered(payload)}) as (app, _):
        event = await app.delivery(7_000_001)
    body = json.dumps(payload).encode()
    assert event is not None
    assert event == webhook.decode("workflow_job", str(ATTEMPT["guid"]), body)


async def test_a_payload_that_is_no_proper_json_is_nothing_and_logged():
    payload = JOB_DELIVERY | {"sender": "\ud800"}
    async with github({DELIVERY: delivered(payload)}) as (app, _):
        with capture_logs() as logs:
            assert await app.delivery(7_000_001) is None
    assert [entry["event"] for entry in logs] == ["delivery.skipped"]
    assert "planted" not in str(logs)


@pytest.mark.parametrize(
    "answer",
    [
        delivered(None),
        reply(200, ATTEMPT | {"request": {"headers": {}}}),
        reply(404, {"message": "Not Found"}),
        reply(410, {"message": "Gone"}),
    ],
    ids=repr,
)
async def test_a_delivery_without_its_payload_is_gone(answer):
    async with github({DELIVERY: answer}) as (app, _):
        with pytest.raises(GitHubRefused) as raised:
            await app.delivery(7_000_001)
    assert raised.value.kind is RefusalKind.DELIVERY_GONE


async def test_a_delivery_of_another_shape_is_githubs_trouble():
    for answer in (reply(200, ATTEMPT), reply(200, []), reply(200, {"request": 3})):
        async with github({DELIVERY: answer}) as (app, _):
            with pytest.raises(GitHubUnreachable):
                await app.delivery(7_000_001)


RUNS = "GET /repos/octo-org/octo-repo/actions/runs"
RUN = {"id": 7, "run_attempt": 2, "status": "queued", "updated_at": "2025-11-03T10:00:00Z"}
OCTO_REPO = Repository(ONE, "octo-org", "octo-repo")


async def test_one_run_that_cannot_be_read_hides_no_other():
    runs = [RUN | {"id": None}, RUN, RUN | {"updated_at": None}]
    answer = reply(200, {"total_count": 3, "workflow_runs": runs}, etag='W/"1"')
    async with github({RUNS: answer}) as (app, canned):
        with capture_logs() as logs:
            found = await app.runs(OCTO_REPO, "queued", None)
    assert found == ([(7, 2, datetime(2025, 11, 3, 10, 0, tzinfo=UTC))], 'W/"1"')
    assert [entry["event"] for entry in logs] == ["run.skipped"] * 2
    assert "if-none-match" not in canned.requests[-1].headers
    assert dict(canned.requests[-1].url.params) == {"status": "queued", "per_page": "100"}


async def test_an_etag_is_sent_as_it_came():
    async with github({RUNS: httpx.Response(304)}) as (app, canned):
        assert await app.runs(OCTO_REPO, "queued", 'W/"1"') is None
        assert canned.requests[-1].headers["if-none-match"] == 'W/"1"'
        with pytest.raises(GitHubRefused) as raised:
            await app.runs(OCTO_REPO, "queued", None)
    assert raised.value.kind is RefusalKind.UNKNOWN


async def test_runs_without_an_etag_are_asked_for_anew():
    async with github({RUNS: reply(200, {"workflow_runs": []})}) as (app, _):
        assert await app.runs(OCTO_REPO, "queued", None) == ([], None)


def test_a_reading_that_has_begun_waits_for_the_pages_that_fail():
    link = '<https://ghe.example/api/v3/app/hook/deliveries?cursor=v1_2>; rel="next"'
    pages: list[Reply] = [
        reply(200, [ATTEMPT], link=link),
        reply(502),
        reply(429, {"message": "rate limit"}, retry_after="30"),
        reply(200, [ATTEMPT | {"id": 6}]),
    ]

    async def scenario() -> tuple[list[int], float]:
        async with github({LOG: pages}) as (app, _):
            ids = [attempt.id async for attempt in app.deliveries()]
            return ids, asyncio.get_running_loop().time()

    ids, at = virtually(scenario())
    assert ids == [ATTEMPT["id"], 6]
    assert at >= 30


async def test_a_log_the_app_may_not_read_names_what_to_do():
    for status in (403, 404):
        answer = reply(status, {"message": "Resource not accessible by integration"})
        async with github({LOG: answer}) as (app, _):
            with pytest.raises(GitHubRefused, match="activate its webhook") as refused:
                _ = [attempt async for attempt in app.deliveries()]
        assert refused.value.kind is RefusalKind.DELIVERY_GONE
