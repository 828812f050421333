"""Jobs and runs as they move on: needs, gates, cancellation, foreign runners."""

from __future__ import annotations

from mayfly.simulator import Settings

from .support import ONE_JOB, Client, simulated

CHAIN = """
jobs:
  first: {runs-on: self-hosted}
  second: {runs-on: self-hosted, needs: first}
  cleanup: {runs-on: self-hosted, needs: second, if: always()}
"""
LABELS = ("self-hosted", "linux")


async def test_a_job_follows_what_it_needs(github: Client) -> None:
    github.sim.add_runner("octo-org", None, "foreign", LABELS, ephemeral=False)
    made = github.sim.dispatch("octo-org", "octo-repo", CHAIN)
    assert await github.sim.wait_run(made.run_id, "success")
    done = [github.sim.job(number)["completed_at"] for number in made.job_ids]
    assert done == sorted(done)


async def test_after_a_failure_the_dependents_are_skipped_but_for_always(github: Client) -> None:
    made = github.sim.dispatch("octo-org", "octo-repo", CHAIN)
    github.sim.add_runner("octo-org", None, "bad", LABELS, conclusion="failure")
    assert await github.sim.wait_job(made.jobs["second"])
    assert github.sim.job(made.jobs["second"])["conclusion"] == "skipped"
    assert github.sim.job(made.jobs["cleanup"])["status"] == "queued"
    github.sim.add_runner("octo-org", None, "good", LABELS)
    assert await github.sim.wait_run(made.run_id, "failure")


async def test_any_idle_runner_that_fits_takes_the_job(github: Client) -> None:
    github.sim.add_runner("octo-org", None, "wrong", ("self-hosted", "windows"))
    github.sim.add_runner("octo-org", "octo-repo", "foreign", ("SELF-HOSTED", "Linux", "gpu"))
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_job(made.job_ids[0])
    assert github.sim.job(made.job_ids[0])["runner_name"] == "foreign"


async def test_an_ephemeral_runner_is_gone_after_its_job_and_another_is_not(
    github: Client,
) -> None:
    github.sim.add_runner("octo-org", None, "once", LABELS)
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_runner("once", "gone")
    github.sim.add_runner("octo-org", None, "stays", LABELS, ephemeral=False)
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_jobs()
    assert await github.sim.wait_runner("stays", "idle")


async def test_held_jobs_wait_until_they_are_released(github: Client) -> None:
    await github.control("PUT", "/assignment", json={"held": True})
    github.sim.add_runner("octo-org", None, "foreign", LABELS)
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert github.sim.job(made.job_ids[0])["status"] == "queued"
    await github.control("PUT", "/assignment", json={"held": False})
    assert await github.sim.wait_job(made.job_ids[0])


async def test_one_job_may_be_held_while_others_go(github: Client) -> None:
    first = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB).job_ids[0]
    second = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB).job_ids[0]
    github.sim.hold(first)
    github.sim.add_runner("octo-org", None, "foreign", LABELS)
    assert await github.sim.wait_job(second)
    assert github.sim.job(first)["status"] == "queued"


async def test_a_job_can_be_forced_onto_one_runner(github: Client) -> None:
    github.sim.hold()
    github.sim.add_runner("octo-org", None, "early", LABELS)
    github.sim.add_runner("octo-org", None, "late", LABELS)
    first = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB).job_ids[0]
    second = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB).job_ids[0]
    await github.control("POST", f"/jobs/{second}/force", json={"runner": "early"})
    github.sim.release()
    assert await github.sim.wait_jobs()
    assert github.sim.job(second)["runner_name"] == "early"
    assert github.sim.job(first)["runner_name"] == "late"


async def test_a_vanished_runner_fails_its_job(github: Client) -> None:
    github.sim.add_runner("octo-org", None, "foreign", LABELS, after_ms=None)
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    await github.control("DELETE", "/runners/foreign")
    assert github.sim.job(made.job_ids[0])["conclusion"] == "failure"
    assert await github.sim.wait_runner("foreign", "gone")


async def test_a_cancelled_queued_job_never_had_a_runner(github: Client) -> None:
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    await github.control("POST", f"/jobs/{made.job_ids[0]}/cancel")
    job = github.sim.job(made.job_ids[0])
    assert (job["conclusion"], job["runner_name"]) == ("cancelled", None)


async def test_an_organizations_runner_serves_every_repository_of_it() -> None:
    async with simulated(Settings()) as github:
        github.sim.add_repository("octo-org", "second")
        github.sim.add_runner("octo-org", "octo-repo", "here-only", LABELS, ephemeral=False)
        made = github.sim.dispatch("octo-org", "second", ONE_JOB)
        assert github.sim.job(made.job_ids[0])["status"] == "queued"
        github.sim.add_runner("octo-org", None, "everywhere", LABELS)
        assert await github.sim.wait_job(made.job_ids[0])
        assert github.sim.job(made.job_ids[0])["runner_name"] == "everywhere"
