"""Taking, keeping and ending a job in v2: the run service."""

from __future__ import annotations

from typing import Any

from litestar import Response, post
from msgspec import Struct, field

from mayfly.simulator.asking import Asked, answer, authorization
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.runner_service import faults, plans
from mayfly.simulator.runner_service.definitions import RUN
from mayfly.simulator.runner_service.job_messages import RUN_SERVICE
from mayfly.simulator.runner_service.listener_routes import listening
from mayfly.simulator.runner_service.results import conclusion
from mayfly.simulator.runner_service.service import service_of
from mayfly.simulator.runner_service.timelines import StepResult, from_results
from mayfly.simulator.runner_service.wire import precise, told


class Acquisition(Struct, frozen=True, kw_only=True, rename="lower"):
    """Which job a runner wants to begin."""

    job_message_id: str = field(default="", name="jobmessageid")


class Completion(Struct, frozen=True, kw_only=True, rename="lower"):
    """The end of a job; a renewal has the same first fields."""

    plan_id: str = field(default="", name="planid")
    job_id: str = field(default="", name="jobid")
    conclusion: str | int | None = None
    step_results: list[StepResult] | None = field(default=None, name="stepresults")


@post(f"{RUN}/acquirejob")
async def acquire(request: Asked) -> Response[Any]:
    """Begin the job: the answer is the whole job message."""
    service = service_of(request)
    runner = listening(request, service)
    asked = await told(request, Acquisition)
    try:
        job = service.requested(runner, asked.job_message_id)
        job = service.acquire(runner, job.uid)
    except Refusal:
        raise faults.run_service(404, f"Job {asked.job_message_id} is not found") from None
    return answer(service.job_message(job, runner, RUN_SERVICE))


@post(f"{RUN}/renewjob")
async def renew(request: Asked) -> Response[Any]:
    """Keep the job; asked with the job's token, or the listener's."""
    service = service_of(request)
    told_of = await told(request, Completion)
    now = service.world.now()
    grant = service.grants.recognise(authorization(request), now, "job", "listener")
    runner = service.alive(grant.runner_id)
    job = None if runner is None else service.world.actions.runs.jobs.get(runner.job or 0)
    if runner is None or job is None or told_of.job_id.lower() != plans.job_guid(job):
        raise faults.run_service(404, f"Job {told_of.job_id} is not found")
    return answer({"lockedUntil": precise(service.renew(runner, job.uid))})


@post(f"{RUN}/completejob")
async def complete(request: Asked) -> Response[Any]:
    """The end of the job; with it an ephemeral runner is gone."""
    service = service_of(request)
    ending = await told(request, Completion)
    grant = service.grants.recognise(authorization(request), service.world.now(), "job")
    try:
        report = service.reported(grant, ending.plan_id.lower())
    except Refusal as refusal:
        raise faults.run_service(404, refusal.message) from None
    if ending.job_id.lower() != plans.job_guid(report.job):
        raise faults.run_service(404, f"Job {ending.job_id} is not found")
    steps = from_results(ending.step_results or [])
    service.complete(report, conclusion(ending.conclusion), steps)
    return answer({})


ROUTES = [acquire, renew, complete]
