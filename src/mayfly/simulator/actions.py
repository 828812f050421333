"""GitHub Actions itself: queues jobs, gives them to runners, and ends them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from msgspec.structs import replace

from mayfly.simulator import jobs as states
from mayfly.simulator.accounts import Repository
from mayfly.simulator.assignment import Candidate, pairs
from mayfly.simulator.jobs import Conclusion, RunnerName, StepRecord, WorkflowJob, WorkflowRun
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.runners import Runner, Runners
from mayfly.simulator.runs import Runs, Trigger
from mayfly.simulator.settings import Settings
from mayfly.simulator.signals import Bells
from mayfly.simulator.workflows import Workflow

Announce = Callable[[WorkflowJob, str], None]
Later = Callable[[float, Callable[[], None]], None]


class Actions:
    """Every change of a job or a runner happens here, and is announced."""

    def __init__(
        self,
        settings: Settings,
        *,
        bells: Bells,
        now: Callable[[], datetime],
        announce: Announce,
        later: Later,
    ) -> None:
        self.runs = Runs()
        self.runners = Runners(settings.runner_version)
        self.held = False
        """True: no job is given to a runner until it is released."""
        self.held_jobs: set[int] = set()
        self.forced: dict[int, int] = {}
        """Job id → the runner id it must go to."""
        self.reuse_job_ids = settings.reuse_job_ids
        self._lost_after = settings.runner_lost_after_seconds
        self._policy = settings.assignment
        self._random = random.Random(settings.seed)  # noqa: S311 - repeatable on purpose
        self._bells = bells
        self._now = now
        self._announce = announce
        self._later = later

    # Runs

    def dispatch(self, repository: Repository, workflow: Workflow, trigger: Trigger) -> WorkflowRun:
        run = self.runs.add(repository, workflow, trigger, self._now())
        self._advance(run)
        return run

    def rerun(self, run: WorkflowRun, job: WorkflowJob | None) -> WorkflowRun:
        """A new attempt of one job and its dependents, or of the whole run."""
        key = job.plan.key if job else None
        following = self.runs.again(run, key, self._now(), reuse_ids=self.reuse_job_ids)
        self._advance(following)
        return following

    def cancel_run(self, run: WorkflowRun) -> None:
        found = self.runs.of_attempt(run.id, run.attempt)
        if all(job.status == "completed" for job in found):
            raise Refusal(409, "Cannot cancel a workflow run that is completed.")
        for job in found:
            self.cancel(job)

    def cancel(self, job: WorkflowJob) -> None:
        """End a job; one that runs is first asked to stop."""
        job = self.runs.jobs[job.uid]
        runner = self._runner_of(job)
        if job.status == "in_progress" and runner is not None and runner.virtual is None:
            self._put(replace(job, cancelling=True))
            self._bells.ring(("runner", runner.id))
        elif job.status != "completed":
            self._end(job, "cancelled", runner)

    def approve(self, job: WorkflowJob) -> None:
        """Let a job through its environment's gate."""
        self._put(states.approve(job), action="queued")
        self.assign()

    # Jobs and runners

    def assign(self) -> None:
        """Give queued jobs to idle runners, as far as they fit."""
        if self.held or not self.runs.queued:
            return
        idle = [r for r in self.runners.all.values() if r.status == "online" and not r.busy]
        if not idle:
            return
        for candidate, runner in pairs(
            self._candidates(), idle, forced=self.forced, choose=self._choose
        ):
            self.forced.pop(candidate.id, None)
            self.runners.change(runner.id, job=candidate.uid)
            self._bells.ring(("runner", runner.id), "state")
            if runner.virtual is not None:
                self._run_virtually(runner.id, candidate.uid)

    def acquire(self, runner: Runner, uid: int) -> WorkflowJob:
        """The runner begins: only now is the job in progress."""
        if runner.job != uid or uid not in self.runs.queued:
            raise Refusal(404, "the job is not assigned to this runner")
        name = RunnerName(id=runner.id, name=runner.name, group_id=runner.group_id)
        steps = ("Set up job", *(step.name for step in self.runs.jobs[uid].plan.steps))
        job = replace(
            states.start(self.runs.jobs[uid], name, self._now()),
            steps=tuple(StepRecord(number=n, name=s) for n, s in enumerate(steps, 1)),
        )
        self._put(job, action="in_progress")
        return job

    def renew(
        self, runner: Runner, uid: int, lines: Sequence[str], steps: Sequence[StepRecord]
    ) -> WorkflowJob:
        """A sign of life, with what the steps have written and done so far."""
        job = self.runs.jobs.get(uid)
        if runner.job != uid or job is None or job.status != "in_progress":
            raise Refusal(404, "the job is not this runner's any more")
        self.runs.logs.setdefault(uid, []).extend(lines)
        if steps:
            job = replace(job, steps=tuple(steps))
            self._put(job)
        return job

    def complete(self, runner: Runner, uid: int, conclusion: Conclusion) -> WorkflowJob:
        """The runner reports the end; an ephemeral one is de-registered with it."""
        job = self.runs.jobs.get(uid)
        if runner.job != uid or job is None:
            raise Refusal(404, "the job is not this runner's any more")
        if job.status != "completed":
            self._end(job, conclusion, runner)
        return self.runs.jobs[uid]

    def online(self, runner: Runner) -> None:
        """The runner is there and waits for work."""
        if runner.status == "offline":
            self.runners.change(runner.id, status="online")
        self._bells.ring("state")
        self.assign()

    def offline(self, runner: Runner) -> None:
        """The runner is not there; a job it was given and never began goes to another."""
        self.runners.change(runner.id, status="offline", job=None)
        self._bells.ring("state", ("runner", runner.id))
        self.assign()

    def delete(self, runner: Runner) -> None:
        """De-register; refused while busy."""
        if runner.busy:
            raise Refusal(
                422,
                f'Bad request - Runner "{runner.name}" is currently running a job '
                "and cannot be deleted.",
            )
        self._remove(runner)

    def vanish(self, runner: Runner) -> None:
        """The registration is gone as if it never was; its job fails."""
        job = self._job_of(runner)
        self._remove(runner)
        if job is not None and job.status == "in_progress":
            self._end(job, "failure", None)
        self.assign()

    def sweep(self) -> None:
        """Give up on runners that were silent too long."""
        now = time.monotonic()
        limit = now - self._lost_after
        for runner in list(self.runners.all.values()):
            session = self.runners.sessions[runner.id]
            job = self._job_of(runner)
            if runner.virtual or session.token is None or runner.status == "offline":
                continue
            if session.seen > limit or (session.polls and job is None):
                continue
            if job is not None and job.status == "in_progress":
                if session.held_until > now:
                    continue
                self.vanish(runner)
            else:
                self.offline(runner)

    # Inside

    def _advance(self, run: WorkflowRun) -> None:
        """Queue, hold at a gate or skip the planned jobs whose needs are done."""
        moved = True
        while moved:
            moved = False
            found = self.runs.of_attempt(run.id, run.attempt)
            for job in [j for j in found if j.status == "planned"]:
                moved = self._decide(job, found) or moved
        self.assign()

    def _decide(self, job: WorkflowJob, siblings: list[WorkflowJob]) -> bool:
        match states.verdict(job, siblings):
            case "later":
                return False
            case "go":
                released = states.release(job, self._now())
                self._put(released, action=released.status)
            case "skip":
                self._put(states.finish(job, "skipped", self._now()), action="completed")
        return True

    def _end(self, job: WorkflowJob, conclusion: Conclusion, runner: Runner | None) -> None:
        self._put(states.finish(job, conclusion, self._now()), action="completed")
        if runner is not None and runner.job == job.uid:
            self._free(runner, ran=job.status == "in_progress")
        self._advance(self.runs.runs[job.run_id])

    def _free(self, runner: Runner, *, ran: bool) -> None:
        if runner.ephemeral and ran:
            self._remove(runner)
        else:
            self.runners.change(runner.id, job=None)
            self._bells.ring("state", ("runner", runner.id))

    def _remove(self, runner: Runner) -> None:
        self.runners.remove(runner.id)
        self._bells.ring("state", ("runner", runner.id))

    def _put(self, job: WorkflowJob, *, action: str | None = None) -> None:
        self.runs.put(job)
        if action is not None:
            self.runs.touch(job.run_id, self._now())
            self._announce(job, action)
        self._bells.ring("state")

    def _candidates(self) -> Iterator[Candidate]:
        given = {r.job for r in self.runners.all.values() if r.job is not None}
        for uid in self.runs.queued:
            job = self.runs.jobs[uid]
            if uid not in given and job.id not in self.held_jobs:
                yield self._candidate(job)

    def _candidate(self, job: WorkflowJob) -> Candidate:
        repository = self.runs.runs[job.run_id].repository
        return Candidate(
            uid=job.uid,
            id=job.id,
            owner=repository.owner.login,
            repo=repository.name,
            labels=job.plan.labels,
        )

    def _choose(self, able: Sequence[Runner]) -> Runner:
        return self._random.choice(able) if self._policy == "random" else able[0]

    def _run_virtually(self, runner_id: int, uid: int) -> None:
        runner = self.runners.all[runner_id]
        self.acquire(runner, uid)
        if runner.virtual is not None and runner.virtual.after_ms is not None:
            conclusion = runner.virtual.conclusion
            self._later(
                runner.virtual.after_ms / 1000,
                lambda: self._finish_virtually(runner_id, uid, conclusion),
            )

    def _finish_virtually(self, runner_id: int, uid: int, conclusion: Conclusion) -> None:
        runner = self.runners.all.get(runner_id)
        if runner is not None and runner.job == uid:
            self.complete(runner, uid, conclusion)

    def _runner_of(self, job: WorkflowJob) -> Runner | None:
        return next((r for r in self.runners.all.values() if r.job == job.uid), None)

    def _job_of(self, runner: Runner) -> WorkflowJob | None:
        return None if runner.job is None else self.runs.jobs.get(runner.job)
