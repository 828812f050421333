"""Conditional requests: what has not changed is not sent again, and costs nothing."""

from __future__ import annotations

import httpx
import pytest

from .support import ONE_JOB, REPOSITORY, Client

RUNS = f"{REPOSITORY}/actions/runs?status=queued"


async def again(github: Client, path: str, first: httpx.Response) -> httpx.Response:
    return await github.repo("GET", path, headers={"if-none-match": first.headers["etag"]})


def left(answer: httpx.Response) -> int:
    return int(answer.headers["x-ratelimit-remaining"])


@pytest.mark.parametrize("path", [RUNS, "/installation/repositories", f"{REPOSITORY}/actions/runs"])
async def test_what_has_not_changed_is_a_304_that_costs_nothing(github: Client, path: str) -> None:
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    first = await github.repo("GET", path)
    assert first.headers["etag"].startswith('W/"')
    second = await again(github, path, first)
    assert (second.status_code, second.content) == (304, b"")
    assert second.headers["etag"] == first.headers["etag"]
    assert left(second) == left(first)
    assert left(await github.repo("GET", path)) == left(first) - 1


async def test_a_new_run_or_a_job_that_moves_on_is_another_answer(github: Client) -> None:
    path = f"{REPOSITORY}/actions/runs"
    before = await github.repo("GET", path)
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    queued = await again(github, path, before)
    assert (queued.status_code, left(queued)) == (200, left(before) - 1)
    github.sim.add_runner("octo-org", None, "foreign", ("self-hosted", "linux"), after_ms=None)
    running = await again(github, path, queued)
    assert running.json()["workflow_runs"][0]["status"] == "in_progress"
    assert running.headers["etag"] != queued.headers["etag"]


async def test_one_of_several_etags_is_enough(github: Client) -> None:
    first = await github.repo("GET", RUNS)
    known = f'W/"older", {first.headers["etag"]}'
    answer = await github.repo("GET", RUNS, headers={"if-none-match": known})
    assert answer.status_code == 304


async def test_an_etag_is_of_no_use_under_another_token(github: Client) -> None:
    first = await github.repo("GET", RUNS)
    headers = {"if-none-match": first.headers["etag"]}
    other = await github.call("GET", RUNS, token=await github.token(), headers=headers)
    assert other.status_code == 200


async def test_a_stranger_pays_for_a_304_too(github: Client) -> None:
    first = await github.call("GET", "/meta")
    headers = {"if-none-match": first.headers["etag"]}
    second = await github.call("GET", "/meta", headers=headers)
    assert (second.status_code, left(second)) == (304, left(first) - 1)


async def test_only_answers_have_an_etag(github: Client) -> None:
    for answer in (
        await github.repo("GET", f"{REPOSITORY}/actions/runs/1"),
        await github.repo("POST", f"{REPOSITORY}/actions/runners/registration-token"),
        await github.repo("GET", "/rate_limit"),
    ):
        assert "etag" not in answer.headers
