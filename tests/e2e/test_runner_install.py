"""`mayfly runner install`: from GitHub's offer to a job that runs what was installed."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from mayfly.simulator import Faults
from mayfly.simulator.faults import DownloadRule
from tests.e2e.programs import Ran, command
from tests.e2e.stage import Stage
from tests.servers.absent import absent

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]


async def install(stage: Stage, state: str, *options: str) -> Ran:
    arguments = ("runner", "install", "--state-dir", str(stage.directory / state), *options)
    return await stage.mayfly(*arguments, token="executor-token")


def left(stage: Stage, state: str) -> list[str]:
    """Every file of the cache."""
    cache = stage.directory / state / "runners"
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


def strike(stage: Stage, *rules: DownloadRule) -> None:
    stage.simulator.faults = Faults(downloads=rules)


async def test_a_corrupted_download_is_refused_with_a_sentence(stage: Stage):
    strike(stage, DownloadRule(fault="corrupted", count=1))
    refused = await install(stage, "corrupted")
    assert refused.code == 1
    assert "does not have the SHA-256 GitHub announced" in refused.err
    assert left(stage, "corrupted") == ["lock"]


async def test_two_installs_at_once_download_once(stage: Stage):
    strike(stage, DownloadRule(fault="slow", bytes_per_second=100_000))
    found = await asyncio.gather(install(stage, "twice"), install(stage, "twice"))
    strike(stage)
    assert [ran.code for ran in found] == [0, 0]
    said = sorted(ran.out for ran in found)
    assert "is installed in" in said[0]
    assert "was installed already" in said[1]


async def test_a_job_runs_what_was_installed_and_the_executor_keeps_it_current(stage: Stage):
    strike(stage, DownloadRule(fault="interrupted", count=2))
    ran = await install(stage, "current")
    strike(stage)
    assert ran.code == 0, ran.err
    assert "release 2.336.0 of GitHub's runner is installed" in ran.out
    assert "100 %" in ran.err
    cache = stage.directory / "current" / "runners"
    os.rename(cache / "2.336.0", cache / "2.335.0")  # noqa: PTH104 - as if it were an older one
    executor = await stage.executor(state="current", release="newest")
    await executor.logged("release.installed version=2.336.0")
    job = stage.dispatch(stage.repository())
    await stage.ends(job)
    shown = await stage.mayfly(
        *("runner", "list", "--json", "--state-dir", str(cache.parent)), token=None
    )
    assert [(row["release"], row["newest"]) for row in shown.json()] == [
        ("2.336.0", True),
        ("2.335.0", False),
    ]


async def test_a_job_in_a_sandbox_runs_what_was_installed(stage: Stage):
    if shutil.which("bwrap") is None:
        absent("bubblewrap is not installed; tests/servers/install does it")
    assert (await install(stage, "sandboxed")).code == 0
    executor = await stage.executor(state="sandboxed", release="newest", driver="sandbox")
    job = stage.dispatch(stage.repository())
    await stage.ends(job)
    await executor.logged("claim.finished")


async def test_offline_what_is_installed_goes_on_working(stage: Stage):
    assert (await install(stage, "offline")).code == 0
    nowhere = ("--url", "http://127.0.0.1:9")
    offline = await install(stage, "offline", *nowhere)
    assert offline.code == 0
    assert offline.out.startswith("offline (http://127.0.0.1:9 is unreachable")
    assert "release 2.336.0 is in" in offline.out
    without = await install(stage, "nothing", *nowhere)
    assert without.code == 1
    assert "is unreachable" in without.err
    executor = await stage.executor(state="offline", release="2.336.0")
    await executor.logged("executor.ready")


async def test_without_a_release_an_executor_says_what_to_do(stage: Stage):
    executor = await stage.executor(state="empty", release="newest", ready=False)
    assert await executor.ended() == 2
    (line,) = [line for line in executor.lines() if "settings.invalid" in line]
    assert "run `mayfly runner install` as this user" in line
    stage.programs.remove(executor)


async def test_what_cannot_be_asked_is_refused_before_anything(stage: Stage, tmp_path: Path):
    refused = await install(stage, "unused", "--url", "http://mayfly.test")
    assert (refused.code, "would travel unencrypted" in refused.err) == (2, True)
    without = await command("runner", "install", "--state-dir", str(tmp_path), environment={})
    assert (without.code, "there is no token" in without.err) == (2, True)
    operators = await stage.mayfly("runner", "install", "--state-dir", str(tmp_path))
    assert (operators.code, "needs executor" in operators.err) == (1, True)
