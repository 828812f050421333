"""The runner program, as a real process."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from mayfly.simulator import Settings, runner_program

from .support import RUNNERS, Client, simulated

LABELS = "runs-on: [self-hosted, linux]"


class Bench:
    """Starts runner programs in a directory of their own, and ends what is left of them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.started: list[Process] = []

    async def start(
        self, *arguments: str, blob: str | None = None, env: dict[str, str] | None = None
    ) -> Process:
        """Start one; `blob` goes to its standard input."""
        directory = self.place / f"runner-{len(self.started)}"
        program = runner_program(directory)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(program),
            *arguments,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "HOME": str(directory)} | (env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.started.append(process)
        assert process.stdin is not None
        if blob is not None:
            process.stdin.write(blob.encode())
        process.stdin.close()
        return process

    async def close(self) -> None:
        for process in self.started:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def quick() -> AsyncIterator[Client]:
    """A simulator that loses silent runners soon."""
    async with simulated(Settings(runner_lost_after_seconds=1.0)) as client:
        yield client


def runs(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected by init does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def exit_code(process: Process) -> int:
    async with asyncio.timeout(20):
        return await process.wait()


async def run_job(github: Client, bench: Bench, yaml: str, **env: str) -> int:
    """Run a one-job workflow on a fresh runner; the job's id."""
    blob = await github.jitconfig(f"runner-{len(bench.started)}")
    job = github.sim.dispatch("octo-org", "octo-repo", yaml).job_ids[0]
    process = await bench.start("--jitconfig-stdin", blob=blob, env=env)
    assert await exit_code(process) == 0
    assert await github.sim.wait_job(job, "completed", 5)
    return job


def one_step(script: str, more: str = "") -> str:
    steps = json.dumps([{"run": script}])
    return f"name: CI\njobs:\n  build:\n    {LABELS}\n    steps: {steps}\n{more}"


async def test_steps_run_and_their_lines_come_back(github: Client, bench: Bench) -> None:
    script = "echo one\necho two >&2\nprintf three"
    job = await run_job(github, bench, one_step(script))
    assert github.sim.log(job) == ["one", "two", "three"]
    shown = github.sim.job(job)
    assert shown["conclusion"] == "success"
    assert [s["name"] for s in shown["steps"]] == ["Set up job", "Run echo one", "Complete job"]
    assert {s["conclusion"] for s in shown["steps"]} == {"success"}
    assert (await github.repo("GET", RUNNERS)).json()["total_count"] == 0


async def test_a_failing_step_fails_the_job_and_skips_the_rest(
    github: Client, bench: Bench
) -> None:
    yaml = f"""
jobs:
  build:
    {LABELS}
    steps:
      - {{run: exit 1, continue-on-error: true}}
      - run: echo before; false; echo after
      - run: echo never
      - {{run: echo always, if: always()}}
"""
    job = await run_job(github, bench, yaml)
    assert github.sim.job(job)["conclusion"] == "failure"
    log = [line for line in github.sim.log(job) if not line.startswith("##")]
    assert log == ["before", "always"]
    endings = [s["conclusion"] for s in github.sim.job(job)["steps"]]
    assert endings == ["success", "failure", "failure", "skipped", "success", "success"]


async def test_the_environment_is_a_runners_and_holds_no_credential(
    github: Client, bench: Bench
) -> None:
    yaml = f"""
name: Named
env: {{TOP: top}}
jobs:
  build:
    {LABELS}
    env: {{JOB: job}}
    steps:
      - run: |
          echo "ADDED=yes" >> "$GITHUB_ENV"
          printf 'LONG<<END\\na\\nb\\nEND\\n' >> "$GITHUB_ENV"
          mkdir bin && echo "$PWD/bin" >> "$GITHUB_PATH"
      - run: |
          pwd
          env
        env: {{STEP: step}}
"""
    blob = await github.jitconfig("runner-0")
    job = github.sim.dispatch("octo-org", "octo-repo", yaml).job_ids[0]
    process = await bench.start(env={"ACTIONS_RUNNER_INPUT_JITCONFIG": blob})
    assert await exit_code(process) == 0
    log = github.sim.log(job)
    assert log[0].endswith("/_work/octo-repo/octo-repo")
    env = dict(line.partition("=")[::2] for line in log[1:])
    wanted = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": "octo-org/octo-repo",
        "GITHUB_REPOSITORY_OWNER": "octo-org",
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_RUN_NUMBER": "1",
        "GITHUB_JOB": "build",
        "GITHUB_WORKFLOW": "Named",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_SERVER_URL": github.sim.url,
        "GITHUB_API_URL": github.sim.url,
        "GITHUB_WORKSPACE": log[0],
        "RUNNER_NAME": "runner-0",
        "RUNNER_OS": "Linux",
        "TOP": "top",
        "JOB": "job",
        "STEP": "step",
        "ADDED": "yes",
        "LONG": "a",
    }
    assert {name: env.get(name) for name in wanted} == wanted
    assert env["PATH"].startswith(f"{log[0]}/bin:")
    assert all(env[name] for name in ("GITHUB_RUN_ID", "GITHUB_SHA", "RUNNER_TEMP"))
    assert not [name for name in env if name.startswith("ACTIONS_RUNNER_INPUT")]
    outer = json.loads(base64.b64decode(blob))
    secret = json.loads(base64.b64decode(outer[".credentials"]))["Data"]["Token"]
    assert secret not in "\n".join(log)


@pytest.mark.parametrize("way", ["stdin", "file", "files", "root", "argument", "environment"])
async def test_the_config_comes_by_every_way(
    github: Client, bench: Bench, tmp_path: Path, way: str
) -> None:
    blob = await github.jitconfig("one")
    job = github.sim.dispatch("octo-org", "octo-repo", one_step("true")).job_ids[0]
    root = tmp_path / ("runner-0" if way == "files" else "elsewhere")
    root.mkdir()
    for name, inner in json.loads(base64.b64decode(blob)).items():
        (root / name).write_bytes(base64.b64decode(inner))
    (tmp_path / "blob").write_text(blob + "\n")
    arguments = {
        "stdin": ["--jitconfig-stdin"],
        "file": ["--jitconfig-file", str(tmp_path / "blob")],
        "root": ["--root", str(root)],
        "argument": ["run", "--jitconfig", blob],
    }.get(way, [])
    env = {"ACTIONS_RUNNER_INPUT_JITCONFIG": blob} if way == "environment" else {}
    process = await bench.start(*arguments, blob=blob if way == "stdin" else None, env=env)
    assert await exit_code(process) == 0
    assert await github.sim.wait_job(job, "success", 5)
    assert (tmp_path / "blob").exists() is (way != "file")
    assert (root / ".credentials").exists() is (way not in {"files", "root"})


async def test_a_config_is_used_once_and_a_deleted_one_never(github: Client, bench: Bench) -> None:
    blob = await github.jitconfig("one")
    first = await bench.start("--jitconfig-stdin", blob=blob)
    assert await github.sim.wait_runner("one", "idle")
    second = await bench.start("--jitconfig-stdin", blob=blob)
    assert await exit_code(second) == 1
    github.sim.vanish_runner("one")
    # A de-registered runner ends itself without complaint.
    assert await exit_code(first) == 0
    third = await bench.start("--jitconfig-stdin", blob=blob)
    assert await exit_code(third) == 1


@pytest.mark.parametrize(
    "blob", ["", "nonsense", base64.b64encode(b'{".runner": "e30="}').decode()]
)
async def test_a_corrupt_config_ends_with_1(bench: Bench, blob: str) -> None:
    assert await exit_code(await bench.start("--jitconfig-stdin", blob=blob)) == 1


async def test_a_runner_is_offline_then_online_then_busy_then_gone(
    github: Client, bench: Bench, tmp_path: Path
) -> None:
    blob = await github.jitconfig("one")
    assert await github.sim.wait_runner("one", "offline")
    process = await bench.start("--jitconfig-stdin", blob=blob)
    assert await github.sim.wait_runner("one", "idle")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = github.sim.dispatch("octo-org", "octo-repo", one_step(f"cat {gate}")).job_ids[0]
    assert await github.sim.wait_job(job, "in_progress")
    listed = (await github.repo("GET", RUNNERS)).json()["runners"]
    assert [(r["status"], r["busy"]) for r in listed] == [("online", True)]
    refused = await github.repo("DELETE", f"{RUNNERS}/{listed[0]['id']}")
    assert refused.status_code == 422
    await asyncio.to_thread(gate.write_text, "go\n")
    assert await exit_code(process) == 0
    assert await github.sim.wait_runner("one", "gone")
    assert github.sim.log(job) == ["go"]


async def test_a_cancelled_job_is_stopped_with_all_its_processes(
    github: Client, bench: Bench, tmp_path: Path
) -> None:
    blob = await github.jitconfig("one")
    pids = tmp_path / "pids"
    script = f"sleep 100 & echo $! > {pids}; echo started; wait"
    yaml = one_step(script)
    job = github.sim.dispatch("octo-org", "octo-repo", yaml).job_ids[0]
    process = await bench.start("--jitconfig-stdin", blob=blob)
    assert await github.sim.world.wait(lambda: bool(github.sim.log(job)), 10)
    github.sim.cancel_job(job)
    assert await github.sim.wait_job(job, "cancelled", 10)
    assert await exit_code(process) == 0
    assert not runs(int(pids.read_text()))


async def test_sigterm_cancels_the_job_and_is_reported(github: Client, bench: Bench) -> None:
    blob = await github.jitconfig("one")
    job = github.sim.dispatch("octo-org", "octo-repo", one_step("echo on; sleep 100")).job_ids[0]
    process = await bench.start("--jitconfig-stdin", blob=blob)
    assert await github.sim.world.wait(lambda: bool(github.sim.log(job)), 10)
    process.send_signal(signal.SIGTERM)
    assert await exit_code(process) == 0
    assert await github.sim.wait_job(job, "cancelled", 5)


async def test_sigterm_ends_an_idle_runner_and_leaves_its_registration(
    github: Client, bench: Bench
) -> None:
    blob = await github.jitconfig("one")
    process = await bench.start("--jitconfig-stdin", blob=blob)
    assert await github.sim.wait_runner("one", "idle")
    process.send_signal(signal.SIGTERM)
    assert await exit_code(process) == 0
    assert await github.sim.wait_runner("one", "offline", 2)


async def test_a_killed_runner_loses_its_job_as_a_failure(quick: Client, bench: Bench) -> None:
    blob = await quick.jitconfig("one")
    job = quick.sim.dispatch("octo-org", "octo-repo", one_step("echo on; sleep 3")).job_ids[0]
    process = await bench.start("--jitconfig-stdin", blob=blob)
    assert await quick.sim.wait_job(job, "in_progress")
    process.kill()
    assert await quick.sim.wait_job(job, "failure", 5)
    assert await quick.sim.wait_runner("one", "gone")


async def test_a_killed_idle_runner_goes_offline_and_gets_no_job(
    quick: Client, bench: Bench
) -> None:
    blob = await quick.jitconfig("one")
    process = await bench.start("--jitconfig-stdin", blob=blob)
    assert await quick.sim.wait_runner("one", "idle")
    process.kill()
    await process.wait()
    job = quick.sim.dispatch("octo-org", "octo-repo", one_step("true")).job_ids[0]
    assert await quick.sim.wait_runner("one", "offline", 5)
    assert quick.sim.job(job)["status"] == "queued"
    quick.sim.add_runner("octo-org", None, "other", ("self-hosted", "linux"))
    assert await quick.sim.wait_job(job, "success", 5)


async def test_hooks_run_around_the_steps(github: Client, bench: Bench, tmp_path: Path) -> None:
    before, after = tmp_path / "before.sh", tmp_path / "after.sh"
    before.write_text('echo "before $GITHUB_JOB"')
    after.write_text("echo after")
    hooks = {
        "ACTIONS_RUNNER_HOOK_JOB_STARTED": str(before),
        "ACTIONS_RUNNER_HOOK_JOB_COMPLETED": str(after),
    }
    job = await run_job(github, bench, one_step("echo step"), **hooks)
    assert github.sim.log(job) == ["before build", "step", "after"]


@pytest.mark.parametrize("text", [None, "exit 3"])
async def test_a_failing_or_missing_started_hook_fails_the_job_before_any_step(
    github: Client, bench: Bench, tmp_path: Path, text: str | None
) -> None:
    hook = tmp_path / "before.sh"
    if text is not None:
        hook.write_text(text)
    job = await run_job(
        github, bench, one_step("echo step"), ACTIONS_RUNNER_HOOK_JOB_STARTED=str(hook)
    )
    assert github.sim.job(job)["conclusion"] == "failure"
    assert "step" not in github.sim.log(job)


async def test_one_process_takes_one_job(github: Client, bench: Bench) -> None:
    first = github.sim.dispatch("octo-org", "octo-repo", one_step("true")).job_ids[0]
    second = github.sim.dispatch("octo-org", "octo-repo", one_step("true")).job_ids[0]
    blob = await github.jitconfig("one")
    assert await exit_code(await bench.start("--jitconfig-stdin", blob=blob)) == 0
    assert await github.sim.wait_job(first, "success", 5)
    assert github.sim.job(second)["status"] == "queued"


async def test_much_output_comes_back_whole(github: Client, bench: Bench) -> None:
    job = await run_job(github, bench, one_step("seq 1 5000"))
    assert github.sim.log(job) == [str(n) for n in range(1, 5001)]


async def test_the_program_needs_nothing_but_itself(tmp_path: Path) -> None:
    program = runner_program(tmp_path)
    assert program.stat().st_mode & 0o777 == 0o755
    # -I and -S: neither our packages nor site-packages can be seen.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(program),
        cwd=tmp_path,
        env={},
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 1
    assert b"no JIT config" in output


async def test_the_program_is_an_executable_of_its_own(tmp_path: Path) -> None:
    program = runner_program(tmp_path)
    process = await asyncio.create_subprocess_exec(
        program, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert b"no JIT config" in output


async def test_a_waiting_runner_does_not_mind_its_program_being_written_again(
    github: Client, bench: Bench
) -> None:
    blob = await github.jitconfig("one")
    process = await bench.start("--jitconfig-stdin", blob=blob)
    assert await github.sim.wait_runner("one", "idle")
    directory = bench.place / "runner-0"
    before = [path.read_bytes() for path in directory.iterdir()]
    runner_program(directory)
    assert [path.read_bytes() for path in directory.iterdir()] == before
    job = github.sim.dispatch("octo-org", "octo-repo", one_step("true")).job_ids[0]
    assert await exit_code(process) == 0
    assert await github.sim.wait_job(job, "success", 5)
