"""The job message: everything a runner needs to run one job."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.jobs import WorkflowJob, WorkflowRun
from mayfly.simulator.runner_service import plans
from mayfly.simulator.runner_service.template_tokens import mapping, text
from mayfly.simulator.runner_service.wire import precise
from mayfly.simulator.workflows import Step

PIPELINES: Final = "PipelineAgentJobRequest"
RUN_SERVICE: Final = "RunnerJobRequest"
# From 8 on a runner ends its job by an event.
_PLAN_VERSION: Final = 12


def job_message(
    job: WorkflowJob,
    run: WorkflowRun,
    *,
    kind: str,
    base: str,
    url: str,
    token: str,
    locked_until: datetime,
) -> Json:
    """The message; `url` and `token` are what the runner reports with."""
    return {
        "messageType": kind,
        "plan": {
            "scopeIdentifier": plans.SCOPE,
            "planId": plans.plan_guid(job),
            "planType": plans.HUB,
            "planGroup": None,
            "version": _PLAN_VERSION,
        },
        "timeline": {"id": plans.timeline_guid(job), "changeId": 1, "location": None},
        "jobId": plans.job_guid(job),
        "jobDisplayName": job.plan.name,
        "jobName": job.plan.key,
        "requestId": job.uid,
        "lockedUntil": precise(locked_until),
        "jobContainer": None,
        "jobServiceContainers": None,
        "jobOutputs": None,
        "resources": {"endpoints": [_endpoint(url, token)]},
        "contextData": _contexts(job, run, base),
        "workspace": {},
        "mask": [{"type": "regex", "value": re.escape(token)}],
        "environmentVariables": [mapping(job.plan.env)] if job.plan.env else [],
        "defaults": [],
        "actionsEnvironment": None,
        "variables": _variables(job, token),
        "steps": [_step(job, number, step) for number, step in enumerate(job.plan.steps, 1)],
        "fileTable": [run.path],
    }


def job_reference(job: WorkflowJob, run_service_url: str) -> Json:
    """What the broker says of a job; the message itself is acquired from the run service."""
    request = plans.request_guid(job)
    return {
        "id": request,
        "runner_request_id": request,
        "run_service_url": run_service_url,
        "billing_owner_id": "1",
        "should_acknowledge": True,
    }


def _endpoint(url: str, token: str) -> Json:
    return {
        "name": "SystemVssConnection",
        "url": url,
        "authorization": {"scheme": "OAuth", "parameters": {"AccessToken": token}},
        "data": {},
        "isShared": False,
        "isReady": True,
    }


def _variables(job: WorkflowJob, token: str) -> Json:
    return {
        "system.culture": {"value": "en-US", "isSecret": False},
        "system.github.job": {"value": job.plan.key, "isSecret": False},
        "system.github.token": {"value": token, "isSecret": True},
    }


def _step(job: WorkflowJob, number: int, step: Step) -> Json:
    run = step.run
    if run is None:
        run = f"echo {_quoted(f'{step.name}: nothing to do in a simulation')}"
    inputs = {"script": run, "shell": step.shell, "workingDirectory": step.working_directory}
    given = {name: value for name, value in inputs.items() if value is not None}
    return {
        "type": "action",
        "id": plans.step_guid(job, number),
        "name": f"__run_{number}",
        "contextName": f"__run_{number}",
        "displayNameToken": text(step.name),
        "condition": "always()" if step.always else "success()",
        "reference": {"type": "script"},
        "inputs": mapping(given),
        "environment": mapping(step.env) if step.env else None,
        "continueOnError": step.continue_on_error,
        "timeoutInMinutes": None,
    }


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "'\\''") + "'"


def _contexts(job: WorkflowJob, run: WorkflowRun, base: str) -> Json:
    return {
        "github": _context(_github(job, run, base)),
        "needs": _context({}),
        "inputs": _context({}),
        "vars": _context({}),
        "strategy": _context(
            {"fail-fast": True, "job-index": 0, "job-total": 1, "max-parallel": 1}
        ),
    }


def _github(job: WorkflowJob, run: WorkflowRun, base: str) -> Json:
    ref = f"refs/heads/{run.head_branch}"
    event = {"ref": ref, "repository": {"full_name": run.repository.full_name}}
    return {
        "actor": run.actor,
        "api_url": base,
        "base_ref": "",
        "event": event,
        "event_name": run.event,
        "graphql_url": f"{base}/graphql",
        "head_ref": "",
        "job": job.plan.key,
        "ref": ref,
        "ref_name": run.head_branch,
        "ref_type": "branch",
        "repository": run.repository.full_name,
        "repository_owner": run.repository.owner.login,
        "run_attempt": str(job.run_attempt),
        "run_id": str(run.id),
        "run_number": str(run.number),
        "server_url": base,
        "sha": run.head_sha,
        "triggering_actor": run.actor,
        "workflow": run.workflow,
    }


def _context(value: object) -> object:
    """A context as runners read it: scalars as they are, a dictionary as pairs."""
    if isinstance(value, dict):
        return {"t": 2, "d": [{"k": key, "v": _context(inner)} for key, inner in value.items()]}
    return value
