"""Listening for a job in v2: the broker says that there is one, and where to get it."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, post
from msgspec import Struct

from mayfly.simulator.asking import Asked, answer, authorization, body_of, word
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.runner_service import faults
from mayfly.simulator.runner_service.definitions import BROKER
from mayfly.simulator.runner_service.faults import Fault
from mayfly.simulator.runner_service.listener_routes import leave, poll
from mayfly.simulator.runner_service.service import RunnerService, service_of
from mayfly.simulator.runner_service.sessions import Conflict, OpenSession, SessionAsked
from mayfly.simulator.runner_service.wire import told
from mayfly.simulator.runners import Runner

SILENCE = 202
"""The status of a poll that has nothing to say."""


class Acknowledgement(Struct, frozen=True, rename="camel"):
    """Which announcement a runner has heard."""

    runner_request_id: str = ""


def _listening(request: Asked, service: RunnerService) -> Runner:
    now = service.world.now()
    grant = service.grants.recognise(authorization(request), now, "listener")
    runner = service.alive(grant.runner_id)
    if runner is None:
        raise _not_found()
    return runner


def _not_found() -> Fault:
    return faults.broker(404, "RunnerNotFound", "Runner not found")


def _session(request: Asked, service: RunnerService, runner: Runner) -> OpenSession:
    found = service.sessions.find(word(request, "sessionId"), runner.id)
    if found is None:
        raise faults.broker(404, "RunnerSessionInvalid", "The session is not valid any more")
    return found


@post(f"{BROKER}/session")
async def open_session(request: Asked) -> Response[Any]:
    """Begin to listen; refused while another process does."""
    service = service_of(request)
    runner = _listening(request, service)
    asked = await told(request, SessionAsked)
    try:
        session = service.sessions.open(runner, asked)
    except Conflict:
        sentence = "Another session is active for this runner"
        raise faults.broker(409, "SessionConflict", sentence) from None
    return answer(service.sessions.shape(session, asked))


@delete(f"{BROKER}/session", status_code=200)
async def close_session(request: Asked) -> Response[Any]:
    """Listen no more."""
    service = service_of(request)
    runner = _listening(request, service)
    # Runners do not say which: they have one.
    kept = service.world.actions.runners.sessions[runner.id].token
    leave(service, runner, word(request, "sessionId") or kept or "")
    return answer({})


@get(f"{BROKER}/message")
async def next_message(request: Asked) -> Response[Any]:
    """Hold the call until there is a message; it comes again until it is acknowledged."""
    service = service_of(request)
    session = _session(request, service, _listening(request, service))
    try:
        message = await poll(request, service, session, 0)
    except Fault:
        raise _not_found() from None
    return answer(message) if message is not None else Response(b"", status_code=SILENCE)


@post(f"{BROKER}/acknowledge")
async def acknowledge(request: Asked) -> Response[Any]:
    """The runner has heard of the job, and goes to acquire it; again is no harm."""
    service = service_of(request)
    runner = _listening(request, service)
    _session(request, service, runner)
    asked = await body_of(request, Acknowledgement)
    try:
        job = service.requested(runner, asked.runner_request_id)
    except Refusal as refusal:
        raise faults.broker(404, "AcknowledgeJobNotFound", refusal.message) from None
    service.mailboxes.take_of(runner.id, job.uid)
    return answer({})


ROUTES = [open_session, close_session, next_message, acknowledge]
