"""The GUIDs a job goes by: its plan, its timeline, its steps."""

from __future__ import annotations

import uuid
from typing import Final

from mayfly.simulator.jobs import WorkflowJob

SCOPE: Final = "00000000-0000-4000-8000-000000000002"
HUB: Final = "Actions"


def job_guid(job: WorkflowJob) -> str:
    return _guid("job", job.uid)


def plan_guid(job: WorkflowJob) -> str:
    return _guid("plan", job.uid)


def timeline_guid(job: WorkflowJob) -> str:
    return _guid("timeline", job.uid)


def request_guid(job: WorkflowJob) -> str:
    """The id a runner of v2 acquires the job by."""
    return _guid("request", job.uid)


def step_guid(job: WorkflowJob, number: int) -> str:
    return _guid("step", job.uid, number)


def _guid(*parts: object) -> str:
    name = "/".join(str(part) for part in parts)
    return str(uuid.uuid5(uuid.UUID(SCOPE), name))
