"""What arrives at the webhook: GitHub's own payloads, and everything that is none."""

import pytest

from tests.e2e.deliveries import changed, headers, post, post_raw, published, signature
from tests.e2e.endings import rows
from tests.e2e.stage import Stage
from tests.simulator.openapi import FIXTURES

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

LARGEST = 25 * 1024 * 1024
QUEUED = "workflow_job.queued"


async def figure(stage: Stage, name: str) -> float:
    """One figure of /metrics."""
    text = (await stage.call("GET", "/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


async def test_the_published_queued_payload_is_accepted_and_its_refusal_explained(stage: Stage):
    assert (await post(stage, published(QUEUED))).status_code == 202
    why = await stage.mayfly("jobs", "explain", "12877621891")
    assert why.code == 0, why.err
    assert "labels: self-hosted, k8s; state: queued" in why.out
    assert "refused: no pool is named 'k8s'; known pools: linux, gpu" in why.out
    assert "reason: unknown_pool" in why.out


NAMES = sorted(path.stem for path in (FIXTURES / "webhooks").glob("*.json")) or [QUEUED]


@pytest.mark.parametrize("name", NAMES)
async def test_every_published_payload_is_accepted(stage: Stage, name: str):
    event = name.partition(".")[0]
    answer = await post(stage, published(name), event)
    assert answer.status_code == 202, answer.text


async def test_a_delivery_without_proof_is_401(stage: Stage):
    body = published(QUEUED)
    good = signature(body, stage.webhook_secret).encode()
    before = await figure(stage, 'mayfly_webhook_answered_total{result="unauthentic"}')
    wrong = [
        b"",
        b"sha256=" + b"0" * 64,
        good[:-1],
        good.removeprefix(b"sha256="),
        good.replace(b"sha256", b"sha1"),
        signature(body, "").encode(),
        signature(body + b" ", stage.webhook_secret).encode(),
        b"sha256=\xff\xfe" + b"a" * 62,
    ]
    for proof in wrong:
        answer = await post(stage, body, proof=proof)
        assert answer.status_code == 401, proof
        assert "X-Hub-Signature-256" in answer.json()["detail"]
    after = await figure(stage, 'mayfly_webhook_answered_total{result="unauthentic"}')
    assert after - before == len(wrong)


async def test_a_body_over_25_mb_is_413_and_the_largest_is_not(stage: Stage):
    announced = b"Content-Type: application/json\r\nContent-Length: %d" % (LARGEST + 1)
    assert await post_raw(stage, announced, b"{") == 413
    chunked = b"Content-Type: application/json\r\nTransfer-Encoding: chunked"
    body = b" " * (LARGEST + 1)
    assert await post_raw(stage, chunked, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)) == 413
    largest = published(QUEUED)
    largest += b" " * (LARGEST - len(largest))
    assert (await post(stage, largest)).status_code == 202


async def test_a_body_that_is_not_json_is_400(stage: Stage):
    for body in (b"", b"{", b"action=queued", published(QUEUED)[:-2], b"[" * 100_000):
        answer = await post(stage, body)
        assert answer.status_code == 400, body[:20]
        assert "not JSON" in answer.json()["detail"] or "deeply" in answer.json()["detail"]


@pytest.mark.parametrize(
    "fields",
    [
        {"workflow_job": None},
        {"workflow_job": {"id": 4242, "labels": "self-hosted"}},
        {"workflow_job": {"id": 4242, "labels": [1, 2]}},
        {"action": "levitated"},
        {"repository": None},
    ],
    ids=["no job", "labels as text", "labels as numbers", "unknown action", "no repository"],
)
async def test_a_payload_unlike_github_is_accepted_counted_and_warned_of_once(
    stage: Stage, fields: dict[str, object]
):
    name = 'mayfly_delivery_ignored_total{reason="malformed"}'
    before, jobs = await figure(stage, name), rows(stage, "SELECT count(*) FROM job")
    plane = stage.programs[0]
    warnings = sum("webhook.ignored" in line for line in plane.lines())
    assert (await post(stage, changed(QUEUED, **fields))).status_code == 202
    assert await figure(stage, name) - before == 1
    new = [line for line in plane.lines() if "webhook.ignored" in line][warnings:]
    assert len(new) == 1
    assert '"level": "warning"' in new[0]
    assert rows(stage, "SELECT count(*) FROM job") == jobs


async def test_a_job_without_an_installation_is_refused_and_explained(stage: Stage):
    job = {"id": 515151, "run_id": 5, "run_attempt": 1, "labels": ["self-hosted", "linux"]}
    job |= {"created_at": "2026-01-01T00:00:00Z", "name": "lost"}
    name = 'mayfly_job_decided_total{decision="no_installation"}'
    before = await figure(stage, name)
    body = changed(QUEUED, workflow_job=job, installation=None)
    plane = stage.programs[0]
    warned = sum("webhook.incomplete" in line for line in plane.lines())
    assert (await post(stage, body)).status_code == 202
    assert await figure(stage, name) - before == 1
    why = await stage.mayfly("jobs", "explain", "515151")
    assert "refused: the delivery names no installation of the GitHub App" in why.out
    assert sum("webhook.incomplete" in line for line in plane.lines()) - warned == 1


async def test_an_unknown_event_is_accepted_and_counted(stage: Stage):
    name = 'mayfly_delivery_ignored_total{reason="unknown_event"}'
    before = await figure(stage, name)
    assert (await post(stage, b'{"action":"created"}', "gollum")).status_code == 202
    assert await figure(stage, name) - before == 1


async def test_a_bad_delivery_takes_no_other_with_it(stage: Stage):
    repository = stage.repository()
    await post(stage, changed(QUEUED, workflow_job={"id": "x"}))
    await stage.executor()
    job = stage.dispatch(repository)
    await stage.ends(job)


async def test_the_log_of_all_this_holds_no_signature_and_no_body(stage: Stage):
    body = published(QUEUED)
    assert (await post(stage, body)).status_code == 202
    text = "\n".join(stage.programs[0].lines())
    assert headers(stage, body)["x-hub-signature-256"][7:30] not in text
    assert "head_sha" not in text
    assert "Traceback" not in text
