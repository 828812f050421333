"""Registering: from the token people copy to an agent with a key, and the way back."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from litestar import Response, delete, get, post, put
from litestar.params import FromPath
from msgspec import Struct

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.asking import Asked, answer, authorization, body_of, word
from mayfly.simulator.refusals import Refusal, not_found
from mayfly.simulator.runner_service import agents, keys
from mayfly.simulator.runner_service.agents import TaskAgent
from mayfly.simulator.runner_service.definitions import RUN, TENANT, connection_data
from mayfly.simulator.runner_service.faults import Fault, oauth
from mayfly.simulator.runner_service.grants import LIFE, Purpose, client_of, verify_assertion
from mayfly.simulator.runner_service.service import RunnerService, service_of
from mayfly.simulator.runner_service.wire import told, wrapped
from mayfly.simulator.runners import Runner, Scope


class RegistrationAsked(Struct, frozen=True, kw_only=True):
    """The first call of `configure`, and of `remove`."""

    url: str
    runner_event: str = "register"


@post("/actions/runner-registration")
async def trade(request: Asked) -> Response[Any]:
    """From the token people copy to the address of the service and a token for it."""
    service = service_of(request)
    asked = await body_of(request, RegistrationAsked)
    now = service.world.now()
    try:
        grant = service.grants.recognise(authorization(request), now, "registration")
    except Fault:
        # GitHub does not say whether the token or the address is wrong.
        raise not_found() from None
    scope = scope_of_url(service, asked.url)
    if grant.scope is None or not grant.scope.same(scope):
        raise not_found()
    return answer(
        {
            "url": f"{service.world.base}{TENANT}/",
            "token": service.grants.administration(grant.scope, now),
            "token_schema": "OAuthAccessToken",
            "use_v2_flow": service.world.settings.use_v2_registration,
        }
    )


def scope_of_url(service: RunnerService, url: str) -> Scope:
    """The repository or owner whose web address this is."""
    path = url.partition("://")[2].partition("/")[2].strip("/")
    owner, _, repo = path.partition("/")
    accounts = service.world.accounts
    if not repo:
        return Scope(owner=accounts.owner(owner).login)
    found = accounts.repository(owner, repo)
    return Scope(owner=found.owner.login, repo=found.name)


@get([f"{TENANT}/_apis/connectionData", f"{RUN}/_apis/connectionData"])
async def connection(request: Asked) -> Response[Any]:
    """Where everything is; asked without a token, too."""
    return answer(connection_data(service_of(request).world.mischief.faults.withheld_definitions))


@post(f"{TENANT}/oauth2/token")
async def token(request: Asked) -> Response[Any]:
    """A listener's token for an assertion signed with the agent's key."""
    service = service_of(request)
    form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
    client = client_of(form)
    runner = service.agents.of_client(client)
    key = None if runner is None else service.agents.key(runner.id)
    if runner is None or key is None:
        raise oauth("invalid_client", f"Registration {client} was not found.")
    verify_assertion(form, key, client, agents.authorization_url(service.world.base))
    value = service.grants.listener(runner.id, service.world.now())
    life = int(LIFE.total_seconds())
    return answer({"access_token": value, "expires_in": life, "token_type": "Bearer"})


@get(f"{TENANT}/_apis/pools")
async def pools(request: Asked) -> Response[Any]:
    """The runner groups, in the old words; a runner just configured asks for them once more."""
    service = service_of(request)
    scope = _scope(request, service, "administration", "listener")
    groups = service.world.actions.runners.groups_of(scope.owner)
    shown = groups if scope.repo is None else groups[:1]
    return answer(wrapped([{"id": g.id, "name": g.name, "isHosted": False} for g in shown]))


@post(f"{TENANT}/_apis/agents/{{pool_id:int}}")
async def create_agent(request: Asked, pool_id: FromPath[int]) -> Response[Any]:
    """Register a runner with the key it brings."""
    service = service_of(request)
    scope = _scope(request, service)
    asked = await told(request, TaskAgent)
    runner = _register(service, scope, pool_id, asked)
    return _agent(service, runner, asked)


def _register(service: RunnerService, scope: Scope, pool_id: int, asked: TaskAgent) -> Runner:
    brought = asked.authorization.public_key
    key = keys.public_key(brought.modulus, brought.exponent)
    runner, _ = service.world.actions.runners.register(
        scope,
        asked.name,
        tuple(label.name for label in asked.labels),
        service.world.now(),
        group_id=pool_id,
        ephemeral=asked.ephemeral,
    )
    service.agents.put(runner, key)
    service.world.bells.ring("state")
    return runner


@get(f"{TENANT}/_apis/agents/{{pool_id:int}}")
async def list_agents(request: Asked, pool_id: FromPath[int]) -> Response[Any]:
    """The runners of the scope, all or by `agentName`."""
    service = service_of(request)
    found = service.world.actions.runners.listed(
        _scope(request, service), word(request, "agentName")
    )
    return answer(wrapped([_shape(service, r, None) for r in found if r.group_id == pool_id]))


@put(f"{TENANT}/_apis/agents/{{pool_id:int}}/{{agent_id:int}}")
async def replace_agent(
    request: Asked, pool_id: FromPath[int], agent_id: FromPath[int]
) -> Response[Any]:
    """Register anew under a name that is taken: the old registration goes."""
    service = service_of(request)
    scope = _scope(request, service)
    asked = await told(request, TaskAgent)
    actions = service.world.actions
    actions.delete(actions.runners.get(scope, agent_id))
    return _agent(service, _register(service, scope, pool_id, asked), asked)


@delete(f"{TENANT}/_apis/agents/{{pool_id:int}}/{{agent_id:int}}", status_code=200)
async def delete_agent(
    request: Asked, pool_id: FromPath[int], agent_id: FromPath[int]
) -> Response[Any]:
    """Remove a runner that is not busy."""
    service = service_of(request)
    actions = service.world.actions
    runner = actions.runners.get(_scope(request, service), agent_id)
    if runner.group_id != pool_id:
        raise Refusal(404, f"agent {agent_id} is not in pool {pool_id}")
    actions.delete(runner)
    return answer({})


def _scope(request: Asked, service: RunnerService, *purposes: Purpose) -> Scope:
    now = service.world.now()
    allowed = purposes or ("administration",)
    grant = service.grants.recognise(authorization(request), now, *allowed)
    runner = service.alive(grant.runner_id)
    scope = grant.scope if runner is None else runner.scope
    if scope is None:
        raise not_found()
    return scope


def _agent(service: RunnerService, runner: Runner, asked: TaskAgent) -> Response[Any]:
    # 200 and not 201: there are runners that read no other answer.
    return answer(_shape(service, runner, asked))


def _shape(service: RunnerService, runner: Runner, asked: TaskAgent | None) -> Json:
    return agents.shape(runner, asked, service.world.settings, service.world.base)


ROUTES = [
    connection,
    token,
    pools,
    create_agent,
    list_agents,
    replace_agent,
    delete_agent,
]
