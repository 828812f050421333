"""The endpoints of runners, for a repository and for an organization."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, post
from litestar.params import FromPath
from msgspec import Struct

from mayfly.simulator import access, action_shapes, archives, jitconfig
from mayfly.simulator.account_shapes import Json, moment
from mayfly.simulator.asking import Asked, answer, authorization, body_of, paged, word, world_of
from mayfly.simulator.refusals import not_found
from mayfly.simulator.runner_service.admin_routes import administered
from mayfly.simulator.runner_service.service import service_of
from mayfly.simulator.runners import DEFAULT_GROUP, Scope
from mayfly.simulator.world import World


class JitAsked(Struct, frozen=True, kw_only=True):
    """The body of a JIT config request."""

    name: str
    runner_group_id: int
    labels: list[str]
    work_folder: str = "_work"


class GroupAsked(Struct, frozen=True, kw_only=True):
    """The body of a runner group request."""

    name: str
    visibility: str = "all"


def _repository(request: Asked, owner: str, repo: str, permission: str) -> Scope:
    world = world_of(request)
    found = access.enter_repository(world, authorization(request), owner, repo, permission)
    return access.scope_of(found)


def _organization(request: Asked, org: str, permission: str) -> Scope:
    return access.enter_organization(world_of(request), authorization(request), org, permission)


def _registering(request: Asked, asked: Scope, permission: str) -> Scope:
    """The same for `configure` and `remove`, which come with a registration token as well."""
    registered = administered(request)
    if registered is not None:
        if not registered.same(asked):
            raise not_found()
        return registered
    if asked.repo is None:
        return _organization(request, asked.owner, permission)
    return _repository(request, asked.owner, asked.repo, permission)


def _list(request: Asked, scope: Scope) -> Response[Any]:
    found = world_of(request).actions.runners.listed(scope, word(request, "name"))
    return paged(request, [action_shapes.runner(r) for r in found], "runners")


def _get(request: Asked, scope: Scope, runner_id: int) -> Response[Any]:
    return answer(action_shapes.runner(world_of(request).actions.runners.get(scope, runner_id)))


def _delete(request: Asked, scope: Scope, runner_id: int) -> None:
    actions = world_of(request).actions
    actions.delete(actions.runners.get(scope, runner_id))


async def _jitconfig(request: Asked, scope: Scope) -> Response[Any]:
    world = world_of(request)
    asked = await body_of(request, JitAsked)
    runner, session = world.actions.runners.register(
        scope,
        asked.name,
        tuple(asked.labels),
        world.now(),
        group_id=asked.runner_group_id,
        work_folder=asked.work_folder,
    )
    blob = jitconfig.encode(service_of(request).jit_files(runner), session, world.base)
    world.bells.ring("state")
    return answer({"runner": action_shapes.runner(runner), "encoded_jit_config": blob}, 201)


def _registration_token(request: Asked, scope: Scope) -> Response[Any]:
    value, end = service_of(request).grants.registration(scope, world_of(request).now())
    return answer({"token": value, "expires_at": moment(end)}, 201)


def _downloads(request: Asked) -> Response[Any]:
    world = world_of(request)
    wrong = world.mischief.for_download("wrong_checksum") is not None
    return answer([_application(world, one, wrong=wrong) for one in archives.ARCHITECTURES])


def _application(world: World, architecture: str, *, wrong: bool) -> Json:
    version = world.newest_release
    filename = archives.filename(architecture, version)
    content = archives.archive(architecture, version, world.settings.runner_archive_bytes)
    if wrong:
        content += b"of another file"
    return {
        "os": "linux",
        "architecture": architecture,
        "download_url": f"{world.base}/actions/runner/releases/download/v{version}/{filename}",
        "filename": filename,
        "sha256_checksum": archives.sha256(content),
    }


@get("/repos/{owner:str}/{repo:str}/actions/runners")
async def repository_runners(
    request: Asked, owner: FromPath[str], repo: FromPath[str]
) -> Response[Any]:
    return _list(request, _registering(request, Scope(owner=owner, repo=repo), access.RUNNERS_READ))


@get("/orgs/{org:str}/actions/runners")
async def organization_runners(request: Asked, org: FromPath[str]) -> Response[Any]:
    return _list(request, _registering(request, Scope(owner=org), access.ORG_RUNNERS_READ))


@get("/repos/{owner:str}/{repo:str}/actions/runners/{runner_id:int}")
async def repository_runner(
    request: Asked, owner: FromPath[str], repo: FromPath[str], runner_id: FromPath[int]
) -> Response[Any]:
    return _get(request, _repository(request, owner, repo, access.RUNNERS_READ), runner_id)


@get("/orgs/{org:str}/actions/runners/{runner_id:int}")
async def organization_runner(
    request: Asked, org: FromPath[str], runner_id: FromPath[int]
) -> Response[Any]:
    return _get(request, _organization(request, org, access.ORG_RUNNERS_READ), runner_id)


@delete("/repos/{owner:str}/{repo:str}/actions/runners/{runner_id:int}", status_code=204)
async def delete_repository_runner(
    request: Asked, owner: FromPath[str], repo: FromPath[str], runner_id: FromPath[int]
) -> None:
    _delete(
        request,
        _registering(request, Scope(owner=owner, repo=repo), access.RUNNERS_WRITE),
        runner_id,
    )


@delete("/orgs/{org:str}/actions/runners/{runner_id:int}", status_code=204)
async def delete_organization_runner(
    request: Asked, org: FromPath[str], runner_id: FromPath[int]
) -> None:
    _delete(request, _registering(request, Scope(owner=org), access.ORG_RUNNERS_WRITE), runner_id)


@get("/repos/{owner:str}/{repo:str}/actions/runners/downloads")
async def repository_downloads(
    request: Asked, owner: FromPath[str], repo: FromPath[str]
) -> Response[Any]:
    _repository(request, owner, repo, access.RUNNERS_READ)
    return _downloads(request)


@get("/orgs/{org:str}/actions/runners/downloads")
async def organization_downloads(request: Asked, org: FromPath[str]) -> Response[Any]:
    _organization(request, org, access.ORG_RUNNERS_READ)
    return _downloads(request)


@post("/repos/{owner:str}/{repo:str}/actions/runners/generate-jitconfig")
async def repository_jitconfig(
    request: Asked, owner: FromPath[str], repo: FromPath[str]
) -> Response[Any]:
    return await _jitconfig(request, _repository(request, owner, repo, access.RUNNERS_WRITE))


@post("/orgs/{org:str}/actions/runners/generate-jitconfig")
async def organization_jitconfig(request: Asked, org: FromPath[str]) -> Response[Any]:
    return await _jitconfig(request, _organization(request, org, access.ORG_RUNNERS_WRITE))


@post(
    [
        "/repos/{owner:str}/{repo:str}/actions/runners/registration-token",
        "/repos/{owner:str}/{repo:str}/actions/runners/remove-token",
    ]
)
async def repository_registration(
    request: Asked, owner: FromPath[str], repo: FromPath[str]
) -> Response[Any]:
    scope = _repository(request, owner, repo, access.RUNNERS_WRITE)
    return _registration_token(request, scope)


@post(
    [
        "/orgs/{org:str}/actions/runners/registration-token",
        "/orgs/{org:str}/actions/runners/remove-token",
    ]
)
async def organization_registration(request: Asked, org: FromPath[str]) -> Response[Any]:
    scope = _organization(request, org, access.ORG_RUNNERS_WRITE)
    return _registration_token(request, scope)


@get("/orgs/{org:str}/actions/runner-groups")
async def list_groups(request: Asked, org: FromPath[str]) -> Response[Any]:
    scope = _registering(request, Scope(owner=org), access.ORG_RUNNERS_READ)
    world = world_of(request)
    groups = world.actions.runners.groups_of(scope.owner)
    shaped = [action_shapes.runner_group(group, scope.owner, world.base) for group in groups]
    return paged(request, shaped, "runner_groups")


@get("/repos/{owner:str}/{repo:str}/actions/runner-groups")
async def repository_groups(
    request: Asked, owner: FromPath[str], repo: FromPath[str]
) -> Response[Any]:
    """The one group a repository has; only a runner that registers asks for it."""
    scope = _registering(request, Scope(owner=owner, repo=repo), access.RUNNERS_READ)
    shaped = action_shapes.runner_group(DEFAULT_GROUP, scope.owner, world_of(request).base)
    return paged(request, [shaped], "runner_groups")


@post("/orgs/{org:str}/actions/runner-groups")
async def create_group(request: Asked, org: FromPath[str]) -> Response[Any]:
    scope = _organization(request, org, access.ORG_RUNNERS_WRITE)
    world = world_of(request)
    asked = await body_of(request, GroupAsked)
    group = world.actions.runners.add_group(scope.owner, asked.name, asked.visibility)
    return answer(action_shapes.runner_group(group, scope.owner, world.base), 201)


ROUTES = [
    repository_runners,
    organization_runners,
    repository_runner,
    organization_runner,
    delete_repository_runner,
    delete_organization_runner,
    repository_downloads,
    organization_downloads,
    repository_jitconfig,
    organization_jitconfig,
    repository_registration,
    organization_registration,
    list_groups,
    repository_groups,
    create_group,
]
