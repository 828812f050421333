"""Listening for a job in v1: sessions, messages, and keeping the job."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, patch, post, put
from litestar.params import FromPath

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.asking import Asked, answer, authorization, number, word
from mayfly.simulator.polls import held
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.runner_service import faults, mailboxes
from mayfly.simulator.runner_service.definitions import BROKER, TENANT
from mayfly.simulator.runner_service.job_messages import PIPELINES
from mayfly.simulator.runner_service.service import RunnerService, service_of
from mayfly.simulator.runner_service.sessions import Conflict, OpenSession, SessionAsked
from mayfly.simulator.runner_service.wire import precise, told, wrapped
from mayfly.simulator.runners import Runner

SILENCE = 204
"""The status of a poll that has nothing to say."""


def listening(request: Asked, service: RunnerService) -> Runner:
    """The runner whose listener asks; raises Fault 401, and 404 once it is gone."""
    now = service.world.now()
    grant = service.grants.recognise(authorization(request), now, "listener")
    runner = service.alive(grant.runner_id)
    if runner is None:
        raise faults.pipelines(404, "TaskAgentNotFoundException", "The agent is not registered.")
    return runner


@post(f"{TENANT}/_apis/sessions/{{pool_id:int}}")
async def open_session(request: Asked, pool_id: FromPath[int]) -> Response[Any]:
    """Begin to listen; refused while another process does."""
    service = service_of(request)
    runner = listening(request, service)
    asked = await told(request, SessionAsked)
    if pool_id != runner.group_id or asked.agent.id not in {0, runner.id}:
        raise faults.pipelines(404, "TaskAgentNotFoundException", "The agent is not registered.")
    try:
        session = service.sessions.open(runner, asked)
    except Conflict:
        sentence = f"The agent {runner.name} already has an active session."
        raise faults.pipelines(409, "TaskAgentSessionConflictException", sentence) from None
    shown = service.sessions.shape(session, asked)
    if service.world.settings.runner_flow == "v2":
        shown |= {"brokerMigrationMessage": _migration(service)}
    return answer(shown, 200)


def _migration(service: RunnerService) -> Json:
    return {"brokerBaseUrl": f"{service.world.base}{BROKER}/"}


@delete(f"{TENANT}/_apis/sessions/{{pool_id:int}}/{{session_id:str}}", status_code=200)
async def close_session(
    request: Asked, pool_id: FromPath[int], session_id: FromPath[str]
) -> Response[Any]:
    """Listen no more; to say so again is no harm."""
    service = service_of(request)
    runner = listening(request, service)
    if pool_id == runner.group_id:
        leave(service, runner, session_id)
    return answer({})


def leave(service: RunnerService, runner: Runner, session_id: str) -> None:
    """End the runner's session; a job it has keeps it until its lock is over."""
    if service.sessions.find(session_id, runner.id) is None:
        return
    job = service.world.actions.runs.jobs.get(runner.job or 0)
    if job is not None and job.status == "in_progress":
        return
    service.sessions.drop(session_id)
    service.mailboxes.clear(runner.id)
    service.world.actions.offline(runner)


@get(f"{TENANT}/_apis/messages/{{pool_id:int}}")
async def next_message(request: Asked, pool_id: FromPath[int]) -> Response[Any]:
    """Hold the call until there is a message: 204 when none comes."""
    service = service_of(request)
    now = service.world.now()
    grant = service.grants.recognise(authorization(request), now, "listener")
    service.alive(grant.runner_id)
    session = service.sessions.find(word(request, "sessionId"), grant.runner_id)
    runner = service.world.actions.runners.all.get(grant.runner_id)
    if session is None or runner is None or runner.group_id != pool_id:
        raise _expired()
    if service.world.settings.runner_flow == "v2":
        return answer(_moved(service, session))
    message = await poll(request, service, session, number(request, "lastMessageId", 0))
    return answer(message, SILENCE if message is None else 200)


def _expired() -> faults.Fault:
    sentence = "The session has expired, or the agent is not registered any more."
    return faults.pipelines(404, "TaskAgentSessionExpiredException", sentence)


def _moved(service: RunnerService, session: OpenSession) -> Json:
    body = mailboxes.text(_migration(service))
    message = mailboxes.Message(id=0, kind="BrokerMigration", body=body, job=0)
    return mailboxes.shape(message, session)


async def poll(
    request: Asked, service: RunnerService, session: OpenSession, after: int
) -> Json | None:
    """The next message as the session reads it; raises Fault 404 when the runner goes."""
    kept = service.world.actions.runners.sessions[session.runner_id]
    try:
        found = await held(request, kept, service.message(session.runner_id, after))
    except Refusal:
        raise _expired() from None
    return None if found is None else mailboxes.shape(found, session)


@delete(f"{TENANT}/_apis/messages/{{pool_id:int}}/{{message_id:int}}", status_code=200)
async def delete_message(request: Asked, message_id: FromPath[int]) -> Response[Any]:
    """The runner has read the message, and with it begins its job; again is no harm."""
    service = service_of(request)
    runner = listening(request, service)
    message = service.mailboxes.take(runner.id, message_id)
    # A job may have been cancelled in between: then the runner hears of it when it renews.
    if message is not None and message.kind == PIPELINES and message.job == runner.job:
        service.acquire(runner, message.job)
    return answer({})


@patch(f"{TENANT}/_apis/jobrequests/{{pool_id:int}}/{{request_id:int}}")
async def renew(request: Asked, pool_id: FromPath[int], request_id: FromPath[int]) -> Response[Any]:
    """Keep the job for another while."""
    service = service_of(request)
    runner = listening(request, service)
    try:
        until = service.renew(runner, request_id)
    except Refusal as refusal:
        raise faults.pipelines(404, "TaskAgentJobNotFoundException", refusal.message) from None
    return answer({"requestId": request_id, "poolId": pool_id, "lockedUntil": precise(until)})


@get(f"{TENANT}/_apis/jobmessages/{{wanted:str}}")
async def job_message(request: Asked, wanted: FromPath[str]) -> Response[Any]:
    """The job message by its request, for a runner that is told no run service."""
    service = service_of(request)
    runner = listening(request, service)
    job = service.requested(runner, wanted)
    job = service.acquire(runner, job.uid)
    return answer(service.job_message(job, runner, PIPELINES))


@get(f"{TENANT}/_apis/packages/{{kind:str}}/{{platform:str}}")
async def packages(request: Asked) -> Response[Any]:
    """Newer versions of the runner: none."""
    listening(request, service_of(request))
    return answer(wrapped([]))


@put(f"{TENANT}/_apis/updates/{{pool_id:int}}/{{agent_id:int}}")
async def update_state(request: Asked) -> Response[Any]:
    """How a runner's update of itself goes: heard, and forgotten."""
    runner = listening(request, service_of(request))
    return answer({"id": runner.id, "name": runner.name})


ROUTES = [
    open_session,
    close_session,
    next_message,
    delete_message,
    renew,
    job_message,
    packages,
    update_state,
]
