"""The endpoints of an installation: its repositories, their runs, jobs and checks."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, post
from litestar.params import FromPath

from mayfly.simulator import access, account_shapes, action_shapes
from mayfly.simulator.account_shapes import Json
from mayfly.simulator.accounts import Repository
from mayfly.simulator.asking import Asked, answer, authorization, body_of, paged, word, world_of
from mayfly.simulator.jobs import WorkflowRun
from mayfly.simulator.refusals import Refusal, not_found, unprocessable
from mayfly.simulator.world import World


def _repository(request: Asked, owner: str, repo: str, permission: str) -> Repository:
    world = world_of(request)
    return access.enter_repository(world, authorization(request), owner, repo, permission)


def _run(world: World, run: WorkflowRun) -> Json:
    status, conclusion = world.actions.runs.outcome(run)
    return action_shapes.workflow_run(run, status, conclusion, world.base)


def _jobs(request: Asked, run: WorkflowRun, attempt: int) -> Response[Any]:
    world = world_of(request)
    found = world.actions.runs.shown(run.id, attempt)
    return paged(request, [action_shapes.workflow_job(j, run, world.base) for j in found], "jobs")


@get("/installation/repositories")
async def list_repositories(request: Asked) -> Response[Any]:
    world = world_of(request)
    entry = access.enter(world, authorization(request))
    ids = entry.token.repository_ids
    seen = world.accounts.visible(entry.installation)
    shaped = [account_shapes.repository(r, world.base) for r in seen if ids is None or r.id in ids]
    return paged(request, shaped, "repositories")


@get("/repos/{owner:str}/{repo:str}/actions/jobs/{job_id:int}")
async def get_job(
    request: Asked, owner: FromPath[str], repo: FromPath[str], job_id: FromPath[int]
) -> Response[Any]:
    repository = _repository(request, owner, repo, access.ACTIONS_READ)
    world = world_of(request)
    job = world.actions.runs.job(job_id, repository)
    if job.status == "planned":
        raise not_found()
    return answer(action_shapes.workflow_job(job, world.actions.runs.run(job.run_id), world.base))


@get("/repos/{owner:str}/{repo:str}/actions/runs")
async def list_runs(request: Asked, owner: FromPath[str], repo: FromPath[str]) -> Response[Any]:
    repository = _repository(request, owner, repo, access.ACTIONS_READ)
    world = world_of(request)
    shaped = [_run(world, run) for run in world.actions.runs.of_repository(repository)]
    wanted = word(request, "status")
    # GitHub takes a status or a conclusion in this one parameter.
    if wanted is not None:
        shaped = [run for run in shaped if wanted in {run["status"], run["conclusion"]}]
    for name in ("event", "head_sha"):
        asked = word(request, name)
        shaped = [run for run in shaped if asked in {None, run[name]}]
    return paged(request, shaped, "workflow_runs")


@get("/repos/{owner:str}/{repo:str}/actions/runs/{run_id:int}")
async def get_run(
    request: Asked, owner: FromPath[str], repo: FromPath[str], run_id: FromPath[int]
) -> Response[Any]:
    repository = _repository(request, owner, repo, access.ACTIONS_READ)
    world = world_of(request)
    return answer(_run(world, world.actions.runs.run(run_id, repository)))


@delete("/repos/{owner:str}/{repo:str}/actions/runs/{run_id:int}", status_code=204)
async def delete_run(
    request: Asked, owner: FromPath[str], repo: FromPath[str], run_id: FromPath[int]
) -> None:
    repository = _repository(request, owner, repo, access.ACTIONS_WRITE)
    runs = world_of(request).actions.runs
    run = runs.run(run_id, repository)
    if runs.outcome(run)[0] != "completed":
        raise Refusal(403, "Could not delete the workflow run")
    runs.remove(run)


@get("/repos/{owner:str}/{repo:str}/actions/runs/{run_id:int}/jobs")
async def list_jobs(
    request: Asked, owner: FromPath[str], repo: FromPath[str], run_id: FromPath[int]
) -> Response[Any]:
    repository = _repository(request, owner, repo, access.ACTIONS_READ)
    runs = world_of(request).actions.runs
    run = runs.run(run_id, repository)
    if word(request, "filter") != "all":
        return _jobs(request, run, run.attempt)
    base = world_of(request).base
    every = [job for n in range(1, run.attempt + 1) for job in runs.shown(run.id, n)]
    return paged(request, [action_shapes.workflow_job(j, run, base) for j in every], "jobs")


@get("/repos/{owner:str}/{repo:str}/actions/runs/{run_id:int}/attempts/{attempt:int}/jobs")
async def list_attempt_jobs(
    request: Asked,
    owner: FromPath[str],
    repo: FromPath[str],
    run_id: FromPath[int],
    attempt: FromPath[int],
) -> Response[Any]:
    repository = _repository(request, owner, repo, access.ACTIONS_READ)
    run = world_of(request).actions.runs.run(run_id, repository)
    if not 1 <= attempt <= run.attempt:
        raise not_found()
    return _jobs(request, run, attempt)


@post("/repos/{owner:str}/{repo:str}/actions/jobs/{job_id:int}/rerun")
async def rerun_job(
    request: Asked, owner: FromPath[str], repo: FromPath[str], job_id: FromPath[int]
) -> Response[Any]:
    repository = _repository(request, owner, repo, access.ACTIONS_WRITE)
    actions = world_of(request).actions
    job = actions.runs.job(job_id, repository)
    actions.rerun(actions.runs.run(job.run_id), job)
    return answer({}, 201)


@post("/repos/{owner:str}/{repo:str}/actions/runs/{run_id:int}/cancel")
async def cancel_run(
    request: Asked, owner: FromPath[str], repo: FromPath[str], run_id: FromPath[int]
) -> Response[Any]:
    repository = _repository(request, owner, repo, access.ACTIONS_WRITE)
    actions = world_of(request).actions
    actions.cancel_run(actions.runs.run(run_id, repository))
    return answer({}, 202)


@post("/repos/{owner:str}/{repo:str}/check-runs")
async def create_check_run(
    request: Asked, owner: FromPath[str], repo: FromPath[str]
) -> Response[Any]:
    repository = _repository(request, owner, repo, access.CHECKS_WRITE)
    world = world_of(request)
    asked = await body_of(request, dict[str, Any])
    for name in ("name", "head_sha"):
        if not isinstance(asked.get(name), str):
            raise unprocessable(f'Invalid request.\n\n"{name}" wasn\'t supplied.')
    app = world.app()
    url = f"{world.base}/repos/{repository.full_name}"
    number = 60_000_001 + len(world.check_runs)
    made = action_shapes.check_run(number, asked, app, url, world.now())
    world.check_runs.append(made)
    return answer(made, 201)


@get("/rate_limit")
async def rate_limit(request: Asked) -> Response[Any]:
    world = world_of(request)
    asker = str(request.scope.get("mayfly.asker", "anonymous"))
    now = world.now().timestamp()
    core = world.limits.peek(asker, "core", now).body()
    search = {"limit": 30, "used": 0, "remaining": 30, "reset": core["reset"]}
    registration = world.limits.peek(asker, "actions_runner_registration", now).body()
    resources = {"core": core, "search": search, "actions_runner_registration": registration}
    return answer({"resources": resources, "rate": core})


@get("/meta")
async def meta() -> Response[Any]:
    return answer(
        {
            "verifiable_password_authentication": False,
            "hooks": ["127.0.0.1/32"],
            "api": ["127.0.0.1/32"],
            "actions": ["127.0.0.1/32"],
        }
    )


ROUTES = [
    list_repositories,
    get_job,
    list_runs,
    get_run,
    delete_run,
    list_jobs,
    list_attempt_jobs,
    rerun_job,
    cancel_run,
    create_check_run,
    rate_limit,
    meta,
]
