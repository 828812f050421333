"""One job's whole way over HTTP with the real engine: delivered, claimed, registered, finished."""

import asyncio
import json
from typing import Any

from structlog.testing import capture_logs

from tests.fakes.clocks import NOON
from tests.fakes.web import World, payload, signed, world


def delivery(repository: str, job_id: int) -> bytes:
    whole = json.loads(payload("workflow_job.queued"))
    whole["workflow_job"] |= {
        "id": job_id,
        "labels": ["self-hosted", "arm64"],
        "created_at": NOON.isoformat(),
    }
    whole["repository"] |= {"name": repository}
    whole["installation"] = {"id": 5}
    return json.dumps(whole).encode()


async def deliver(here: World, body: bytes) -> None:
    answer = await here.client.post("/webhooks/github", content=body, headers=signed(body))
    assert answer.status_code == 202, answer.text


async def post(here: World, path: str, order: Any) -> Any:
    async with asyncio.timeout(10):
        return await here.client.post(path, json=order, headers=here.bearer("stranger"))


async def test_an_admitted_job_gets_its_runner_and_its_secret_is_logged_nowhere():
    async with world(engine=True) as here:
        owner = json.loads(delivery("tool", 7))["repository"]["owner"]["login"]
        rule = {"owner": owner, "repository": "tool", "label": "arm64"}
        operator = here.bearer("operator")
        with capture_logs() as logs:
            await here.client.put("/v1/access", json=rule, headers=operator)
            await deliver(here, delivery("tool", 7))
            leased = await post(here, "/v1/pools/arm64/lease", {})
            order = {"pool": "arm64", "machine": "m2", "boot": "b2", "key": "k2"}
            claim = await post(here, "/v1/claims", {**order, "lease": leased.json()["lease"]})
            assert claim.status_code == 201
            base = f"/v1/claims/{claim.json()['claim']}"
            registered = await post(here, f"{base}/registration", {"boot": "b2"})
            other_boot = await post(here, f"{base}/heartbeat", {"boot": "b3"})
            ended = await post(here, f"{base}/finish", {"boot": "b2", "outcome": "done"})
        secret = registered.json()["jit_config"]
        assert (registered.status_code, other_boot.status_code, ended.status_code) == (
            201,
            410,
            204,
        )
        assert secret.startswith("jit-config-of-")
        assert secret not in str(logs)
        assert await here.plane.bus.depth("arm64") == 0


async def test_a_refused_job_becomes_admitted_when_a_rule_is_granted():
    async with world(engine=True) as here:
        operator = here.bearer("operator")
        await deliver(here, delivery("tool", 8))
        (job,) = (await here.client.get("/v1/jobs/8", headers=operator)).json()
        assert job["decision"] == "not_allowed"
        owner = job["repository"].partition("/")[0]
        rule = {"owner": owner, "label": "arm64"}
        assert (await here.client.put("/v1/access", json=rule, headers=operator)).is_success
        (job,) = (await here.client.get("/v1/jobs/8", headers=operator)).json()
        assert (job["decision"], job["pool"]) == ("admitted", "arm64")


async def test_the_way_of_a_job_can_be_watched():
    async with world(engine=True) as here, here.plane.news.subscribe() as items:
        await deliver(here, delivery("tool", 9))
        item = await asyncio.wait_for(anext(items), 5)
        assert (item.event, item.fields["job"]) == ("job.refused", 9)
