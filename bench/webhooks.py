"""Webhooks a second: the full way into the ledger, against a bare server and with a backlog."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from bench.machines import free_port, pinned
from bench.places import (
    POSTGRES,
    POSTGRES_RABBITMQ,
    SQLITE,
    SQLITE_RABBITMQ,
    Place,
    Servers,
    servers,
)
from mayfly.engine.clock import SystemClock
from mayfly.model.access import Admitted, Scope
from mayfly.model.deadlines import Deadlines
from mayfly.model.demand import demand_for
from mayfly.model.jobs import InstallationId, JobId, JobKey, JobState, WorkflowJob, WorkflowJobEvent
from mayfly.simulator import generate_app_key
from mayfly.store import sql

SECRET = "bench-secret"
BACKLOG = 100_000
GROUPS = 50
RUNG_FOR_EACH = 100_000
"""So large a pool has a free slot, and so a confirmed doorbell, for every job."""
BARE = "bare ASGI + HMAC + batched insert"
EMPTY = "mayfly, SQLite, empty ledger"
SETTINGS = """\
[server]
port = {port}
{places}
[github]
app_id = 1
api_url = "http://127.0.0.1:9"
private_key_file = "{directory}/app.pem"
webhook_secret_files = ["{directory}/secret"]
[log]
level = "warning"
[[pools]]
name = "linux"
max = {most}
[[access]]
owner = "bench"
pool = "linux"
"""


def measure(rounds: int = 5, count: int = 15_000) -> None:
    """Interleaved rounds; medians and their ratios."""
    backlog = f"mayfly, SQLite, {BACKLOG:,} queued"
    with servers() as started:
        runs: dict[str, Callable[[], float]] = {
            BARE: lambda: _bare(count),
            EMPTY: lambda: _mayfly(count, SQLITE, started),
            backlog: lambda: _mayfly(count, SQLITE, started, backlog=BACKLOG),
            **{
                f"mayfly, {place.name}": partial(_mayfly, count, place, started)
                for place in (SQLITE_RABBITMQ, POSTGRES, POSTGRES_RABBITMQ)
            },
        }
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                rates[name].append(run())
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print("webhooks, distinct signed 11 KB payloads, 32 connections, server on one core")
    for name, found in rates.items():
        shown = ", ".join(f"{rate:,.0f}" for rate in found)
        print(f"  {name:36} {medians[name]:8,.0f}/s   ({shown})")
    print(f"  mayfly / bare                        {medians[EMPTY] / medians[BARE]:8.0%}")
    print(f"  with backlog / without               {medians[backlog] / medians[EMPTY]:8.0%}")


def _bare(count: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        command = ("-m", "bench.bare", str(port), SECRET, f"{directory}/bare.sqlite")
        with pinned(0, *command, port=port):
            return _load(port, count, first=0)


def _mayfly(count: int, place: Place, started: Servers, backlog: int = 0) -> float:
    with tempfile.TemporaryDirectory() as name:
        directory, port = Path(name), free_port()
        (directory / "app.pem").write_text(generate_app_key()[0])
        (directory / "secret").write_text(SECRET)
        config = directory / "mayfly.toml"
        config.write_text(
            SETTINGS.format(
                port=port,
                directory=directory,
                most=RUNG_FOR_EACH if place.bus == "rabbitmq" else 1,
                places=place.settings(f"{directory}/mayfly.sqlite", started),
            )
        )
        if backlog:
            asyncio.run(_fill(f"sqlite:///{directory}/mayfly.sqlite", backlog))
        with pinned(0, "-m", "mayfly", "serve", "--config", str(config), port=port):
            return _load(port, count, first=backlog)


def _load(port: int, count: int, first: int) -> float:
    command = ["taskset", "-c", "1", sys.executable, "-m", "bench.load", f"http://127.0.0.1:{port}"]
    options = ["--secret", SECRET, "--count", str(count), "--first", str(first)]
    printed = subprocess.run(
        [*command, *options], check=True, capture_output=True, timeout=300
    ).stdout
    answer = json.loads(printed)
    if answer["accepted"] != answer["sent"]:
        raise RuntimeError(f"only {answer['accepted']} of {answer['sent']} were accepted")
    return float(answer["accepted"] / answer["seconds"])


async def _fill(url: str, backlog: int) -> None:
    """A ledger in which `backlog` jobs of 50 groups are queued."""
    async with sql.open_store(url, SystemClock(), Deadlines()) as (ledger, _):
        jobs = [_queued(number) for number in range(backlog)]
        for start in range(0, backlog, 1000):
            await ledger.record(jobs[start : start + 1000])


def _queued(number: int) -> WorkflowJob:
    repository = f"repo-{number % GROUPS}"
    at = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
    event = WorkflowJobEvent(
        key=JobKey(JobId(10_000_000 + number), 1),
        state=JobState.QUEUED,
        run_id=number,
        name="build",
        workflow="CI",
        labels=("self-hosted", "linux"),
        installation=InstallationId(1),
        owner="bench",
        owner_is_organization=True,
        repository=repository,
        html_url="",
        branch="main",
        conclusion=None,
        created_at=at,
        started_at=at,
        completed_at=None,
        runner_name=None,
        delivery=str(number),
    )
    scope = Scope(f"repos/bench/{repository}")
    decision = Admitted(pool="linux", variant=None, scope=scope, rule="bench")
    job = WorkflowJob(event=event, decision=decision, group=None, received_at=at)
    demand = demand_for(job)
    return msgspec.structs.replace(job, group=demand.group if demand else None)
