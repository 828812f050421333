"""API calls that go wrong on demand, and budgets that run out."""

from __future__ import annotations

import time

import httpx
import pytest

from mayfly.simulator import ApiRule, Faults, Settings

from .support import RUNNERS, Client, simulated

JIT = f"{RUNNERS}/generate-jitconfig"
BODY = {"name": "one", "runner_group_id": 1, "labels": ["self-hosted"]}


async def names(github: Client) -> list[str]:
    return [r["name"] for r in (await github.repo("GET", RUNNERS)).json()["runners"]]


async def test_a_call_may_fail_before_its_effect(github: Client) -> None:
    github.sim.faults = Faults(api=(ApiRule(path="*/generate-jitconfig", status=502, count=1),))
    assert (await github.repo("POST", JIT, json=BODY)).status_code == 502
    assert await names(github) == []
    assert (await github.repo("POST", JIT, json=BODY)).status_code == 201


async def test_a_call_may_have_its_effect_and_lose_its_reply(github: Client) -> None:
    rule = ApiRule(path="*/generate-jitconfig", when="after", status=None, count=1)
    github.sim.faults = Faults(api=(rule,))
    with pytest.raises(httpx.RemoteProtocolError):
        await github.repo("POST", JIT, json=BODY)
    assert await names(github) == ["one"]
    assert (await github.repo("POST", JIT, json=BODY)).status_code == 409
    assert github.sim.faults.api[0].count == 0


async def test_a_fault_may_speak_any_refusal(github: Client) -> None:
    words = "Repository level self-hosted runners are disabled on this repository."
    github.sim.faults = Faults(api=(ApiRule(method="POST", status=403, message=words),))
    await_token = await github.http.get("/meta")
    assert await_token.status_code == 200
    refused = await github.call("POST", JIT, json=BODY)
    assert (refused.status_code, refused.json()["message"]) == (403, words)


async def test_errors_come_at_a_rate(github: Client) -> None:
    rate = {"error_rate": 1.0, "error_status": 429, "error_retry_after": 3}
    await github.control("PUT", "/faults", json=rate)
    answer = await github.http.get("/meta")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert (await github.control("GET", "/faults")).json()["error_rate"] == 1.0
    await github.control("DELETE", "/faults")
    assert (await github.http.get("/meta")).status_code == 200


async def test_calls_may_be_slow(github: Client) -> None:
    github.sim.faults = Faults(api=(ApiRule(latency_ms=150, only_latency=True),))
    began = time.monotonic()
    assert (await github.http.get("/meta")).status_code == 200
    assert time.monotonic() - began >= 0.15


async def test_a_misspelt_fault_is_refused(github: Client) -> None:
    answer = await github.http.put("/_simulator/faults", json={"latency": 5})
    assert answer.status_code == 422


async def test_every_answer_tells_the_budget(github: Client) -> None:
    first = await github.repo("GET", RUNNERS)
    second = await github.repo("GET", RUNNERS)
    assert first.headers["x-ratelimit-limit"] == "5000"
    assert first.headers["x-ratelimit-resource"] == "core"
    left = int(first.headers["x-ratelimit-remaining"])
    assert int(second.headers["x-ratelimit-remaining"]) == left - 1
    assert int(first.headers["x-ratelimit-reset"]) > time.time()
    registered = await github.repo("POST", JIT, json=BODY)
    assert registered.headers["x-ratelimit-resource"] == "actions_runner_registration"


async def test_a_spent_budget_forbids_until_it_is_renewed(github: Client) -> None:
    assert (await github.repo("GET", RUNNERS)).status_code == 200
    await github.control("PUT", "/limits", json={"exhausted": True})
    spent = await github.repo("GET", RUNNERS)
    assert (spent.status_code, spent.headers["x-ratelimit-remaining"]) == (403, "0")
    assert spent.json()["message"].startswith("API rate limit exceeded for installation ID")
    assert (await github.repo("GET", "/rate_limit")).json()["rate"]["remaining"] == 0
    await github.control("PUT", "/limits", json={"exhausted": False})
    assert (await github.repo("GET", RUNNERS)).status_code == 200


async def test_installations_have_budgets_of_their_own() -> None:
    async with simulated(Settings(rate_limit=3)) as github:
        assert (await github.repo("GET", RUNNERS)).status_code == 200
        github.sim.add_account("others", repositories=("theirs",))
        token = await github.token("others")
        for _ in range(2):
            assert (await github.repo("GET", RUNNERS)).status_code == 200
        assert (await github.repo("GET", RUNNERS)).status_code == 403
        theirs = await github.call("GET", "/installation/repositories", token=token)
        assert theirs.status_code == 200


@pytest.mark.parametrize(
    ("rule", "status", "header"),
    [
        (ApiRule(limit="secondary", retry_after=7), 403, ("retry-after", "7")),
        (ApiRule(limit="secondary", status=429), 429, ("retry-after", "60")),
        (ApiRule(limit="primary"), 403, ("x-ratelimit-remaining", "0")),
    ],
)
async def test_limits_strike_on_demand(
    github: Client, rule: ApiRule, status: int, header: tuple[str, str]
) -> None:
    github.sim.faults = Faults(api=(rule,))
    answer = await github.http.get("/meta")
    assert (answer.status_code, answer.headers[header[0]]) == (status, header[1])
    assert "rate limit" in answer.json()["message"]


async def test_the_secondary_limit_counts_points_of_an_endpoint() -> None:
    async with simulated(Settings(secondary_points_per_minute=12)) as github:
        for number in range(2):
            body = BODY | {"name": f"runner-{number}"}
            assert (await github.repo("POST", JIT, json=body)).status_code == 201
        refused = await github.repo("POST", JIT, json=BODY)
        assert refused.status_code == 403
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert (await github.repo("GET", RUNNERS)).status_code == 200


async def test_calls_are_counted_by_endpoint(github: Client) -> None:
    await github.repo("POST", f"/api/v3{JIT}", json=BODY)
    await github.repo("GET", f"{RUNNERS}/21")
    calls = (await github.control("GET", "/calls")).json()
    assert calls["POST /repos/{owner}/{repo}/actions/runners/generate-jitconfig"] == 1
    assert calls["GET /repos/{owner}/{repo}/actions/runners/{runner_id}"] == 1
    await github.control("DELETE", "/calls")
    assert github.sim.calls == {}
