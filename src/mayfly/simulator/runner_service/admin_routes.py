"""Registering by the API for runner administration, where `configure` of v2 is sent."""

from __future__ import annotations

from typing import Any

from litestar import Response, post
from msgspec import Struct, field

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.asking import Asked, answer, authorization, body_of
from mayfly.simulator.refusals import Refusal, not_found
from mayfly.simulator.runner_service import agents, keys
from mayfly.simulator.runner_service.definitions import BROKER
from mayfly.simulator.runner_service.faults import Fault
from mayfly.simulator.runner_service.registration_routes import scope_of_url
from mayfly.simulator.runner_service.service import RunnerService, service_of
from mayfly.simulator.runners import Runner, Scope
from mayfly.simulator.tokens import BAD_CREDENTIALS


class AdminLabel(Struct, frozen=True):
    """A label, whoever gave it."""

    name: str
    type: str = "user"


class AdminAsked(Struct, frozen=True, kw_only=True):
    """A runner as it describes itself here."""

    url: str
    name: str
    group_id: int
    public_key: str
    labels: list[AdminLabel | str] = field(default_factory=list)
    ephemeral: bool = False
    runner_id: int | None = None
    replace: bool = False


def administered(request: Asked) -> Scope | None:
    """What a registration token, or what it was traded for, opens here; None without one."""
    service = service_of(request)
    try:
        grant = service.grants.recognise(
            authorization(request), service.world.now(), "registration", "administration"
        )
    except Fault:
        return None
    return grant.scope


@post("/actions/runners/register")
async def register(request: Asked) -> Response[Any]:
    """Register a runner with the key it brings, or register it anew."""
    service = service_of(request)
    asked = await body_of(request, AdminAsked)
    scope = administered(request)
    if scope is None:
        raise Refusal(401, BAD_CREDENTIALS)
    if not scope.same(scope_of_url(service, asked.url)):
        raise not_found()
    key = keys.from_xml(asked.public_key)
    actions = service.world.actions
    if asked.replace and asked.runner_id is not None:
        actions.delete(actions.runners.get(scope, asked.runner_id))
    labels = tuple(each if isinstance(each, str) else each.name for each in asked.labels)
    runner, _ = actions.runners.register(
        scope,
        asked.name,
        labels,
        service.world.now(),
        group_id=asked.group_id,
        ephemeral=asked.ephemeral,
    )
    service.agents.put(runner, key)
    service.world.bells.ring("state")
    return answer(_shape(service, runner), 201)


def _shape(service: RunnerService, runner: Runner) -> Json:
    base = service.world.base
    return {
        "id": runner.id,
        "name": runner.name,
        "authorization": {
            "authorization_url": agents.authorization_url(base),
            "server_url": f"{base}{BROKER}/",
            "client_id": agents.client_id(runner),
        },
    }


ROUTES = [register]
