"""A run: jobs are queued and processes killed, then it is calm, then everything is counted."""

import asyncio
import random
import shutil
import tempfile
import time

from mayfly.simulator import Faults
from tests.chaos import plans
from tests.chaos.endings import conclusions, served, violations
from tests.chaos.kills import Killer
from tests.chaos.members import Company
from tests.chaos.plans import Queued
from tests.chaos.reports import Report
from tests.e2e.stage import Stage, opened

BETWEEN_KILLS = 1.0
STORM_SECONDS = 200.0
"""Kills end after so long, or when most jobs have ended."""
MOST = 0.9
CALM_SECONDS = 120.0
"""For the other jobs, at the most."""
STALLED_SECONDS = 30.0
"""No job has ended for so long: what waits now is lost."""
_PROGRESS = 30
_LOOK_SECONDS = 0.05


async def run(seed: int, jobs: int) -> Report:
    """A whole run, from the first process to the last."""
    began = time.monotonic()
    async with opened(
        plans.POOLS,
        accounts=plans.ACCOUNTS,
        deadlines=plans.deadlines(),
        # GitHub's limits are for an hour and a minute of its own, and time is short here.
        mints_per_minute=180 * plans.SHORTENED,
        rate_limit=5000 * plans.SHORTENED,
        shown=False,
    ) as stage:
        company = Company(stage, random.Random(f"{seed} restarts"))
        killer = Killer(company, random.Random(f"{seed} kills"))
        queued = list(plans.jobs(random.Random(f"{seed} jobs"), jobs))
        stage.simulator.faults = plans.faults(seed)
        async with company.restarting():
            ids = await _storm(stage, killer, queued)
        struck = plans.struck(stage.simulator.faults)
        stage.simulator.faults = Faults()
        await _calm(stage, ids)
        report = Report(
            seed=seed,
            jobs=jobs,
            violations=await violations(stage, company, ids),
            conclusions=conclusions(stage, ids),
            kills=killer.kills,
            faults=struck,
            calls=stage.simulator.calls,
            seconds=time.monotonic() - began,
        )
        if report.violations:
            _keep(stage)
        return report


async def _storm(stage: Stage, killer: Killer, queued: list[Queued]) -> list[int]:
    """Queue all jobs, and kill until most have ended; their ids."""
    ids: list[int] = []
    began = strike_at = time.monotonic()
    while len(ids) < len(queued) or _ended(stage, ids) < MOST * len(queued):
        now = time.monotonic()
        if now - began > STORM_SECONDS:
            break
        while len(ids) < len(queued) and queued[len(ids)].at <= now - began:
            ids.append(_dispatched(stage, queued[len(ids)]))
        if now >= strike_at:
            strike_at += BETWEEN_KILLS
            if killer.strike() and killer.kills.total() % _PROGRESS == 0:
                print(f"{killer.kills.total()} kills, {_ended(stage, ids)} jobs", flush=True)
        await asyncio.sleep(_LOOK_SECONDS)
    return ids


async def _calm(stage: Stage, ids: list[int]) -> None:
    """Until all have ended, or none of them does any more."""
    began = changed = time.monotonic()
    ended = _ended(stage, ids)
    while ended < len(ids) and time.monotonic() < min(
        began + CALM_SECONDS, changed + STALLED_SECONDS
    ):
        await asyncio.sleep(_LOOK_SECONDS)
        before, ended = ended, _ended(stage, ids)
        if ended != before:
            changed = time.monotonic()


def _dispatched(stage: Stage, job: Queued) -> int:
    return stage.dispatch(job.repository, job.work, owner=job.owner)


def _ended(stage: Stage, ids: list[int]) -> int:
    return sum(served(stage, job) for job in ids)


def _keep(stage: Stage) -> None:
    """Logs and ledger, for whoever wants to know why."""
    kept = tempfile.mkdtemp(prefix="mayfly-chaos-")
    for name in ("logs", stage.database.name):
        source = stage.directory / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, f"{kept}/{name}")
    print(f"logs and ledger are in {kept}")
