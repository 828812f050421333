"""Runs, jobs, checks and limits, as the API shows and takes them."""

from __future__ import annotations

from .support import ONE_JOB, REPOSITORY, Client

RUNS = f"{REPOSITORY}/actions/runs"
JOBS = f"{REPOSITORY}/actions/jobs"

CHAIN = """
name: Chain
jobs:
  first: {runs-on: self-hosted, steps: [{run: "true"}]}
  second: {runs-on: self-hosted, needs: first, steps: [{run: "true"}]}
  aside: {runs-on: self-hosted, steps: [{run: "true"}]}
"""

MATRIX = """
jobs:
  wide:
    strategy: {matrix: {n: %s}}
    runs-on: self-hosted
"""


async def test_a_job_is_shown_from_queued_to_completed(github: Client) -> None:
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    job = f"{JOBS}/{made.job_ids[0]}"
    queued = (await github.repo("GET", job)).json()
    assert (queued["status"], queued["runner_name"]) == ("queued", None)
    github.sim.add_runner("octo-org", None, "foreign", ("self-hosted", "linux"), after_ms=None)
    running = (await github.repo("GET", job)).json()
    assert (running["status"], running["runner_name"]) == ("in_progress", "foreign")
    github.sim.complete_job(made.job_ids[0], "failure")
    done = (await github.repo("GET", job)).json()
    assert (done["status"], done["conclusion"]) == ("completed", "failure")
    assert [step["status"] for step in done["steps"]] == ["completed", "completed"]
    run = (await github.repo("GET", f"{RUNS}/{made.run_id}")).json()
    assert (run["status"], run["conclusion"]) == ("completed", "failure")


async def test_runs_are_filtered_by_status_and_event(github: Client) -> None:
    first = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    github.sim.cancel_run(first.run_id)
    second = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB, event="pull_request")
    for query, wanted in (
        ("", [second.run_id, first.run_id]),
        ("?status=queued", [second.run_id]),
        ("?status=completed", [first.run_id]),
        ("?status=cancelled", [first.run_id]),
        ("?status=in_progress", []),
        ("?event=pull_request", [second.run_id]),
    ):
        listed = (await github.repo("GET", RUNS + query)).json()["workflow_runs"]
        assert [run["id"] for run in listed] == wanted


async def test_a_run_tells_its_event_actor_and_fork(github: Client) -> None:
    made = github.sim.dispatch(
        "octo-org",
        "octo-repo",
        ONE_JOB,
        event="pull_request",
        actor="mallory",
        head_repository="mallory/octo-repo",
    )
    run = (await github.repo("GET", f"{RUNS}/{made.run_id}")).json()
    assert (run["event"], run["triggering_actor"]["login"]) == ("pull_request", "mallory")
    head = run["head_repository"]
    assert (head["full_name"], head["fork"]) == ("mallory/octo-repo", True)
    assert run["repository"]["full_name"] == "octo-org/octo-repo"


async def test_the_jobs_of_a_large_matrix_come_in_pages(github: Client) -> None:
    made = github.sim.dispatch("octo-org", "octo-repo", MATRIX % list(range(105)))
    first = await github.repo("GET", f"{RUNS}/{made.run_id}/attempts/1/jobs?per_page=100")
    assert (first.json()["total_count"], len(first.json()["jobs"])) == (105, 100)
    second = await github.repo("GET", first.links["next"]["url"])
    assert len(second.json()["jobs"]) == 5
    assert (await github.repo("GET", f"{RUNS}/{made.run_id}/attempts/2/jobs")).status_code == 404


async def test_a_job_with_open_needs_is_not_there_yet(github: Client) -> None:
    made = github.sim.dispatch("octo-org", "octo-repo", CHAIN)
    listed = (await github.repo("GET", f"{RUNS}/{made.run_id}/jobs")).json()["jobs"]
    assert [job["name"] for job in listed] == ["first", "aside"]
    assert (await github.repo("GET", f"{JOBS}/{made.jobs['second']}")).status_code == 404


async def test_a_rerun_makes_a_new_attempt_with_new_job_ids(github: Client) -> None:
    github.sim.add_runner("octo-org", None, "foreign", ("self-hosted",), ephemeral=False)
    made = github.sim.dispatch("octo-org", "octo-repo", CHAIN)
    assert await github.sim.wait_run(made.run_id, "success")
    again = await github.repo("POST", f"{JOBS}/{made.jobs['first']}/rerun")
    assert again.status_code == 201
    assert await github.sim.wait_run(made.run_id, "success")
    second = (await github.repo("GET", f"{RUNS}/{made.run_id}/jobs")).json()["jobs"]
    assert {job["run_attempt"] for job in second} == {2}
    assert not {job["id"] for job in second} & set(made.job_ids)
    every = (await github.repo("GET", f"{RUNS}/{made.run_id}/jobs?filter=all")).json()
    assert every["total_count"] == 6
    # The job that nothing depends on was carried over, not run again.
    queued = [d.payload for d in github.sim.world.deliveries.log.values() if d.action == "queued"]
    assert len(queued) == 3 + 2


async def test_a_rerun_may_keep_the_job_id(github: Client) -> None:
    await github.control("PUT", "/oddities", json={"reuse_job_ids": True})
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    github.sim.cancel_run(made.run_id)
    again = github.sim.rerun_job(made.job_ids[0])
    assert again.job_ids == made.job_ids
    job = (await github.repo("GET", f"{JOBS}/{made.job_ids[0]}")).json()
    assert (job["status"], job["run_attempt"]) == ("queued", 2)
    first = (await github.repo("GET", f"{RUNS}/{made.run_id}/attempts/1/jobs")).json()["jobs"]
    assert (first[0]["status"], first[0]["run_attempt"]) == ("completed", 1)


async def test_a_running_run_cannot_be_rerun_or_deleted(github: Client) -> None:
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    again = await github.repo("POST", f"{JOBS}/{made.job_ids[0]}/rerun")
    assert again.status_code == 403
    assert (await github.repo("DELETE", f"{RUNS}/{made.run_id}")).status_code == 403


async def test_a_run_is_cancelled_once_and_then_may_be_deleted(github: Client) -> None:
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    run = f"{RUNS}/{made.run_id}"
    assert (await github.repo("POST", f"{run}/cancel")).status_code == 202
    assert (await github.repo("GET", run)).json()["conclusion"] == "cancelled"
    assert (await github.repo("POST", f"{run}/cancel")).status_code == 409
    assert (await github.repo("DELETE", run)).status_code == 204
    assert (await github.repo("GET", run)).status_code == 404


async def test_a_check_run_is_created(github: Client) -> None:
    body = {
        "name": "mayfly",
        "head_sha": "a" * 40,
        "conclusion": "neutral",
        "output": {"title": "Refused", "summary": "the label is not yours"},
    }
    made = await github.repo("POST", f"{REPOSITORY}/check-runs", json=body)
    assert made.status_code == 201
    assert (made.json()["status"], made.json()["conclusion"]) == ("completed", "neutral")
    assert (await github.repo("POST", f"{REPOSITORY}/check-runs", json={})).status_code == 422
    state = (await github.control("GET", "/state")).json()
    assert [check["name"] for check in state["check_runs"]] == ["mayfly"]


async def test_limits_and_addresses_are_told(github: Client) -> None:
    limits = (await github.repo("GET", "/rate_limit")).json()
    assert limits["rate"]["limit"] == 5000
    assert (await github.http.get("/meta")).json()["hooks"] == ["127.0.0.1/32"]


async def test_unknown_jobs_and_runs_are_not_found(github: Client) -> None:
    for path in (f"{JOBS}/1", f"{RUNS}/1", f"{RUNS}/1/jobs", f"{RUNS}/1/attempts/1/jobs"):
        assert (await github.repo("GET", path)).status_code == 404
    assert (await github.repo("POST", f"{JOBS}/1/rerun")).status_code == 404
