"""GitHub refuses until a group is stalled; an operator sees why, repairs it there, and retries."""

import httpx
import pytest

from mayfly.simulator.faults import ApiRule, Faults
from tests.e2e.declared import POOLS
from tests.e2e.endings import check_nothing_is_left
from tests.e2e.stage import Stage, opened

pytestmark = pytest.mark.timeout(90)

DISABLED = Faults(
    api=(
        ApiRule(
            path="*/generate-jitconfig",
            status=403,
            message="Repository level self-hosted runners are disabled on this repository",
        ),
    )
)
TIMES = 5


async def stall(stage: Stage) -> list[int]:
    """Jobs whose runners GitHub refused to make, all of them asked for before the first refusal."""
    stage.simulator.faults = DISABLED
    jobs = [stage.dispatch("octo-repo") for _ in range(TIMES)]
    for job in jobs:
        await stage.known(job, "queued")
    headers = {"authorization": f"Bearer {stage.executor_token}"}
    async with httpx.AsyncClient(
        base_url=stage.urls[0], headers=headers, trust_env=False, timeout=30
    ) as client:
        claims = []
        for number in range(TIMES):
            boot = {"boot": f"boot-{number}"}
            order = {"pool": "linux", "machine": f"board-{number}", "key": f"key-{number}"}
            made = await client.post("/v1/claims", json=order | boot)
            claims.append((f"/v1/claims/{made.json()['claim']}", boot))
        for claim, boot in claims:
            refused = await client.post(f"{claim}/registration", json=boot)
            assert refused.json()["type"] == "urn:mayfly:problem:github-refused", refused.text
            await client.post(f"{claim}/finish", json=boot | {"outcome": "failed"})
    return jobs


async def test_a_stalled_job_is_explained_listed_retried_and_served():
    async with opened(POOLS.replace("max = 4", f"max = {TIMES}")) as stage:
        plane = await stage.plane()
        empty = await stage.mayfly("jobs", "stalled")
        assert (empty.code, empty.out) == (0, "nothing is stalled\n")
        job, *others = await stall(stage)

        why = await stage.mayfly("jobs", "explain", str(job))
        assert f"stalled because {TIMES} runners in a row failed" in why.out
        assert "self-hosted runners are disabled for octo-org/octo-repo" in why.out
        assert f"mayfly jobs retry {job}" in why.out

        listed = await stage.mayfly("jobs", "stalled", "--json")
        (group,) = listed.json()
        assert (group["job_id"], group["queued"], group["failures"]) == (job, TIMES, TIMES)
        table = await stage.mayfly("jobs", "stalled")
        assert str(job) in table.out
        assert "repos/octo-org/octo-repo" in table.out

        stage.simulator.faults = Faults()
        for other in others:
            stage.simulator.cancel_job(other)
        retried = await stage.mayfly("jobs", "retry", str(job))
        assert (retried.code, retried.err) == (0, "")
        assert retried.out.startswith(f"forgotten: {TIMES} failures in a row, the last one: ")
        assert '"who": "e2e-operator"' in await plane.logged("group.retried")
        assert (await stage.mayfly("jobs", "stalled")).out == empty.out
        await stage.executor()
        await stage.ends(job)
        await check_nothing_is_left(stage)
