"""The main way: jobs in, each on its own fresh runner, and nothing left."""

import pytest

from tests.e2e.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_six_jobs_run_on_two_executors_and_end_as_scripted(stage: Stage):
    await stage.executor()
    await stage.executor()
    repository = stage.repository()
    good = [stage.dispatch(repository, f"echo step {n}") for n in range(3)]
    bad = [stage.dispatch(repository, "echo about to fail; exit 3") for _ in range(2)]
    other = stage.dispatch("tools", "echo from mona", owner="mona")
    for n, job in enumerate(good):
        await stage.ends(job)
        assert f"step {n}" in stage.simulator.log(job)
    for job in bad:
        await stage.ends(job, "failure")
        assert "about to fail" in stage.simulator.log(job)
    await stage.ends(other)
    assert len({stage.runner_of(job) for job in [*good, *bad, other]}) == 6
    assert stage.github.mints() == 6
