"""The control API, first half: what people do on the real GitHub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from litestar import Response, delete, patch, post
from litestar.params import FromPath
from msgspec import Struct, field, to_builtins

from mayfly.simulator.account_shapes import installation as installation_shape
from mayfly.simulator.accounts import Installation
from mayfly.simulator.asking import Asked, answer, body_of
from mayfly.simulator.deliveries import ContentType
from mayfly.simulator.jobs import Conclusion
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.settings import OwnerType
from mayfly.simulator.simulation import Simulator

_REGISTERED, _HOOKED = ("permissions", "events"), ("active", "content_type", "insecure_ssl")


def simulator_of(request: Asked) -> Simulator:
    simulator: Simulator = request.app.state["simulator"]
    return simulator


class WorkflowAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run a workflow: its text, or the path of its file."""

    owner: str
    repo: str
    yaml: str | None = None
    path: str | None = None
    event: str = "push"
    actor: str = "octocat"
    head_branch: str = "main"
    head_repository: str | None = None


class AccountAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Create an owner."""

    login: str
    type: OwnerType = "Organization"
    repositories: tuple[str, ...] = ()
    installation_id: int | None = None
    installed: bool = True


class RepositoryAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Create a repository."""

    owner: str
    name: str
    private: bool = True
    fork: bool = False


class InstallationAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Install the App on an owner."""

    owner: str
    installation_id: int | None = None
    permissions: dict[str, str] | None = None


class InstallationChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change an installation; what is left out stays."""

    suspended: bool | None = None
    permissions: dict[str, str] | None = None
    repositories: list[str] | None = None


class AppChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change how the App is registered and its webhook set up; what is left out stays."""

    permissions: dict[str, str] | None = None
    """What it asks for; installations keep what they granted."""
    events: tuple[str, ...] | None = None
    active: bool | None = None
    content_type: ContentType | None = None
    insecure_ssl: Literal["0", "1"] | None = None


class RunnerAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A foreign runner without a process."""

    owner: str
    name: str
    repo: str | None = None
    labels: tuple[str, ...] = field(default_factory=tuple)
    after_ms: int | None = 0
    conclusion: Conclusion = "success"
    ephemeral: bool = True


class Ending(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a job ends."""

    conclusion: Conclusion = "success"


class Target(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A runner by id or name."""

    runner: str | int


@post("/_simulator/workflows")
async def dispatch(request: Asked) -> Response[Any]:
    asked = await body_of(request, WorkflowAsked)
    text = asked.yaml if asked.yaml is not None else _read(asked.path)
    made = simulator_of(request).dispatch(
        asked.owner,
        asked.repo,
        text,
        event=asked.event,
        actor=asked.actor,
        head_branch=asked.head_branch,
        head_repository=asked.head_repository,
    )
    return answer(to_builtins(made), 201)


def _read(path: str | None) -> str:
    try:
        return Path(path or "").read_text()
    except OSError as error:
        raise Refusal(422, f"neither yaml nor a readable path: {error}") from None


@post("/_simulator/owners")
async def create_owner(request: Asked) -> Response[Any]:
    asked = await body_of(request, AccountAsked)
    simulator = simulator_of(request)
    owner = simulator.add_account(
        asked.login,
        type=asked.type,
        repositories=asked.repositories,
        installation_id=asked.installation_id,
        installed=asked.installed,
    )
    found = simulator.world.accounts.installation_of(owner.login)
    installation_id = found.id if found else None
    return answer({"id": owner.id, "login": owner.login, "installation_id": installation_id}, 201)


@post("/_simulator/repositories")
async def create_repository(request: Asked) -> Response[Any]:
    asked = await body_of(request, RepositoryAsked)
    made = simulator_of(request).add_repository(
        asked.owner, asked.name, private=asked.private, fork=asked.fork
    )
    return answer({"id": made.id, "full_name": made.full_name}, 201)


@delete("/_simulator/repositories/{owner:str}/{repo:str}", status_code=204)
async def delete_repository(request: Asked, owner: FromPath[str], repo: FromPath[str]) -> None:
    simulator_of(request).world.accounts.remove_repository(owner, repo)


@patch("/_simulator/app", status_code=204)
async def change_app(request: Asked) -> None:
    asked = await body_of(request, AppChange)
    world = simulator_of(request).world
    for place, names in ((world, _REGISTERED), (world.deliveries, _HOOKED)):
        for name in names:
            if (value := getattr(asked, name)) is not None:
                setattr(place, name, value)


@post("/_simulator/installations")
async def install(request: Asked) -> Response[Any]:
    asked = await body_of(request, InstallationAsked)
    world = simulator_of(request).world
    made = world.accounts.install(
        asked.owner,
        world.now(),
        installation_id=asked.installation_id,
        permissions=asked.permissions,
    )
    world.announce_installation("installation", "created", made)
    return _installation(request, made, 201)


@patch("/_simulator/installations/{installation_id:int}")
async def change_installation(request: Asked, installation_id: FromPath[int]) -> Response[Any]:
    asked = await body_of(request, InstallationChange)
    simulator = simulator_of(request)
    accounts = simulator.world.accounts
    if asked.permissions is not None:
        accounts.permit(installation_id, asked.permissions)
    if asked.repositories is not None:
        accounts.select(installation_id, frozenset(asked.repositories))
    match asked.suspended:
        case True:
            simulator.suspend(installation_id)
        case False:
            simulator.unsuspend(installation_id)
        case None:
            pass
    return _installation(request, accounts.installation(installation_id), 200)


@delete("/_simulator/installations/{installation_id:int}", status_code=204)
async def uninstall(request: Asked, installation_id: FromPath[int]) -> None:
    world = simulator_of(request).world
    gone = world.accounts.uninstall(installation_id)
    world.announce_installation("installation", "deleted", gone)


@delete("/_simulator/installations/{installation_id:int}/repositories/{repo:str}", status_code=204)
async def deselect(request: Asked, installation_id: FromPath[int], repo: FromPath[str]) -> None:
    simulator = simulator_of(request)
    owner = simulator.world.accounts.installation(installation_id).owner
    simulator.deselect_repository(owner.login, repo)


@post("/_simulator/jobs/{job_id:int}/cancel", status_code=204)
async def cancel_job(request: Asked, job_id: FromPath[int]) -> None:
    simulator_of(request).cancel_job(job_id)


@post("/_simulator/jobs/{job_id:int}/rerun")
async def rerun_job(request: Asked, job_id: FromPath[int]) -> Response[Any]:
    return answer(to_builtins(simulator_of(request).rerun_job(job_id)), 201)


@post("/_simulator/jobs/{job_id:int}/approve", status_code=204)
async def approve(request: Asked, job_id: FromPath[int]) -> None:
    simulator_of(request).approve(job_id)


@post("/_simulator/jobs/{job_id:int}/complete", status_code=204)
async def complete(request: Asked, job_id: FromPath[int]) -> None:
    asked = await body_of(request, Ending)
    simulator_of(request).complete_job(job_id, asked.conclusion)


@post("/_simulator/jobs/{job_id:int}/force", status_code=204)
async def force(request: Asked, job_id: FromPath[int]) -> None:
    asked = await body_of(request, Target)
    simulator_of(request).force(job_id, asked.runner)


@post("/_simulator/runs/{run_id:int}/cancel", status_code=204)
async def cancel_run(request: Asked, run_id: FromPath[int]) -> None:
    simulator_of(request).cancel_run(run_id)


@post("/_simulator/runs/{run_id:int}/rerun")
async def rerun_run(request: Asked, run_id: FromPath[int]) -> Response[Any]:
    return answer(to_builtins(simulator_of(request).rerun_run(run_id)), 201)


@post("/_simulator/runners")
async def add_runner(request: Asked) -> Response[Any]:
    asked = await body_of(request, RunnerAsked)
    made = simulator_of(request).add_runner(
        asked.owner,
        asked.repo,
        asked.name,
        asked.labels,
        after_ms=asked.after_ms,
        conclusion=asked.conclusion,
        ephemeral=asked.ephemeral,
    )
    return answer({"id": made.id, "name": made.name}, 201)


@delete("/_simulator/runners/{name_or_id:str}", status_code=204)
async def vanish_runner(request: Asked, name_or_id: FromPath[str]) -> None:
    simulator_of(request).vanish_runner(name_or_id)


def _installation(request: Asked, found: Installation, status: int) -> Response[Any]:
    world = simulator_of(request).world
    return answer(installation_shape(found, world.settings, world.base), status)


ROUTES = [
    dispatch,
    create_owner,
    create_repository,
    delete_repository,
    change_app,
    install,
    change_installation,
    uninstall,
    deselect,
    cancel_job,
    rerun_job,
    approve,
    complete,
    force,
    cancel_run,
    rerun_run,
    add_runner,
    vanish_runner,
]
