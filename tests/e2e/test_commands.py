"""The commands of people and scripts, against a Mayfly that has had some work."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from tests.e2e.programs import command
from tests.e2e.stage import Stage

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def jobs(shared: Stage) -> AsyncIterator[dict[str, int]]:
    """One job that ran, one that failed, one that was refused."""
    await shared.executor()
    ran = shared.dispatch("octo-repo", "echo hello", name="runs")
    failed = shared.dispatch("octo-repo", "exit 1", name="fails")
    refused = shared.dispatch("secret-plans", owner="mona", name="spies")
    await shared.ends(ran)
    await shared.ends(failed, "failure")
    await shared.known(failed, "completed")
    await shared.known(refused, "queued")
    await shared.end_executors()
    yield {"ran": ran, "failed": failed, "refused": refused}


async def test_jobs_list_shows_every_job_and_filters(stage: Stage, jobs: dict[str, int]):
    table, filtered, none = await asyncio.gather(
        stage.mayfly("jobs", "list"),
        stage.mayfly("jobs", "list", "--state", "completed", "--pool", "linux", "--json"),
        stage.mayfly("jobs", "list", "--pool", "gpu"),
    )
    assert (table.code, filtered.code, none.code) == (0, 0, 0), table.err + filtered.err
    for job in jobs.values():
        assert str(job) in table.out
    assert {job["id"] for job in filtered.json()} == {jobs["ran"], jobs["failed"]}
    assert none.out.startswith("no jobs yet")


async def test_jobs_show_tells_everything_of_one(stage: Stage, jobs: dict[str, int]):
    text, as_json = await asyncio.gather(
        stage.mayfly("jobs", "show", str(jobs["ran"])),
        stage.mayfly("jobs", "show", str(jobs["ran"]), "--json"),
    )
    runner = stage.runner_of(jobs["ran"])
    assert f"runner:         {runner}" in text.out
    (attempt,) = as_json.json()
    assert (attempt["id"], attempt["runner"]) == (jobs["ran"], runner)
    assert (attempt["state"], attempt["conclusion"]) == ("completed", "success")


async def test_jobs_explain_says_why_in_one_sentence(stage: Stage, jobs: dict[str, int]):
    ran, refused = await asyncio.gather(
        stage.mayfly("jobs", "explain", str(jobs["ran"])),
        stage.mayfly("jobs", "explain", str(jobs["refused"]), "--json"),
    )
    assert f"ended (success) on {stage.runner_of(jobs['ran'])}, made on machine" in ran.out
    why = refused.json()
    assert why["summary"].startswith("refused: no access rule lets mona/secret-plans use pool")
    assert "mayfly access allow mona/secret-plans linux" in why["summary"]


async def test_an_unknown_job_id_is_one_sentence_and_exit_code_1(
    stage: Stage, jobs: dict[str, int]
):
    for verb in ("show", "explain", "retry"):
        answer = await stage.mayfly("jobs", verb, "4040404040")
        assert answer.code == 1
        assert answer.err.startswith("mayfly: job 4040404040 is not in the ledger")
        assert len(answer.err.splitlines()) == 1


async def test_a_retry_that_is_no_help_is_a_sentence_and_exit_code_3(
    stage: Stage, jobs: dict[str, int]
):
    failed, refused = await asyncio.gather(
        stage.mayfly("jobs", "retry", str(jobs["failed"])),
        stage.mayfly("jobs", "retry", str(jobs["refused"])),
    )
    assert (failed.code, refused.code) == (3, 3)
    assert failed.out.startswith(f"job {jobs['failed']} has ended (failure); re-run it at http")
    assert "mayfly access allow mona/secret-plans linux" in refused.out
    for answer in (failed, refused):
        assert (answer.err, len(answer.out.splitlines())) == ("", 1)


async def test_runners_list_shows_live_ended_and_those_at_github(
    stage: Stage, jobs: dict[str, int]
):
    live, ended, github = await asyncio.gather(
        stage.mayfly("runners", "list"),
        stage.mayfly("runners", "list", "--all", "--json"),
        stage.mayfly("runners", "list", "--github"),
    )
    assert (live.code, live.out) == (0, "no runner is being made or at work\n")
    assert {jobs["ran"], jobs["failed"]} <= {claim["job_id"] for claim in ended.json()}
    assert {claim["state"] for claim in ended.json()} == {"done"}
    assert (github.code, github.out) == (0, "GitHub has no runner of this App\n")


async def test_runners_left_behind_are_exit_code_3(stage: Stage, jobs: dict[str, int]):
    labels, left = ("self-hosted", "linux"), f"e2e-{'0' * 26}-1"
    stage.simulator.add_runner("octo-org", "octo-repo", left, labels)
    stage.simulator.add_runner("octo-org", "octo-repo", "foreign", labels)
    try:
        answer = await stage.mayfly("runners", "list", "--github", "--json")
    finally:
        stage.simulator.vanish_runner(left)
        stage.simulator.vanish_runner("foreign")
    whose = {runner["name"]: runner["whose"] for runner in answer.json()}
    assert (answer.code, whose) == (3, {left: "leaked", "foreign": "foreign"})


async def test_pools_list_shows_what_is_declared(stage: Stage):
    text, as_json = await asyncio.gather(
        stage.mayfly("pools", "list"), stage.mayfly("pools", "list", "--json")
    )
    assert "linux" in text.out
    sizes = {pool["name"]: (pool["max"], pool["used"]) for pool in as_json.json()}
    assert sizes == {"linux": (4, 0), "gpu": (1, 0)}


async def test_access_rules_are_listed_checked_granted_and_revoked(stage: Stage):
    rule = ("mona/secret-plans", "gpu")
    before = await stage.mayfly("access", "check", *rule)
    assert (before.code, before.err) == (3, "")
    assert "mona/secret-plans may not use pool 'gpu'" in before.out
    assert (await stage.mayfly("access", "allow", *rule)).code == 0
    allowed, listed = await asyncio.gather(
        stage.mayfly("access", "check", *rule), stage.mayfly("access", "list", "--json")
    )
    assert allowed.code == 0
    assert "AllowRepository mona/secret-plans → gpu" in [each["text"] for each in listed.json()]
    assert (await stage.mayfly("access", "revoke", *rule)).code == 0
    again, gone = await asyncio.gather(
        stage.mayfly("access", "check", *rule), stage.mayfly("access", "revoke", *rule)
    )
    assert (again.code, gone.code) == (3, 1)
    assert gone.err.startswith("mayfly: there is no rule")


async def test_exported_rules_can_be_imported_and_a_bad_line_imports_none(
    stage: Stage, tmp_path: Path
):
    assert (await stage.mayfly("access", "allow", "mona/tools", "gpu")).code == 0
    exported = await stage.mayfly("access", "export")
    assert exported.out == '{"owner":"mona","repository":"tools","pool":"gpu"}\n'
    assert (await stage.mayfly("access", "revoke", "mona/tools", "gpu")).code == 0

    rules = tmp_path / "rules.jsonl"
    rules.write_text(exported.out + '{"owner":"mona","pool":"linuks"}\n')
    refused = await stage.mayfly("access", "import", str(rules))
    assert refused.code == 2
    assert f"{rules}:2: no pool is named 'linuks'" in refused.err
    assert (await stage.mayfly("access", "export")).out == ""

    rules.write_text(exported.out + '{"owner":"octo-org","pool":"linux"}\n')
    assert (await stage.mayfly("access", "import", str(rules))).out == "1 new, 1 there already\n"
    assert (await stage.mayfly("access", "export")).out == exported.out
    assert (await stage.mayfly("access", "revoke", "mona/tools", "gpu")).code == 0


async def test_access_mistakes_are_one_sentence(stage: Stage):
    declared, unknown, owner = await asyncio.gather(
        stage.mayfly("access", "revoke", "octo-org", "linux"),
        stage.mayfly("access", "allow", "octo-org", "linuks"),
        stage.mayfly("access", "check", "octo-org", "linux"),
    )
    assert (declared.code, unknown.code, owner.code) == (1, 1, 2)
    assert "mayfly.toml" in declared.err
    assert "known pools: linux, gpu" in unknown.err
    assert "name a repository" in owner.err
    for answer in (declared, unknown, owner):
        assert len(answer.err.splitlines()) == 1


async def test_events_tail_delivers_what_happens(stage: Stage):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mayfly", "events", "tail", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "MAYFLY_URL": stage.urls[0],
            "MAYFLY_TOKEN_FILE": str(stage.directory / "secrets" / "operator-token"),
        },
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            first = msgspec.json.decode(await process.stdout.readline())
            assert first["event"] == "server.started", "the recent past comes first"
            job = stage.dispatch("octo-repo")
            while True:
                item = msgspec.json.decode(await process.stdout.readline())
                if item["fields"].get("job") == job:
                    break
        assert (item["event"], item["fields"]["state"]) == ("job.admitted", "queued")
    finally:
        process.terminate()
        await process.communicate()


async def test_a_missing_or_wrong_token_is_said(stage: Stage):
    missing, wrong, executor = await asyncio.gather(
        stage.mayfly("jobs", "list", token=None),
        stage.mayfly("jobs", "list", token="webhook-secret"),
        stage.mayfly("jobs", "list", token="executor-token"),
    )
    assert (missing.code, wrong.code, executor.code) == (2, 1, 1)
    assert "set MAYFLY_TOKEN_FILE or MAYFLY_TOKEN" in missing.err
    for answer in (missing, wrong, executor):
        assert answer.err.startswith("mayfly: ")
        assert len(answer.err.splitlines()) == 1


async def test_no_control_plane_is_said_with_what_to_do():
    nowhere = {"MAYFLY_URL": "http://127.0.0.1:1", "MAYFLY_TOKEN": "mf_nothing"}
    for arguments in (("jobs", "list"), ("events", "tail")):
        answer = await command(*arguments, environment=nowhere)
        assert answer.code == 1
        assert "no control plane answers at http://127.0.0.1:1" in answer.err
        assert len(answer.err.splitlines()) == 1


async def test_version_and_help_need_nothing():
    version, usage = await asyncio.gather(
        command("version", environment={}), command("--help", environment={})
    )
    assert version.out.count(".") == 2
    assert "mayfly demo" in usage.out
    assert (version.code, usage.code) == (0, 0)
