"""The small protocol between the simulator and its own, fast runner program."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Literal

from litestar import Response, delete, get, post
from litestar.params import FromPath
from msgspec import Struct, field

from mayfly.simulator.account_shapes import moment
from mayfly.simulator.asking import Asked, answer, authorization, body_of, world_of
from mayfly.simulator.jobs import Conclusion, StepRecord, WorkflowJob, WorkflowRun
from mayfly.simulator.polls import held
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.runners import Runner, Session
from mayfly.simulator.tokens import credential
from mayfly.simulator.world import World


class StepReport(Struct, frozen=True, kw_only=True):
    """How a step stands, as the runner tells it."""

    number: int
    name: str
    status: Literal["queued", "in_progress", "completed"]
    conclusion: str | None = None
    started: float | None = None
    completed: float | None = None


class Renewal(Struct, frozen=True, kw_only=True):
    """A sign of life."""

    lines: list[str] = field(default_factory=list)
    steps: list[StepReport] = field(default_factory=list)


class Completion(Struct, frozen=True, kw_only=True):
    """The end of a job."""

    conclusion: Conclusion
    lines: list[str] = field(default_factory=list)
    steps: list[StepReport] = field(default_factory=list)


def _runner(request: Asked) -> tuple[World, Runner, Session]:
    world = world_of(request)
    runner = world.actions.runners.of_session(credential(authorization(request) or ""))
    session = world.actions.runners.sessions[runner.id]
    session.seen = time.monotonic()
    return world, runner, session


@post("/_runner/session")
async def open_session(request: Asked) -> Response[Any]:
    """Turn the JIT config's secret into a session, once."""
    world = world_of(request)
    secret = credential(authorization(request) or "")
    runner, token = world.actions.runners.open_session(secret, time.monotonic())
    world.actions.online(runner)
    lost_after = world.settings.runner_lost_after_seconds
    return answer({"session": token, "renew_seconds": min(1.0, lost_after / 4)}, 201)


@delete("/_runner/session", status_code=204)
async def close_session(request: Asked) -> None:
    """The runner leaves; its registration stays until it is deleted."""
    world, runner, _ = _runner(request)
    job = world.actions.runs.jobs.get(runner.job) if runner.job is not None else None
    if job is not None and job.status == "in_progress":
        raise Refusal(409, "the runner has a job")
    world.actions.offline(runner)


@get("/_runner/message")
async def next_message(request: Asked) -> Response[Any]:
    """Hold the call until a job is there: 200 with the job, 204 without, 404 when de-registered."""
    world, runner, session = _runner(request)
    uid = await held(request, session, _assigned(world, runner.id))
    if uid == GONE:
        raise Refusal(404, "runner not found")
    return answer(None, 204) if uid is None else answer({"job": uid})


GONE = -1


async def _assigned(world: World, runner_id: int) -> int | None:
    world.actions.online(world.actions.runners.all[runner_id])

    def look() -> int | None:
        runner = world.actions.runners.all.get(runner_id)
        if runner is None or world.closing:
            return GONE
        return runner.job

    return await world.bells.until(("runner", runner_id), look, world.settings.poll_seconds)


@post("/_runner/jobs/{uid:int}/acquire")
async def acquire(request: Asked, uid: FromPath[int]) -> Response[Any]:
    """Begin the job: the answer is all the runner needs to know."""
    world, runner, _ = _runner(request)
    job = world.actions.acquire(runner, uid)
    return answer(_message(job, world.actions.runs.run(job.run_id), runner, world))


@post("/_runner/jobs/{uid:int}/renew")
async def renew(request: Asked, uid: FromPath[int]) -> Response[Any]:
    """Keep the job, hand over what happened, and hear whether to stop."""
    world, runner, _ = _runner(request)
    told = await body_of(request, Renewal)
    job = world.actions.renew(runner, uid, told.lines, _records(told.steps))
    return answer({"cancel": job.cancelling})


@post("/_runner/jobs/{uid:int}/complete")
async def complete(request: Asked, uid: FromPath[int]) -> Response[Any]:
    """End the job; an ephemeral runner is de-registered with this call."""
    world, runner, _ = _runner(request)
    told = await body_of(request, Completion)
    world.actions.renew(runner, uid, told.lines, _records(told.steps))
    world.actions.complete(runner, uid, told.conclusion)
    return answer({})


def _records(reports: list[StepReport]) -> list[StepRecord]:
    return [
        StepRecord(
            number=report.number,
            name=report.name,
            status=report.status,
            conclusion=report.conclusion,
            started_at=_moment(report.started),
            completed_at=_moment(report.completed),
        )
        for report in reports
    ]


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _message(job: WorkflowJob, run: WorkflowRun, runner: Runner, world: World) -> dict[str, object]:
    return {
        "job": job.uid,
        "name": job.plan.name,
        "work_folder": runner.work_folder,
        "env": job.plan.env,
        "steps": [
            {
                "name": step.name,
                "run": step.run,
                "shell": step.shell,
                "working_directory": step.working_directory,
                "env": step.env,
                "continue_on_error": step.continue_on_error,
                "always": step.always,
            }
            for step in job.plan.steps
        ],
        "context": _context(job, run, world),
        "event": {"repository": {"full_name": run.repository.full_name}, "ref": _ref(run)},
        "started_at": moment(world.now()),
    }


def _ref(run: WorkflowRun) -> str:
    return f"refs/heads/{run.head_branch}"


def _context(job: WorkflowJob, run: WorkflowRun, world: World) -> dict[str, str]:
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTOR": run.actor,
        "GITHUB_API_URL": world.base,
        "GITHUB_EVENT_NAME": run.event,
        "GITHUB_JOB": job.plan.key,
        "GITHUB_REF": _ref(run),
        "GITHUB_REF_NAME": run.head_branch,
        "GITHUB_REPOSITORY": run.repository.full_name,
        "GITHUB_REPOSITORY_OWNER": run.repository.owner.login,
        "GITHUB_RUN_ATTEMPT": str(job.run_attempt),
        "GITHUB_RUN_ID": str(run.id),
        "GITHUB_RUN_NUMBER": str(run.number),
        "GITHUB_SERVER_URL": world.base,
        "GITHUB_SHA": run.head_sha,
        "GITHUB_WORKFLOW": run.workflow,
    }


ROUTES = [open_session, close_session, next_message, acquire, renew, complete]
