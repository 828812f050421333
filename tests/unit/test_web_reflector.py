"""The webhook endpoint: proven first, bounded while it is read, recorded before it is answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from mayfly.model.access import AccessRule
from mayfly.model.errors import Transient
from mayfly.model.jobs import JobState
from mayfly.web.reflector import LARGEST_BODY
from tests.fakes.web import OLD_SECRET, SECRET, World, payload, signed, world

PATH = "/webhooks/github"


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def post(here: World, body: bytes, event: str = "workflow_job", **headers: Any) -> Any:
    return await here.client.post(PATH, content=body, headers=signed(body, event) | headers)


async def drive(here: World, receive: Any, headers: dict[str, Any]) -> list[dict[str, Any]]:
    """One request by bare ASGI, for what an HTTP client does not let one send."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers.items()
    ]
    scope: Any = {"type": "http", "method": "POST", "path": PATH, "headers": pairs}
    await here.app(scope, receive, send)
    return sent


def once(body: bytes) -> Any:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def test_a_queued_job_is_recorded_before_it_is_answered(here: World):
    answer = await post(here, payload("workflow_job.queued"))
    assert (answer.status_code, answer.json()) == (202, {"result": "recorded"})
    (event,) = here.intake.events
    assert event.state is JobState.QUEUED
    assert here.figure("mayfly_webhook_answered_total", result="recorded") == 1


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_control_plane_that_pulls_has_no_webhook(method: str):
    async with world(pull=True) as here:
        body = payload("workflow_job.queued")
        answer = await here.client.request(method, PATH, content=body, headers=signed(body))
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:mayfly:problem:not-found"
        assert "this control plane pulls" in answer.json()["detail"]
        assert here.intake.events == []
        operator = here.bearer("operator")
        description = await here.client.get("/schema/openapi.json", headers=operator)
        assert PATH not in description.json()["paths"]
        assert (await here.client.get("/readyz", headers=operator)).status_code == 200


async def test_a_body_in_several_chunks_is_whole(here: World):
    body = payload("workflow_job.queued")
    chunks = [body[:10], body[10:5000], b"", body[5000:]]

    async def receive() -> Any:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    sent = await drive(here, receive, signed(body))
    assert sent[0]["status"] == 202
    assert len(here.intake.events) == 1


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        "sha1=" + "0" * 40,
        pytest.param("truncated", id="truncated"),
        pytest.param("upper", id="upper case"),
        pytest.param("sha256=é\xff".encode("latin-1"), id="not ASCII"),
    ],
)
async def test_without_a_right_signature_nothing_is_done(here: World, signature: Any):
    body = payload("workflow_job.queued")
    headers: dict[str, Any] = dict(signed(body))
    right = headers.pop("x-hub-signature-256")
    if signature == "truncated":
        signature = right[:-1]
    if signature == "upper":
        signature = right.upper()
    if signature is not None:
        headers["x-hub-signature-256"] = signature
    sent = await drive(here, once(body), headers)
    assert sent[0]["status"] == 401
    assert json.loads(sent[1]["body"])["type"] == "urn:mayfly:problem:unauthentic"
    assert here.intake.events == []
    assert here.figure("mayfly_webhook_answered_total", result="unauthentic") == 1


async def test_a_signature_of_another_body_is_refused(here: World):
    answer = await here.client.post(PATH, content=b'{"a":1}', headers=signed(b'{"a":2}'))
    assert answer.status_code == 401


async def test_the_signature_is_checked_before_the_json_and_the_content_type(here: World):
    answer = await here.client.post(PATH, content=b"{", headers={"content-type": "text/plain"})
    assert answer.status_code == 401


async def test_two_secrets_work_while_one_is_replaced_and_the_old_one_not_after_it():
    body = payload("workflow_job.queued")
    async with world(secrets=(SECRET, OLD_SECRET)) as both:
        for secret in (SECRET, OLD_SECRET):
            headers = signed(body, secret=secret)
            assert (await both.client.post(PATH, content=body, headers=headers)).status_code == 202
    async with world(secrets=(SECRET,)) as one:
        headers = signed(body, secret=OLD_SECRET)
        assert (await one.client.post(PATH, content=body, headers=headers)).status_code == 401


async def test_a_body_over_25_mb_is_refused_without_buffering_more(here: World):
    read = 0

    async def receive() -> Any:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": bytes(1024 * 1024), "more_body": True}

    headers = {"content-type": "application/json", "x-hub-signature-256": "sha256=00"}
    sent = await drive(here, receive, headers)
    assert sent[0]["status"] == 413
    assert read == 26  # the chunk that goes over is the last one read
    assert (b"connection", b"close") in sent[0]["headers"]
    assert here.figure("mayfly_webhook_answered_total", result="too_large") == 1


@pytest.mark.parametrize("announced", [str(LARGEST_BODY + 1), "9" * 5000])
async def test_an_announced_length_over_25_mb_is_refused_unread(here: World, announced: str):
    async def receive() -> Any:
        raise AssertionError("nothing is to be read")

    sent = await drive(here, receive, {"content-length": announced})
    assert sent[0]["status"] == 413


async def test_a_body_of_exactly_25_mb_is_read(here: World):
    sent = await drive(here, once(bytes(LARGEST_BODY)), {"content-length": str(LARGEST_BODY)})
    assert sent[0]["status"] == 401


async def test_a_client_that_goes_away_while_it_sends_does_no_harm(here: World):
    messages: list[Any] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    assert await drive(here, receive, {}) == []
    assert here.figure("mayfly_webhook_answered_total", result="disconnected") == 1


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b'{"action":"queued"', b"\xff\xfe{}"])
async def test_what_is_not_json_is_refused(here: World, body: bytes):
    answer = await post(here, body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert here.figure("mayfly_webhook_answered_total", result="not_json") == 1


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 202),
        ("Application/JSON; charset=utf-8", 202),
        ("application/json ;charset=utf-8", 202),
        ("application/jsonp", 415),
        ("application/json-seq", 415),
        ("", 415),
    ],
)
async def test_the_content_type_is_json_and_nothing_like_it(
    here: World, content_type: str, status: int
):
    body = b'{"zen":"Speak like a human."}'
    headers = signed(body, event="ping") | {"content-type": content_type}
    assert (await here.client.post(PATH, content=body, headers=headers)).status_code == status


async def test_a_form_is_refused_with_what_to_do(here: World):
    body = b"payload=%7B%7D"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await here.client.post(PATH, content=body, headers=signed(body) | headers)
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


def changed(**fields: Any) -> bytes:
    whole = json.loads(payload("workflow_job.queued"))
    return json.dumps(whole | fields).encode()


def job_with(**fields: Any) -> bytes:
    job = json.loads(payload("workflow_job.queued"))["workflow_job"]
    return changed(workflow_job=job | fields)


async def test_a_delivery_that_is_not_as_documented_is_acknowledged_counted_and_logged_once(
    here: World,
):
    bodies = [
        changed(workflow_job=None),
        changed(repository=None),
        changed(action="invented"),
        job_with(labels=[1, 2]),
        job_with(labels="self-hosted"),
        job_with(id="not a number"),
        b"[]",
    ]
    with capture_logs() as logs:
        for body in bodies:
            answer = await post(here, body)
            assert (answer.status_code, answer.json()) == (202, {"result": "ignored"})
    assert here.figure("mayfly_delivery_ignored_total", reason="malformed") == len(bodies)
    warnings = [entry for entry in logs if entry["event"] == "webhook.ignored"]
    assert [entry["log_level"] for entry in warnings] == ["warning"] * len(bodies)
    assert here.intake.events == []


async def test_a_job_without_an_installation_goes_to_admission(here: World):
    whole = json.loads(payload("workflow_job.queued"))
    whole.pop("installation", None)
    assert (await post(here, json.dumps(whole).encode())).status_code == 202
    assert here.intake.events[0].installation is None


async def test_an_unknown_event_is_acknowledged_and_counted_without_a_word(here: World):
    with capture_logs() as logs:
        answer = await post(here, b'{"action":"created"}', "check_run")
    assert answer.status_code == 202
    assert logs == []
    assert here.figure("mayfly_delivery_ignored_total", reason="unknown_event") == 1


async def test_an_unstarring_is_not_taken_for_malformed(here: World):
    whole = json.loads(payload("star.created")) | {"action": "deleted"}
    assert (await post(here, json.dumps(whole).encode(), "star")).status_code == 202
    assert here.figure("mayfly_delivery_ignored_total", reason="unused_action") == 1


async def test_a_ping_is_answered(here: World):
    answer = await post(here, payload("ping"), "ping")
    assert (answer.status_code, answer.json()) == (202, {"result": "ping"})


async def test_a_star_tells_what_the_access_check_says(here: World):
    body = payload("star.created")
    owner = json.loads(body)["repository"]["owner"]["login"]
    await here.plane.access.grant(AccessRule(label="linux", owner=owner))
    async with here.plane.news.subscribe() as items:
        assert (await post(here, body, "star")).status_code == 202
        item = await asyncio.wait_for(anext(items), 5)
    assert item.event == "repository.starred"
    assert (item.fields["allowed"], item.fields["refused"]) == ("linux", "arm64")


async def test_a_changed_installation_is_news(here: World):
    async with here.plane.news.subscribe() as items:
        assert (
            await post(here, payload("installation.created"), "installation")
        ).status_code == 202
        item = await asyncio.wait_for(anext(items), 5)
    assert (item.event, item.fields["action"]) == ("installation.changed", "created")
    assert here.intake.revivals == [item.fields["installation"]], "what it refused may work now"


async def test_a_ledger_that_cannot_take_it_asks_github_to_come_again(here: World):
    here.intake.failure = Transient("the database is locked")
    answer = await post(here, payload("workflow_job.queued"))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["detail"] == "the database is locked"
    assert here.figure("mayfly_webhook_answered_total", result="unavailable") == 1


async def test_an_error_of_ours_says_nothing_about_itself_but_is_logged(here: World):
    here.intake.failure = ValueError("a password is hunter2")
    with capture_logs() as logs:
        answer = await post(here, payload("workflow_job.queued"))
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert [entry["event"] for entry in logs] == ["webhook.failed"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_post_is_taken(here: World, method: str):
    answer = await here.client.request(method, PATH)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


async def test_neither_headers_nor_bodies_are_logged(here: World):
    body = job_with(labels="a-label-of-a-stranger")
    headers = signed(body)
    with capture_logs() as logs:
        await post(here, body)
        await post(here, b"a body that is not json")
        await here.client.post(PATH, content=body, headers={"x-hub-signature-256": "sha256=12"})
    text = json.dumps(logs)
    for planted in (headers["x-hub-signature-256"], "a-label-of-a-stranger", "a body that", "=12"):
        assert planted not in text


async def test_only_an_authentic_delivery_shows_that_github_reaches_us(here: World):
    here.clock.advance(16 * 3600)
    await here.client.post(PATH, content=b"{}", headers={"x-hub-signature-256": "sha256=12"})
    assert here.figure("mayfly_delivery_missed_seconds") == 16 * 3600
    await post(here, payload("ping"), "ping")
    assert here.figure("mayfly_delivery_missed_seconds") == 0
