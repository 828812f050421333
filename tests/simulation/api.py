"""GitHub's API as one control plane meets it: slow, limited, and failing before or after."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import NamedTuple, TypeVar

from mayfly.model.access import Scope
from mayfly.model.deliveries import Attempt
from mayfly.model.errors import GitHubRefused, GitHubUnreachable, RateLimited, RefusalKind
from mayfly.model.jobs import InstallationId, WorkflowJobEvent
from mayfly.model.releases import Offer, Version
from mayfly.model.repositories import Repository, Runs
from mayfly.model.runners import GitHubRunner, Minted, RegistrationToken, Sighting
from tests.fakes.github import offer
from tests.simulation.accounts import Access, Accounts
from tests.simulation.clocks import SimulatedClock
from tests.simulation.deliveries import Deliveries
from tests.simulation.faults import Faults, moment
from tests.simulation.jobs import Jobs
from tests.simulation.processes import Process
from tests.simulation.runners import Runners

T = TypeVar("T")

TIME_OUT_SECONDS = 20.0
LATE_SECONDS = 40.0
"""A mint can take effect so long after its caller has given up."""
PAGE = 100
OFFERED = offer(Version(2, 336, 0))


class GitHubWorld(NamedTuple):
    """GitHub's own state, shared by all who call it."""

    accounts: Accounts
    jobs: Jobs
    runners: Runners
    deliveries: Deliveries
    clock: SimulatedClock
    faults: Faults
    calls: Counter[str]


class Api:
    """ports.GitHub for one process; once that is dead, its calls take no effect any more."""

    def __init__(self, world: GitHubWorld, process: Process) -> None:
        self._world = world
        self._process = process
        self._dice = world.faults.dice("call")

    async def mint(
        self, installation: InstallationId, scope: Scope, name: str, labels: Sequence[str]
    ) -> Minted:
        def effect() -> Minted:
            made = self._world.runners.register(scope, name, labels, installation)
            if made is None:
                raise GitHubRefused(RefusalKind.NAME_EXISTS, f"runner {name} exists already")
            return made

        if self._world.faults.strikes("mint took effect 40 s late", name):
            await self._arrive("mint", installation)
            late = asyncio.get_running_loop()
            late.call_later(
                TIME_OUT_SECONDS + LATE_SECONDS,
                self._world.runners.register, scope, name, labels, installation,
            )  # fmt: skip
            await self._time_out()
        return await self._ask("mint", installation, effect)

    async def registration_token(
        self, installation: InstallationId, scope: Scope
    ) -> RegistrationToken:
        def effect() -> RegistrationToken:
            return RegistrationToken("token", f"https://github.test/{scope}")

        return await self._ask("registration_token", installation, effect)

    async def find_runner(
        self, installation: InstallationId, scope: Scope, name: str
    ) -> GitHubRunner | None:
        def effect() -> GitHubRunner | None:
            found = self._world.runners.listed(name)
            return found if found in self._world.runners.at(scope) else None

        return await self._ask("find_runner", installation, effect)

    async def delete_runner(
        self, installation: InstallationId, scope: Scope, runner_id: int
    ) -> Sighting:
        def effect() -> Sighting:
            idle = self._world.runners.delete(runner_id)
            return Sighting.BUSY if idle is False else Sighting.GONE

        return await self._ask("delete_runner", installation, effect)

    async def run_jobs(
        self, installation: InstallationId, owner: str, repository: str, run: int, attempt: int
    ) -> list[WorkflowJobEvent]:
        def effect() -> list[WorkflowJobEvent]:
            known = self._world.jobs.runs.get(run)
            found = known.attempts[attempt - 1 : attempt] if known else []
            return [self._world.jobs.event(job, job.state) for jobs in found for job in jobs]

        return await self._ask("run_jobs", installation, effect)

    async def get_job(
        self, installation: InstallationId, owner: str, repository: str, job_id: int
    ) -> WorkflowJobEvent | None:
        def effect() -> WorkflowJobEvent | None:
            job = self._world.jobs.by_id.get(job_id)
            return self._world.jobs.event(job, job.state) if job else None

        return await self._ask("get_job", installation, effect)

    async def runners(self) -> AsyncIterator[tuple[InstallationId, Scope, GitHubRunner]]:
        for runner in list(self._world.runners.registered.values()):
            listed = self._world.runners.listed(runner.name)
            if listed is not None:
                yield InstallationId(runner.installation), Scope(runner.scope), listed

    async def runners_of(self, installation: InstallationId, scope: Scope) -> list[GitHubRunner]:
        return await self._ask("runners_of", installation, lambda: self._world.runners.at(scope))

    async def offers(self, installation: InstallationId, scope: Scope) -> list[Offer]:
        return await self._ask("offers", installation, lambda: [OFFERED])

    async def deliveries(self) -> AsyncIterator[Attempt]:
        attempts = await self._ask("deliveries", None, self._world.deliveries.newest_first)
        for number, attempt in enumerate(attempts):
            if number and number % PAGE == 0:
                await self._ask("deliveries", None, lambda: None)
            yield attempt

    async def delivery(self, attempt: int) -> WorkflowJobEvent | None:
        return await self._ask("delivery", None, lambda: self._world.deliveries.event(attempt))

    async def redeliver(self, attempt: int) -> None:
        await self._ask("redeliver", None, lambda: self._world.deliveries.redeliver(attempt))

    async def repositories(self) -> AsyncIterator[Repository]:
        for owner in self._world.accounts.owners:
            if not owner.reachable:
                continue
            await self._ask("repositories", owner.installation, lambda: None)
            for each in self._world.accounts.repositories:
                if each.owner is owner:
                    yield Repository(owner.installation, owner.name, each.name)

    async def repositories_of(self, installation: InstallationId) -> list[Repository]:
        def effect() -> list[Repository]:
            owner = self._world.accounts.owner_of(installation)
            ours = [one for one in self._world.accounts.repositories if one.owner is owner]
            return [Repository(installation, owner.name, one.name) for one in ours]

        return await self._ask("repositories_of", installation, effect)

    async def runs(self, repository: Repository, status: str, etag: str | None) -> Runs | None:
        def effect() -> Runs | None:
            known = self._world.accounts.find(repository.full_name)
            if known is None:
                raise GitHubRefused(RefusalKind.REPOSITORY_GONE, "no such repository")
            current = f"{status}-{known.changes}"
            if current == etag:
                self._world.calls["runs"] -= 1  # a 304 costs nothing
                self._world.calls["runs, unchanged"] += 1
                return None
            return Runs(self._world.jobs.listed(known, status), current)

        return await self._ask("runs", repository.installation, effect)

    async def _ask(
        self, verb: str, installation: InstallationId | None, effect: Callable[[], T]
    ) -> T:
        await self._arrive(verb, installation)
        faults = self._world.faults
        if faults.strikes("plane killed before a call", verb):
            self._process.kill()
            self._process.check()
        if faults.strikes("call rate limited", verb):
            raise RateLimited(
                "GitHub's secondary limit", retry_at=self._world.clock.now() + timedelta(seconds=60)
            )
        if faults.strikes("call failed before its effect", verb, installation):
            await self._fail()
        result = effect()
        if faults.strikes("call failed after its effect", verb):
            await self._fail()
        if faults.strikes("plane killed after a call", verb):
            self._process.kill()
            self._process.check()
        return result

    async def _arrive(self, verb: str, installation: InstallationId | None) -> None:
        self._process.check()
        self._world.calls[verb] += 1
        await moment(self._dice, 0.03, 0.3)
        self._process.check()
        if installation is not None:
            self._refuse(installation)

    def _refuse(self, installation: InstallationId) -> None:
        match self._world.accounts.access_of(installation):
            case Access.SUSPENDED:
                raise GitHubRefused(RefusalKind.SUSPENDED, "the installation is suspended")
            case Access.REMOVED:
                raise GitHubRefused(RefusalKind.NOT_INSTALLED, "the App is not installed there")
            case Access.INSTALLED:
                return

    async def _fail(self) -> None:
        """A 5xx at once, or silence."""
        if self._dice.random() < 0.5:
            raise GitHubUnreachable("GitHub answered 502")
        await self._time_out()

    async def _time_out(self) -> None:
        await asyncio.sleep(TIME_OUT_SECONDS)
        self._process.check()
        raise GitHubUnreachable("GitHub did not answer in time")
