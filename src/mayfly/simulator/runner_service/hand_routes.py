"""The control API for trying a runner by hand: its token or JIT config, without an App."""

from __future__ import annotations

from typing import Any

from litestar import Response, post
from msgspec import Struct, field

from mayfly.simulator import jitconfig
from mayfly.simulator.account_shapes import moment
from mayfly.simulator.asking import Asked, answer, body_of
from mayfly.simulator.runner_service.service import RunnerService, service_of
from mayfly.simulator.runners import Scope


class TokenAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a runner is to be registered."""

    owner: str
    repo: str | None = None


class ConfigAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A runner to be."""

    owner: str
    name: str
    repo: str | None = None
    labels: tuple[str, ...] = field(default=("self-hosted", "linux", "x64"))
    ephemeral: bool = True


def _scope(service: RunnerService, owner: str, repo: str | None) -> Scope:
    accounts = service.world.accounts
    if repo is None:
        return Scope(owner=accounts.owner(owner).login)
    found = accounts.repository(owner, repo)
    return Scope(owner=found.owner.login, repo=found.name)


@post("/_simulator/registration-tokens")
async def registration_token(request: Asked) -> Response[Any]:
    """A registration token, with the web address that goes with it."""
    service = service_of(request)
    asked = await body_of(request, TokenAsked)
    scope = _scope(service, asked.owner, asked.repo)
    token, end = service.grants.registration(scope, service.world.now())
    path = "/".join(part for part in (scope.owner, scope.repo) if part)
    url = f"{service.world.base}/{path}"
    return answer({"url": url, "token": token, "expires_at": moment(end)}, 201)


@post("/_simulator/jit-configs")
async def jit_config(request: Asked) -> Response[Any]:
    """A JIT config."""
    service = service_of(request)
    asked = await body_of(request, ConfigAsked)
    runner, session = service.world.actions.runners.register(
        _scope(service, asked.owner, asked.repo),
        asked.name,
        asked.labels,
        service.world.now(),
        ephemeral=asked.ephemeral,
    )
    blob = jitconfig.encode(service.jit_files(runner), session, service.world.base)
    service.world.bells.ring("state")
    return answer({"runner_id": runner.id, "encoded_jit_config": blob}, 201)


ROUTES = [registration_token, jit_config]
