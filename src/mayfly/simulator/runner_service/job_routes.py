"""Reporting on a job: timeline, live lines, log files, and the event that ends it in v1."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, patch, post, put
from litestar.params import FromPath
from msgspec import Struct, field

from mayfly.simulator.asking import Asked, answer, authorization
from mayfly.simulator.refusals import Refusal, unprocessable
from mayfly.simulator.runner_service import plans
from mayfly.simulator.runner_service.definitions import RUN, TENANT
from mayfly.simulator.runner_service.results import conclusion
from mayfly.simulator.runner_service.service import Report, RunnerService, service_of
from mayfly.simulator.runner_service.timelines import Records
from mayfly.simulator.runner_service.wire import told

_PLAN = "{scope_identifier:str}/{hub:str}/{plan:str}"


def _under(path: str) -> list[str]:
    """The same resource for jobs of v1 and of v2."""
    return [f"{TENANT}/_apis/{path}", f"{RUN}/_apis/{path}"]


class Lines(Struct, frozen=True, rename="lower"):
    """Lines as a step writes them."""

    value: list[str] = field(default_factory=list)


class JobEvent(Struct, frozen=True, kw_only=True, rename="lower"):
    """Something that happened to a job; its end is what counts."""

    name: str = ""
    job_id: str = field(default="", name="jobid")
    result: str | int | None = None


def _report(request: Asked, service: RunnerService, plan: str) -> Report:
    now = service.world.now()
    return service.reported(service.grants.recognise(authorization(request), now, "job"), plan)


@patch(_under(f"records/{_PLAN}/{{timeline:str}}"))
async def update_records(request: Asked, plan: FromPath[str]) -> Response[Any]:
    """How the steps stand."""
    service = service_of(request)
    report = _report(request, service, plan)
    records = (await told(request, Records)).value
    steps = service.timelines.update(report.job.uid, records)
    service.tell(report, steps=steps)
    return answer({"count": len(records), "value": []})


@get(_under(f"timelines/{_PLAN}/{{timeline:str}}"))
async def timeline(request: Asked, plan: FromPath[str], timeline: FromPath[str]) -> Response[Any]:
    """The timeline as it stands."""
    service = service_of(request)
    report = _report(request, service, plan)
    if timeline != plans.timeline_guid(report.job):
        raise Refusal(404, f"timeline {timeline} is not found")
    return answer(service.timelines.shape(report.job.uid, timeline))


@post(_under(f"feed/{_PLAN}/{{timeline:str}}/{{record:str}}"))
async def feed(request: Asked, plan: FromPath[str]) -> Response[Any]:
    """Lines, as they are written."""
    service = service_of(request)
    report = _report(request, service, plan)
    service.tell(report, lines=(await told(request, Lines)).value)
    return answer({})


@post(_under(f"logs/{_PLAN}"))
async def create_log(request: Asked, plan: FromPath[str]) -> Response[Any]:
    """A new log file."""
    service = service_of(request)
    report = _report(request, service, plan)
    log_id = service.logs.create(report.job.uid)
    return answer({"id": log_id, "path": f"logs/{log_id}", "lineCount": 0})


@post(_under(f"logs/{_PLAN}/{{log_id:int}}"))
async def append_log(request: Asked, plan: FromPath[str], log_id: FromPath[int]) -> Response[Any]:
    """Text for a log file."""
    service = service_of(request)
    report = _report(request, service, plan)
    text = (await request.body()).decode("utf-8-sig", "replace")
    if not service.logs.append(report.job.uid, log_id, text):
        raise Refusal(404, f"log {log_id} is not found")
    return answer({"id": log_id, "lineCount": service.logs.count(log_id)})


@put(_under(f"attachments/{_PLAN}/{{timeline:str}}/{{record:str}}/{{kind:str}}/{{name:str}}"))
async def attach(request: Asked, plan: FromPath[str]) -> Response[Any]:
    """A summary or a diagnostic file: taken, and forgotten."""
    _report(request, service_of(request), plan)
    return answer({})


@post(f"{TENANT}/_apis/events/{_PLAN}")
async def event(request: Asked, plan: FromPath[str]) -> Response[Any]:
    """The end of the job; with it an ephemeral runner is gone."""
    service = service_of(request)
    report = _report(request, service, plan)
    happened = await told(request, JobEvent)
    if happened.name == "JobCompleted":
        if happened.job_id.lower() != plans.job_guid(report.job):
            raise unprocessable(f"the plan has no job {happened.job_id}")
        service.complete(report, conclusion(happened.result))
    return answer({})


ROUTES = [update_records, timeline, feed, create_log, append_log, attach, event]
