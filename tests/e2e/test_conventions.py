"""Pools of other kinds: organization scope, labels that match, variants."""

import re

import pytest

from tests.e2e.endings import check_nothing_is_left
from tests.e2e.programs import until
from tests.e2e.stage import opened

pytestmark = pytest.mark.timeout(60)

ORGANIZATION = """
[[pools]]
name = "linux"
max = 1
scope = "organization"

[[access]]
owner = "octo-org"
pool = "linux"

[[access]]
owner = "mona"
repository = "tools"
pool = "linux"
"""
MATCH = """
[labels]
convention = "match"

[[pools]]
name = "small"
labels = ["linux", "small"]

[[pools]]
name = "large"
labels = ["linux", "large", "ssd"]
own = "large"

[[access]]
owner = "octo-org"
pool = "small"

[[access]]
owner = "octo-org"
pool = "large"
"""
VARIANTS = """
[[pools]]
name = "gpu"
variant = "required"
variants = ["a100", "t4"]

[[access]]
owner = "octo-org"
pool = "gpu"
"""


async def test_an_organization_pool_serves_two_repositories_with_one_runner_group():
    async with opened(ORGANIZATION) as stage:
        await stage.plane()
        first, second = stage.repository(), stage.repository()
        held = stage.dispatch(first, "echo of the first")
        stage.simulator.hold(held)
        await stage.executor()
        runner = await stage.idle_runner()
        other = stage.dispatch(second, "echo of the second")
        users = stage.dispatch("tools", "echo of a user", owner="mona")
        await stage.ends(other)
        assert stage.runner_of(other) == runner, "the runner is the organization's"
        stage.simulator.release(held)
        await stage.ends(held)
        await stage.ends(users)
        scopes = [name for name in stage.simulator.calls if name.endswith("/generate-jitconfig")]
        assert sorted(name.split("/")[1] for name in scopes) == ["orgs", "repos"]
        await check_nothing_is_left(stage)


async def test_labels_that_match_lead_to_the_pool_that_has_them_all():
    async with opened(MATCH) as stage:
        await stage.plane()
        small = stage.dispatch("octo-repo", labels=["linux", "Small"])
        large = stage.dispatch("octo-repo", labels=["self-hosted", "large", "linux"])
        neither = stage.dispatch("octo-repo", labels=["self-hosted", "linux"])
        assert (await stage.known(neither, "queued"))["decision"] == "ambiguous"
        await stage.executor(pool="large", state="state-large")
        await stage.ends(large)
        assert stage.simulator.job(small)["status"] == "queued"
        await stage.executor(pool="small", state="state-small")
        await stage.ends(small)
        pools = [(await stage.known(job, "completed"))["pool"] for job in (small, large)]
        assert pools == ["small", "large"]
        why = (await stage.mayfly("jobs", "explain", str(neither))).out
        assert "do not say which pool is meant; add 'small' (pool small)" in why
        await check_nothing_is_left(stage)


async def test_a_variant_is_served_by_a_machine_that_has_it():
    async with opened(VARIANTS) as stage:
        await stage.plane()
        t4 = await stage.executor(pool="gpu", variants=["t4"], state="state-t4")
        a100 = stage.dispatch("octo-repo", labels=["self-hosted", "gpu", "A100"])
        ends = [stage.dispatch("octo-repo", labels=["self-hosted", "gpu", "t4"]) for _ in range(2)]
        none = stage.dispatch("octo-repo", labels=["self-hosted", "gpu"])
        for job in ends:
            await stage.ends(job)
        assert (await stage.known(none, "queued"))["decision"] == "variant_missing"
        assert stage.simulator.job(a100)["status"] == "queued"
        other = await stage.executor(pool="gpu", variants=["a100"], state="state-a100")
        await stage.ends(a100)
        variants = [
            re.findall(r"granted .*variant=(\w+)", each.log.read_text()) for each in (t4, other)
        ]
        assert variants == [["t4", "t4"], ["a100"]]
        await check_nothing_is_left(stage)


async def test_a_pool_never_has_more_runners_than_its_maximum():
    async with opened(ORGANIZATION) as stage:
        await stage.plane()
        jobs = [stage.dispatch("octo-repo", "sleep 1") for _ in range(3)]
        for _ in range(3):
            await stage.executor()
        most = 0

        def all_done() -> bool:
            nonlocal most
            most = max(most, len(stage.github.runners()))
            return all(stage.simulator.job(job)["status"] == "completed" for job in jobs)

        await until(all_done, "three jobs one after the other", seconds=30)
        assert most == 1
        await check_nothing_is_left(stage)
