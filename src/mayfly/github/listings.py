"""Lists of what the App may see: installations, repositories, runners and runs."""

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
import structlog

from mayfly.github import addresses
from mayfly.github.addresses import Address
from mayfly.github.answers import (
    Installation,
    RepositoryRecord,
    RunnerApplication,
    RunnerRecord,
    RunRecord,
    read,
)
from mayfly.github.calls import Request
from mayfly.github.refusals import Asked
from mayfly.github.sessions import PAGE, Sessions
from mayfly.model.access import Scope
from mayfly.model.errors import GitHubRefused, GitHubUnreachable, RateLimited
from mayfly.model.jobs import InstallationId
from mayfly.model.releases import Offer
from mayfly.model.repositories import Repository, Run, Runs
from mayfly.model.runners import GitHubRunner

log = structlog.get_logger()

_TROUBLE = (GitHubRefused, RateLimited, GitHubUnreachable)
_UNCHANGED = frozenset({304})


class Listings:
    """Lists, read to their end; one thing that cannot be read hides no other."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def installations(self) -> list[Installation]:
        """Every installation of the App, suspended ones too."""
        asked = self._sessions.as_app("list the installations")
        request = Request("GET", "app/installations", asked)
        items = [item async for item in self._sessions.pages(None, request, "")]
        return read(items, list[Installation], asked.what)

    async def repositories(self) -> AsyncIterator[Repository]:
        """Those of every installation that is not suspended."""
        for installation in await self.installations():
            if installation.suspended_at is not None:
                continue
            try:
                found = await self.repositories_of(installation.installation, installation.owner)
            except _TROUBLE as error:
                _skip(installation, error)
                continue
            for repository in found:
                yield repository

    async def repositories_of(self, who: InstallationId, name: str) -> list[Repository]:
        """Those of one installation, which errors call by `name`."""
        asked = Asked(f"list the repositories of {name}", name)
        request = Request("GET", "installation/repositories", asked)
        items = [item async for item in self._sessions.pages(who, request, "repositories")]
        records = read(items, list[RepositoryRecord], asked.what)
        return [Repository(who, record.owner.login, record.name) for record in records]

    async def runners(self) -> AsyncIterator[tuple[InstallationId, Scope, GitHubRunner]]:
        """Those of every installation, with the places they are registered at."""
        for installation in await self.installations():
            try:
                async for found in self._runners_in(installation):
                    yield found
            except _TROUBLE as error:
                _skip(installation, error)

    async def runners_at(
        self, installation: InstallationId, address: Address, name: str | None = None
    ) -> AsyncGenerator[GitHubRunner]:
        """The runners of one place; older servers ignore `name`."""
        asked = address.asked("list the runners")
        query = {} if name is None else {"name": name}
        request = Request("GET", f"{address.path}/actions/runners", asked, query=query)
        async for item in self._sessions.pages(installation, request, "runners"):
            yield read(item, RunnerRecord, asked.what).runner

    async def offers(self, installation: InstallationId, address: Address) -> list[Offer]:
        """The runner's program as it is offered there, for each kind of machine."""
        asked = address.asked("list the releases of the runner")
        request = Request("GET", f"{address.path}/actions/runners/downloads", asked)
        answer = await self._sessions.ask(installation, request)
        offered = read(answer.data, list[RunnerApplication], asked.what)
        return [application.offer for application in offered]

    async def runs(self, repository: Repository, status: str, etag: str | None) -> Runs | None:
        """The newest of a status; None when they are as they were at `etag`."""
        address = addresses.of_repository(repository.owner, repository.name)
        request = Request(
            "GET",
            f"{address.path}/actions/runs",
            address.asked(f"list the {status} runs", addresses.ACTIONS),
            query={"status": status, "per_page": PAGE},
            expected=frozenset() if etag is None else _UNCHANGED,
            etag=etag,
        )
        answer = await self._sessions.ask(repository.installation, request)
        if answer.status in _UNCHANGED:
            return None
        listed = read(answer.data, dict[str, object], request.asked.what)
        items = read(listed.get("workflow_runs"), list[object], request.asked.what)
        runs = [run for item in items if (run := _run(item, repository)) is not None]
        return Runs(runs, answer.etag)

    async def _runners_in(
        self, installation: Installation
    ) -> AsyncIterator[tuple[InstallationId, Scope, GitHubRunner]]:
        for address in await self._addresses(installation):
            try:
                async for runner in self.runners_at(installation.installation, address):
                    yield installation.installation, Scope(address.path), runner
            except (GitHubRefused, GitHubUnreachable) as error:
                log.warning("repository.skipped", repository=address.label, reason=str(error))

    async def _addresses(self, installation: Installation) -> list[Address]:
        who = installation.installation
        repositories = await self.repositories_of(who, installation.owner)
        found = [addresses.of_repository(one.owner, one.name) for one in repositories]
        if installation.on_organization:
            found.insert(0, addresses.of_organization(installation.owner))
        return found


def _skip(installation: Installation, trouble: Exception) -> None:
    log.warning(
        "installation.skipped",
        installation=installation.id,
        owner=installation.owner,
        reason=str(trouble),
    )


def _run(item: object, repository: Repository) -> Run | None:
    try:
        return msgspec.convert(item, RunRecord).run
    except (msgspec.ValidationError, OverflowError) as error:
        log.warning("run.skipped", repository=repository.full_name, reason=str(error))
        return None
