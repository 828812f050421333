"""From a queued job to its runner's process, and a burst of 200 jobs on 8 executors."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.places import POSTGRES_RABBITMQ, SQLITE, Place, Servers, servers
from mayfly.cli.demo.stage import interpreter
from mayfly.cli.settings import as_toml
from mayfly.simulator import (
    Account,
    ApiRule,
    Faults,
    Settings,
    Simulator,
    generate_app_key,
    runner_program,
    serve,
)
from mayfly.web.tokens import Role, new_token

JOBS = 103
BURST = 200
EXECUTORS = 8
MINT_MILLISECONDS = 300
WORKFLOW = """\
name: ci
on: push
jobs:
  {job}:
    runs-on: [self-hosted, linux]
    steps:
      - run: "true"
"""
PLANE = """\
[server]
port = 0
{places}
[github]
app_id = 4711
api_url = "{github}"
private_key_file = "{directory}/app.pem"
webhook_secret_files = ["{directory}/secret"]
mints_per_minute = 100000
[deadlines]
turn_seconds = 1
surplus_seconds = 2
[[pools]]
name = "linux"
max = 64
guard = false
[[access]]
owner = "bench"
pool = "linux"
{token}
"""


def measure() -> None:
    """Prints all."""
    with servers() as started:
        for place in (SQLITE, POSTGRES_RABBITMQ):
            asyncio.run(_latency(place, started))
        asyncio.run(_burst(started))


async def _latency(place: Place, started: Servers) -> None:
    waits = []
    async with _stage(1, place, started) as (simulator, directory):
        for number in range(JOBS):
            stamps = directory / "starts"
            before = _stamps(stamps)
            began = time.time_ns()
            job = simulator.dispatch("bench", "repo", WORKFLOW.format(job=f"job{number}"))
            await simulator.wait_job(job.job_ids[0], timeout=30)
            waits.append((_stamps(stamps)[len(before)] - began) / 1e6)
            await asyncio.sleep(0.3)  # the executor cleans up and parks again
    waits = sorted(waits[3:])
    print(f"dispatched at the simulator -> runner process exec'd, one executor, {place.name}")
    print(
        f"  p50 {statistics.median(waits):6.1f} ms   p99 {waits[-1]:6.1f} ms   ({len(waits)} jobs)"
    )


async def _burst(started: Servers) -> None:
    async with _stage(EXECUTORS, SQLITE, started) as (simulator, _):
        slow = ApiRule(path="*generate-jitconfig*", latency_ms=MINT_MILLISECONDS, only_latency=True)
        simulator.faults = Faults(api=(slow,))
        began = time.perf_counter()
        for number in range(BURST):
            simulator.dispatch("bench", "repo", WORKFLOW.format(job=f"job{number}"))
        done = await simulator.wait_jobs(timeout=240)
        seconds = time.perf_counter() - began
        mints = sum(count for path, count in simulator.calls.items() if "jitconfig" in path)
    print(f"burst of {BURST} jobs on {EXECUTORS} executors, {MINT_MILLISECONDS} ms a mint")
    print(f"  all done: {done}; {seconds:.1f} s; {mints} mints")
    print(f"  minted one by one, the mints alone: {mints * MINT_MILLISECONDS / 1000:.0f} s")


@asynccontextmanager
async def _stage(
    executors: int, place: Place, started: Servers
) -> AsyncIterator[tuple[Simulator, Path]]:
    private, public = generate_app_key()
    plain, token = new_token("bench", Role.EXECUTOR, ("linux",))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        starts = directory / "starts"
        starts.touch()
        starts.chmod(0o666)
        for file, text in (("app.pem", private), ("secret", "bench"), ("token", plain)):
            (directory / file).write_text(text)
        script = directory / "runner.sh"
        program = runner_program(directory / "runner")
        script.write_text(
            f"#!/bin/sh\ndate +%s%N >> {starts}\nexec {interpreter()} {program} --jitconfig-stdin\n"
        )
        script.chmod(0o755)
        (directory / "executor.toml").write_text(
            f'[runner]\ncommand = ["{script}"]\njit = "stdin"\n'
        )
        account = Account(login="bench", repositories=("repo",))
        settings = Settings(app_public_key=public, webhook_secret="bench", accounts=(account,))
        async with AsyncExitStack() as stack:
            simulator = await stack.enter_async_context(serve(settings))
            config = directory / "mayfly.toml"
            config.write_text(
                PLANE.format(
                    directory=directory,
                    github=simulator.url,
                    token=as_toml(token),
                    places=place.settings(f"{directory}/mayfly.sqlite", started),
                )
            )
            log = directory / "plane.log"
            stack.push_async_callback(_stopped, _started(log, "serve", "--config", str(config)))
            line = await _line(log, "server.started")
            url = line.partition('"url": "')[2].partition('"')[0]
            simulator.set_webhook(f"{url}/webhooks/github")
            options = ["--pool", "linux", "--url", url, "--token-file", str(directory / "token")]
            options += ["--config", f"{directory}/executor.toml", "--state-dir", f"{directory}/s"]
            for number in range(executors):
                log = directory / f"executor-{number}.log"
                stack.push_async_callback(_stopped, _started(log, "executor", *options))
                await _line(log, "executor.ready")
            yield simulator, directory


def _started(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen([sys.executable, "-m", "mayfly", *arguments], stderr=output)


async def _stopped(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    await asyncio.to_thread(process.wait, 60)  # an executor finishes its job, at the simulator here


async def _line(log: Path, event: str) -> str:
    async with asyncio.timeout(30):
        while True:
            for line in log.read_text().splitlines():
                if event in line:
                    return line
            await asyncio.sleep(0.02)


def _stamps(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]
