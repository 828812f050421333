"""How a run has to end: every job served, and nothing left of anything."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing

from tests.chaos.members import Company
from tests.e2e.endings import at_github, open_ends
from tests.e2e.programs import named_after, until
from tests.e2e.stage import Stage
from tests.fakes.counters import in_file

_CALM_SECONDS = 60.0
PREFIX = "e2e-"


def served(stage: Stage, job_id: int) -> bool:
    """Whether GitHub gave the job to a runner of ours, and it has ended."""
    job = stage.simulator.world.actions.runs.job(job_id)
    ours = job.runner is not None and job.runner.name.startswith(PREFIX)
    return ours and job.status == "completed"


def conclusions(stage: Stage, jobs: list[int]) -> Counter[str]:
    """How the served jobs ended."""
    return Counter(
        str(stage.simulator.job(job)["conclusion"]) for job in jobs if served(stage, job)
    )


async def violations(stage: Stage, company: Company, jobs: list[int]) -> list[str]:
    """Every promise that was broken, once executors and control plane have ended."""
    found = [f"job {job} was lost: {_state(stage, job)}" for job in jobs if not served(stage, job)]
    try:
        await stage.quiet()
        await stage.end_executors()
    except AssertionError as error:
        found.append(str(error))
    found += await _left_over("runners at GitHub", lambda: at_github(stage))
    found += await _left_over("open ends in the ledger", lambda: open_ends(stage))
    found += await _left_over("calls GitHub cannot understand", lambda: stage.github.watched.wrong)
    assert company.plane.program is not None
    code = await company.plane.program.stopped()
    found += [f"the control plane ended with {code}"] if code else []
    found += [f"process left: {line}" for line in named_after(stage.directory)]
    found += [f"process left: {line}" for program in stage.programs for line in program.survivors()]
    found += [f"directory left: {path}" for path in stage.work_directories()]
    return [*found, *company.troubles(), *_books(stage), *_errors(stage)]


async def _left_over(
    what: str, look: Callable[[], list[str] | list[tuple[object, ...]]]
) -> list[str]:
    """What is still there after a while."""
    try:
        await until(lambda: not look(), what, seconds=_CALM_SECONDS)
    except AssertionError:
        return [f"{what}: {one}" for one in look()]
    return []


def _books(stage: Stage) -> list[str]:
    stored, recounted = in_file(stage.database)
    found = [] if stored == recounted else [f"counters {stored}, counted {recounted}"]
    with closing(sqlite3.connect(stage.database)) as database:
        (said,) = database.execute("PRAGMA integrity_check").fetchone()
    return found if said == "ok" else [*found, f"the database is broken: {said}"]


def _errors(stage: Stage) -> list[str]:
    """What a program calls an error of its own; kills are none."""
    marks = ('"level": "error"', "Traceback (most recent call last)")
    logs = {program.log: program.name for program in stage.programs}
    return [
        f"{name}: {line[:300]}"
        for log, name in logs.items()
        for line in log.read_text(errors="replace").splitlines()
        if any(mark in line for mark in marks)
    ]


def _state(stage: Stage, job_id: int) -> str:
    job = stage.simulator.job(job_id)
    return f"{job['status']} {job['conclusion']} on {job['runner_name']}"
