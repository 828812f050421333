"""Workflow jobs, runs, runners and check runs, as GitHub writes them in JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mayfly.simulator.account_shapes import Json, minimal_repository, moment, node_id, user
from mayfly.simulator.accounts import Owner
from mayfly.simulator.jobs import StepRecord, WorkflowJob, WorkflowRun
from mayfly.simulator.runners import Runner, RunnerGroup

SYSTEM_LABELS = frozenset({"self-hosted", "linux", "x64", "arm64", "windows", "macos"})


def workflow_job(job: WorkflowJob, run: WorkflowRun, base: str) -> Json:
    """A `job` of the REST API; the webhook's `workflow_job` has the same fields."""
    repo = f"{base}/repos/{run.repository.full_name}"
    return {
        "id": job.id,
        "run_id": run.id,
        "workflow_name": run.workflow,
        "head_branch": run.head_branch,
        "run_url": f"{repo}/actions/runs/{run.id}",
        "run_attempt": job.run_attempt,
        "node_id": node_id("CheckRun", job.id),
        "head_sha": run.head_sha,
        "url": f"{repo}/actions/jobs/{job.id}",
        "html_url": f"{base}/{run.repository.full_name}/actions/runs/{run.id}/job/{job.id}",
        "status": "queued" if job.status == "planned" else job.status,
        "conclusion": job.conclusion,
        "created_at": moment(job.created_at),
        # GitHub puts the creation time here until the job has started.
        "started_at": moment(job.started_at or job.created_at),
        "completed_at": _maybe(job.completed_at),
        "name": job.plan.name,
        "steps": [_step(step) for step in job.steps],
        "check_run_url": f"{repo}/check-runs/{job.id}",
        "labels": list(job.plan.labels),
        "runner_id": job.runner.id if job.runner else None,
        "runner_name": job.runner.name if job.runner else None,
        "runner_group_id": job.runner.group_id if job.runner else None,
        "runner_group_name": job.runner.group_name if job.runner else None,
    }


def _step(step: StepRecord) -> Json:
    return {
        "name": step.name,
        "status": step.status,
        "conclusion": step.conclusion,
        "number": step.number,
        "started_at": _maybe(step.started_at),
        "completed_at": _maybe(step.completed_at),
    }


def _maybe(at: datetime | None) -> str | None:
    return None if at is None else moment(at)


def workflow_run(run: WorkflowRun, status: str, conclusion: str | None, base: str) -> Json:
    """A `workflow-run`."""
    repo = f"{base}/repos/{run.repository.full_name}"
    url = f"{repo}/actions/runs/{run.id}"
    actor = user(Owner(id=2001, login=run.actor, type="User"), base)
    return {
        "id": run.id,
        "name": run.workflow,
        "node_id": node_id("WorkflowRun", run.id),
        "check_suite_id": run.id,
        "check_suite_node_id": node_id("CheckSuite", run.id),
        "head_branch": run.head_branch,
        "head_sha": run.head_sha,
        "path": run.path,
        "run_number": run.number,
        "run_attempt": run.attempt,
        "run_started_at": moment(run.created_at),
        "display_title": run.workflow,
        "event": run.event,
        "status": status,
        "conclusion": conclusion,
        "workflow_id": run.repository.id,
        "url": url,
        "html_url": f"{base}/{run.repository.full_name}/actions/runs/{run.id}",
        "pull_requests": [],
        "created_at": moment(run.created_at),
        "updated_at": moment(run.updated_at),
        "actor": actor,
        "triggering_actor": actor,
        "jobs_url": f"{url}/jobs",
        "logs_url": f"{url}/logs",
        "check_suite_url": f"{repo}/check-suites/{run.id}",
        "artifacts_url": f"{url}/artifacts",
        "cancel_url": f"{url}/cancel",
        "rerun_url": f"{url}/rerun",
        "previous_attempt_url": f"{url}/attempts/{run.attempt - 1}" if run.attempt > 1 else None,
        "workflow_url": f"{repo}/actions/workflows/{run.repository.id}",
        "head_commit": _commit(run),
        "repository": minimal_repository(run.repository, base),
        "head_repository": minimal_repository(run.head_repository, base),
        "head_repository_id": run.head_repository.id,
    }


def _commit(run: WorkflowRun) -> Json:
    person = {"name": run.actor, "email": f"{run.actor}@users.noreply.github.com"}
    return {
        "id": run.head_sha,
        "tree_id": run.head_sha[::-1],
        "message": "simulated commit",
        "timestamp": moment(run.created_at),
        "author": person,
        "committer": person,
    }


def runner(found: Runner) -> Json:
    """A `runner`."""
    return {
        "id": found.id,
        "name": found.name,
        "os": "linux",
        "status": found.status,
        "busy": found.busy,
        "ephemeral": found.ephemeral,
        "runner_group_id": found.group_id,
        "labels": [_label(number, name) for number, name in enumerate(found.labels, 1)],
        "version": found.version,
    }


def _label(number: int, name: str) -> Json:
    kind = "read-only" if name.lower() in SYSTEM_LABELS else "custom"
    return {"id": number, "name": name, "type": kind}


def runner_group(group: RunnerGroup, org: str, base: str) -> Json:
    """A `runner-groups-org`."""
    url = f"{base}/orgs/{org}/actions/runner-groups/{group.id}"
    return {
        "id": group.id,
        "name": group.name,
        "visibility": group.visibility,
        "default": group.default,
        "runners_url": f"{url}/runners",
        "inherited": False,
        "allows_public_repositories": group.allows_public_repositories,
        "restricted_to_workflows": False,
        "selected_workflows": [],
        "workflow_restrictions_read_only": False,
    }


def check_run(number: int, asked: dict[str, Any], app: Json, repo: str, now: datetime) -> Json:
    """A `check-run` made of what was asked for."""
    output = asked.get("output") or {}
    url = f"{repo}/check-runs/{number}"
    conclusion = asked.get("conclusion")
    return {
        "id": number,
        "node_id": node_id("CheckRun", number),
        "head_sha": asked["head_sha"],
        "name": asked["name"],
        "external_id": asked.get("external_id", ""),
        "url": url,
        "html_url": url,
        "details_url": asked.get("details_url", url),
        # A conclusion completes the check, whatever status was sent along.
        "status": "completed" if conclusion else asked.get("status", "queued"),
        "conclusion": conclusion,
        "started_at": asked.get("started_at", moment(now)),
        "completed_at": asked.get("completed_at", moment(now)) if conclusion else None,
        "output": {
            "title": output.get("title"),
            "summary": output.get("summary"),
            "text": output.get("text"),
            "annotations_count": len(output.get("annotations") or ()),
            "annotations_url": f"{url}/annotations",
        },
        "check_suite": {"id": number},
        "app": app,
        "pull_requests": [],
    }
