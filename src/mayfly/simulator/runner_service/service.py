"""The runner service of one simulated GitHub: its parts, and what it does with a job."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from mayfly.simulator.account_shapes import Json
from mayfly.simulator.asking import Asked
from mayfly.simulator.jobs import Conclusion, StepRecord, WorkflowJob
from mayfly.simulator.refusals import Refusal, not_found
from mayfly.simulator.runner_service import agents, keys, plans
from mayfly.simulator.runner_service.agents import Agents
from mayfly.simulator.runner_service.definitions import RUN, TENANT
from mayfly.simulator.runner_service.grants import Grant, Grants
from mayfly.simulator.runner_service.job_messages import (
    PIPELINES,
    RUN_SERVICE,
    job_message,
    job_reference,
)
from mayfly.simulator.runner_service.logs import Logs
from mayfly.simulator.runner_service.mailboxes import Mailboxes, Message
from mayfly.simulator.runner_service.sessions import Sessions
from mayfly.simulator.runner_service.timelines import Timelines
from mayfly.simulator.runners import Runner
from mayfly.simulator.world import World


class Report(Struct, frozen=True, kw_only=True):
    """A job that a runner reports on; `runner` is None when it is over and done."""

    job: WorkflowJob
    runner: Runner | None


class RunnerService:
    """Its state beside the world's; every change of a job is the world's own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.grants = Grants()
        self.agents = Agents(world.actions.runners)
        self.sessions = Sessions(world.actions, self.agents, world.settings)
        self.mailboxes = Mailboxes(self._word)
        self.timelines = Timelines()
        self.logs = Logs()

    def jit_files(self, runner: Runner) -> dict[str, Json]:
        """The files of a runner's JIT config; the key in them is its from now on."""
        self.agents.put(runner, keys.private_key(runner.id).public_key())
        return agents.files(runner, self.world.settings, self.world.base)

    def alive(self, runner_id: int) -> Runner | None:
        """The runner, which shows a sign of life with this call; None when it is gone."""
        session = self.world.actions.runners.sessions.get(runner_id)
        if session is not None:
            session.seen = time.monotonic()
        return self.world.actions.runners.all.get(runner_id)

    async def message(self, runner_id: int, after: int) -> Message | None:
        """Wait for the runner's next message; None when none comes in time.

        Raises Refusal 404 when the runner is gone.
        """
        actions = self.world.actions
        if actions.runners.all[runner_id].status == "offline":
            self.mailboxes.clear(runner_id)
        actions.online(actions.runners.all[runner_id])

        def look() -> Message | bool | None:
            runner = actions.runners.all.get(runner_id)
            if runner is None or self.world.closing:
                return False
            job = None if runner.job is None else actions.runs.jobs.get(runner.job)
            return self.mailboxes.first(runner, job, after)

        seconds = self.world.settings.poll_seconds
        found = await self.world.bells.until(("runner", runner_id), look, seconds)
        if found is False:
            raise not_found()
        return found if isinstance(found, Message) else None

    def acquire(self, runner: Runner, uid: int) -> WorkflowJob:
        """The runner begins its job; once more is no harm. Raises Refusal 404."""
        runs = self.world.actions.runs
        job = runs.jobs.get(uid)
        if job is None or job.status != "in_progress" or runner.job != uid:
            job = self.world.actions.acquire(runner, uid)
        self.mailboxes.take_of(runner.id, uid)
        self._hold(runner)
        return job

    def renew(self, runner: Runner, uid: int) -> datetime:
        """The runner keeps its job; until when. Raises Refusal 404."""
        self.acquire(runner, uid)
        return self.world.now() + timedelta(seconds=self.world.settings.runner_lock_seconds)

    def requested(self, runner: Runner, request: str) -> WorkflowJob:
        """The job that the broker announced to this runner by this id."""
        job = None if runner.job is None else self.world.actions.runs.jobs.get(runner.job)
        if job is None or plans.request_guid(job) != request:
            raise not_found()
        return job

    def job_message(self, job: WorkflowJob, runner: Runner, kind: str) -> Json:
        """The job message, with a token of its own to report with."""
        world, now = self.world, self.world.now()
        return job_message(
            job,
            world.actions.runs.run(job.run_id),
            kind=kind,
            base=world.base,
            url=f"{world.base}{TENANT if kind == PIPELINES else RUN}/",
            token=self.grants.job(runner.id, job.uid, plans.plan_guid(job), now),
            locked_until=now + timedelta(seconds=world.settings.runner_lock_seconds),
        )

    def reported(self, grant: Grant, plan: str | None = None) -> Report:
        """The job of a job's token; raises Refusal 404 when it is another runner's by now."""
        job = self.world.actions.runs.jobs.get(grant.job)
        if job is None or (plan is not None and plan != plans.plan_guid(job)):
            raise Refusal(404, "the plan is not found")
        runner = self.alive(grant.runner_id)
        if runner is not None and runner.job == job.uid and job.status == "in_progress":
            return Report(job=job, runner=runner)
        # A report may come twice, when the answer to the first one was lost.
        if job.runner is not None and job.runner.id == grant.runner_id:
            return Report(job=job, runner=None)
        raise Refusal(404, "the job is not this runner's any more")

    def tell(
        self, report: Report, *, lines: Sequence[str] = (), steps: Sequence[StepRecord] = ()
    ) -> None:
        """What the steps have written and done; nothing changes once the job is over."""
        if report.runner is not None:
            self.world.actions.renew(report.runner, report.job.uid, lines, steps)

    def complete(
        self, report: Report, conclusion: Conclusion, steps: Sequence[StepRecord] = ()
    ) -> None:
        """The end of the job; an ephemeral runner is gone with it."""
        if report.runner is None:
            return
        uid = report.job.uid
        lines: list[str] = []
        if not self.world.actions.runs.logs.get(uid):
            lines = self.logs.lines(uid, self.timelines.logs(uid))
        self.world.actions.renew(report.runner, uid, lines, steps)
        self.world.actions.complete(report.runner, uid, conclusion)
        self.sessions.forget()
        self.mailboxes.clear(report.runner.id)

    def _hold(self, runner: Runner) -> None:
        session = self.world.actions.runners.sessions[runner.id]
        session.held_until = time.monotonic() + self.world.settings.runner_lock_seconds

    def _word(self, job: WorkflowJob, runner: Runner) -> tuple[str, Json]:
        if self.world.settings.runner_flow == "v2":
            return RUN_SERVICE, job_reference(job, f"{self.world.base}{RUN}/")
        return PIPELINES, self.job_message(job, runner, PIPELINES)


def service_of(request: Asked) -> RunnerService:
    service: RunnerService = request.app.state["runner_service"]
    return service
