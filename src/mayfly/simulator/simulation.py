"""The controls of a simulated GitHub, for tests, the demo and the control API."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from mayfly.simulator import action_shapes
from mayfly.simulator.accounts import Installation, Owner, Repository
from mayfly.simulator.faults import Faults, Mischief
from mayfly.simulator.jobs import Conclusion, WorkflowJob
from mayfly.simulator.refusals import Refusal, not_found
from mayfly.simulator.runners import Runner, Scope, Virtual
from mayfly.simulator.runs import Trigger
from mayfly.simulator.settings import Account, OwnerType, Settings
from mayfly.simulator.workflows import parse
from mayfly.simulator.world import World

REACHED = {"planned": 0, "waiting": 1, "queued": 2, "in_progress": 3, "completed": 4}


class Dispatched(Struct, frozen=True, kw_only=True):
    """A run just begun; `jobs` maps names to ids."""

    run_id: int
    job_ids: tuple[int, ...]
    jobs: dict[str, int]


class Simulator:
    """What one can do to a simulated GitHub that real people do to the real one."""

    def __init__(self, url: str, settings: Settings, world: World) -> None:
        self.url = url
        self.settings = settings
        self.world = world

    # Workflows

    def dispatch(
        self,
        owner: str,
        repo: str,
        yaml: str,
        *,
        event: str = "push",
        actor: str = "octocat",
        head_branch: str = "main",
        head_repository: str | None = None,
    ) -> Dispatched:
        """Run a workflow; `head_repository` ("owner/name") makes it come from a fork."""
        repository = self.world.accounts.repository(owner, repo)
        head = self._head(head_repository) if head_repository else None
        trigger = Trigger(event=event, actor=actor, head_branch=head_branch, head_repository=head)
        run = self.world.actions.dispatch(repository, parse(yaml), trigger)
        return self._dispatched(run.id, run.attempt)

    def cancel_job(self, job_id: int) -> None:
        self.world.actions.cancel(self.world.actions.runs.job(job_id))

    def cancel_run(self, run_id: int) -> None:
        self.world.actions.cancel_run(self.world.actions.runs.run(run_id))

    def rerun_job(self, job_id: int) -> Dispatched:
        """A new attempt of this job and its dependents."""
        job = self.world.actions.runs.job(job_id)
        run = self.world.actions.rerun(self.world.actions.runs.run(job.run_id), job)
        return self._dispatched(run.id, run.attempt)

    def rerun_run(self, run_id: int) -> Dispatched:
        run = self.world.actions.rerun(self.world.actions.runs.run(run_id), None)
        return self._dispatched(run.id, run.attempt)

    def approve(self, job_id: int) -> None:
        """Let a waiting job through the gate of its environment."""
        self.world.actions.approve(self.world.actions.runs.job(job_id))

    def complete_job(self, job_id: int, conclusion: Conclusion = "success") -> None:
        """End the job of a runner without a process."""
        actions = self.world.actions
        job = actions.runs.job(job_id)
        actions.complete(self._runner_of(job), job.uid, conclusion)

    # Runners

    def add_runner(
        self,
        owner: str,
        repo: str | None,
        name: str,
        labels: tuple[str, ...],
        *,
        after_ms: int | None = 0,
        conclusion: Conclusion = "success",
        ephemeral: bool = True,
    ) -> Runner:
        """A foreign runner without a process: online at once, its jobs end after `after_ms`."""
        runner, _ = self.world.actions.runners.register(
            Scope(owner=owner, repo=repo),
            name,
            labels,
            self.world.now(),
            virtual=Virtual(after_ms=after_ms, conclusion=conclusion),
            ephemeral=ephemeral,
        )
        self.world.actions.online(runner)
        return runner

    def vanish_runner(self, name_or_id: str | int) -> None:
        """De-register a runner whatever it does; its job fails."""
        self.world.actions.vanish(self.world.actions.runners.find(name_or_id))

    def hold(self, *job_ids: int) -> None:
        """Give no job to any runner until `release`; with ids, only these jobs."""
        if job_ids:
            self.world.actions.held_jobs.update(job_ids)
        else:
            self.world.actions.held = True

    def release(self, *job_ids: int) -> None:
        """Undo `hold`; without ids, all of it."""
        actions = self.world.actions
        if job_ids:
            actions.held_jobs.difference_update(job_ids)
        else:
            actions.held = False
            actions.held_jobs.clear()
        actions.assign()

    def force(self, job_id: int, runner: str | int) -> None:
        """Give this job to this runner and no other, labels or not, once both are ready."""
        actions = self.world.actions
        actions.forced[job_id] = actions.runners.find(runner).id
        actions.assign()

    # Accounts

    def add_account(
        self,
        login: str,
        *,
        type: OwnerType = "Organization",  # noqa: A002 - GitHub's own word
        repositories: tuple[str, ...] = (),
        installation_id: int | None = None,
        installed: bool = True,
    ) -> Owner:
        account = Account(
            login=login,
            type=type,
            repositories=repositories,
            installation_id=installation_id,
            installed=installed,
        )
        owner = self.world.accounts.add(account, self.world.now())
        installation = self.world.accounts.installation_of(login)
        if installation is not None:
            self.world.announce_installation("installation", "created", installation)
        return owner

    def add_repository(
        self, owner: str, name: str, *, private: bool = True, fork: bool = False
    ) -> Repository:
        return self.world.accounts.add_repository(
            owner, name, self.world.now(), private=private, fork=fork
        )

    def deselect_repository(self, owner: str, name: str) -> Installation:
        """Take a repository out of its installation."""
        changed = self.world.accounts.deselect(self.world.accounts.repository(owner, name))
        self.world.announce_installation("installation_repositories", "removed", changed)
        return changed

    def suspend(self, installation_id: int) -> Installation:
        changed = self.world.accounts.suspend(installation_id, self.world.now())
        self.world.announce_installation("installation", "suspend", changed)
        return changed

    def unsuspend(self, installation_id: int) -> Installation:
        changed = self.world.accounts.suspend(installation_id, None)
        self.world.announce_installation("installation", "unsuspend", changed)
        return changed

    # Trouble

    @property
    def faults(self) -> Faults:
        """What goes wrong at present; rules with a count shrink as they strike."""
        return self.world.mischief.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.world.mischief = Mischief(faults)

    def offer(self, version: str) -> None:
        """Offer another version of the runner; what runs stays as it is."""
        self.world.newest_release = version

    def set_webhook(
        self, url: str | None, secret: str | None = None, *, ping: bool = False
    ) -> None:
        self.world.deliveries.url = url
        if secret is not None:
            self.world.deliveries.secret = secret
        if ping:
            self.world.ping()

    # Reading and waiting

    @property
    def calls(self) -> dict[str, int]:
        """API calls so far, by method and endpoint."""
        return dict(self.world.calls)

    def job(self, job_id: int) -> dict[str, Any]:
        """The job as the REST API shows it."""
        runs = self.world.actions.runs
        job = runs.job(job_id)
        return action_shapes.workflow_job(job, runs.run(job.run_id), self.world.base)

    def log(self, job_id: int) -> list[str]:
        """The lines the job has written."""
        runs = self.world.actions.runs
        return list(runs.logs.get(runs.job(job_id).uid, ()))

    async def wait_job(self, job_id: int, state: str = "completed", timeout: float = 10.0) -> bool:
        """Until the job has reached this status, or ended with this conclusion."""

        def look() -> bool:
            job = self.world.actions.runs.job(job_id)
            if state in REACHED:
                return REACHED[job.status] >= REACHED[state]
            return job.conclusion == state

        return await self.world.wait(look, timeout)

    async def wait_jobs(self, state: str = "completed", timeout: float = 30.0) -> bool:
        """Until every job there is has reached this status (and there is one)."""

        def look() -> bool:
            jobs = self.world.actions.runs.jobs.values()
            return bool(jobs) and all(REACHED[j.status] >= REACHED[state] for j in jobs)

        return await self.world.wait(look, timeout)

    async def wait_run(self, run_id: int, state: str = "completed", timeout: float = 30.0) -> bool:
        """Until the run's latest attempt has this status or conclusion."""
        runs = self.world.actions.runs
        return await self.world.wait(lambda: state in runs.outcome(runs.run(run_id)), timeout)

    async def wait_runner(self, name: str, state: str = "online", timeout: float = 10.0) -> bool:
        """Until a runner is there: `registered`, `online`, `offline`, `idle`, `busy`, or `gone`."""

        def look() -> bool:
            try:
                runner = self.world.actions.runners.find(name)
            except Refusal:
                return state == "gone"
            idle = runner.status == "online" and not runner.busy
            return {
                "registered": True,
                "idle": idle,
                "busy": runner.busy,
                "gone": False,
            }.get(state, runner.status == state)

        return await self.world.wait(look, timeout)

    async def wait_deliveries(self, timeout: float = 10.0) -> bool:
        """Until no delivery is on its way."""
        return await self.world.wait(
            lambda: self.world.deliveries.pending == 0, timeout, "deliveries"
        )

    # Inside

    def _head(self, full_name: str) -> Repository:
        """The fork; one not seen before is made."""
        owner, _, name = full_name.partition("/")
        accounts = self.world.accounts
        if owner.lower() not in accounts.owners:
            accounts.add_owner(owner, "User")
        try:
            return accounts.repository(owner, name)
        except Refusal:
            return accounts.add_repository(owner, name, self.world.now(), fork=True)

    def _dispatched(self, run_id: int, attempt: int) -> Dispatched:
        jobs = self.world.actions.runs.of_attempt(run_id, attempt)
        return Dispatched(
            run_id=run_id,
            job_ids=tuple(job.id for job in jobs),
            jobs={job.plan.name: job.id for job in jobs},
        )

    def _runner_of(self, job: WorkflowJob) -> Runner:
        for runner in self.world.actions.runners.all.values():
            if runner.job == job.uid:
                return runner
        raise not_found()
