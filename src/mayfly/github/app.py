"""The GitHub App: what Mayfly asks of GitHub, with the key that never leaves this process."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import msgspec
import structlog

from mayfly.github import addresses
from mayfly.github.addresses import Address
from mayfly.github.answers import (
    App,
    Installation,
    IssuedToken,
    JitConfig,
    Repository,
    Run,
    RunnerRecord,
    read,
)
from mayfly.github.calls import Calls, Request
from mayfly.github.pacing import Pacing
from mayfly.github.records import STATE_OF_STATUS, JobRecord, Place, event_of, has_nul, without_nul
from mayfly.github.refusals import Asked
from mayfly.github.secrets import Secret
from mayfly.github.sessions import Sessions
from mayfly.github.tokens import AppKey
from mayfly.model.access import Scope
from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    InvalidSettings,
    RateLimited,
)
from mayfly.model.jobs import InstallationId, JobState, WorkflowJobEvent
from mayfly.model.runners import Sighting
from mayfly.ports import Clock, GitHubRunner, Minted

log = structlog.get_logger()

_DEFAULT_GROUP = 1
_WORK_FOLDER = "_work"
_ACTIONS = "actions=read"
_ASKED_FOR = "api"
"""Stands for the delivery of a job that GitHub was asked for."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Which App this is, which GitHub it lives on, and how it is asked."""

    app_id: str
    """The App's id or client id, as its settings page shows it."""
    private_key: Secret
    """See `tokens.read_key`."""
    api_url: str = "https://api.github.com"
    """`https://HOST/api/v3` for GitHub Enterprise Server."""
    connect_seconds: float = 5.0
    """Until a connection stands. More only hides a network that is broken."""
    read_seconds: float = 20.0
    """Until GitHub says the next word; it gives up itself after 10 s."""
    call_seconds: float = 30.0
    """A whole call, with the wait for one of the `concurrency` slots."""
    concurrency: int = 50
    """Calls at once. GitHub allows 100 for everything the App does."""
    mints_per_minute: int = 180
    """Per installation; GitHub's secondary limit is 900 points, and a mint costs 5."""
    mint_patience_seconds: float = 30.0
    """How long a mint waits for its turn; an executor asks again, so longer gains nothing."""


@asynccontextmanager
async def open_github(settings: Settings, clock: Clock) -> AsyncIterator["GitHubApp"]:
    """The App, for as long as the context lives. InvalidSettings when it cannot even be tried."""
    checked(settings)
    timeout = httpx.Timeout(
        settings.read_seconds, connect=settings.connect_seconds, pool=settings.call_seconds
    )
    limits = httpx.Limits(max_connections=settings.concurrency)
    async with httpx.AsyncClient(timeout=timeout, limits=limits) as client:
        calls = Calls(
            client,
            api_url=settings.api_url,
            clock=clock,
            concurrency=settings.concurrency,
            deadline=timedelta(seconds=settings.call_seconds),
        )
        pacing = Pacing(
            per_minute=settings.mints_per_minute,
            patience=timedelta(seconds=settings.mint_patience_seconds),
            clock=clock,
        )
        key = AppKey(settings.app_id, settings.private_key, clock)
        sessions = Sessions(key, calls, pacing, clock)
        try:
            yield GitHubApp(sessions, pacing)
        finally:
            await sessions.close()


def checked(settings: Settings) -> Settings:
    """The settings; InvalidSettings when they cannot even be tried."""
    if not _is_address(settings.api_url):
        # Not shown, because a password may stand in it.
        raise InvalidSettings(
            "github.api_url must be an address like https://api.github.com or "
            "https://HOST/api/v3, without user name, password or query"
        )
    if not settings.app_id.strip():
        raise InvalidSettings("github.app_id is empty; copy the App's id or client id into it")
    for name in ("concurrency", "mints_per_minute", "call_seconds"):
        if getattr(settings, name) <= 0:
            raise InvalidSettings(f"github.{name} must be more than 0")
    return settings


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    extras = (parts.username, parts.password, parts.query, parts.fragment)
    return named and parts.scheme in {"http", "https"} and not any(extras)


class GitHubApp:
    """The port `GitHub` over GitHub's REST API, or anything that speaks it."""

    def __init__(self, sessions: Sessions, pacing: Pacing) -> None:
        self._sessions = sessions
        self._pacing = pacing
        self._on_organization: dict[InstallationId, bool] = {}

    async def mint(
        self, installation: InstallationId, scope: Scope, name: str, labels: Sequence[str]
    ) -> Minted:
        """See the port. GitHubRefused with NAME_EXISTS when there is a runner of this name."""
        address = addresses.of_scope(scope)
        request = Request(
            "POST",
            f"{address.path}/actions/runners/generate-jitconfig",
            address.asked(f"mint runner {name}"),
            body={
                "name": name,
                "runner_group_id": _DEFAULT_GROUP,
                "labels": list(labels),
                "work_folder": _WORK_FOLDER,
            },
        )
        await self._pacing.turn(installation)
        answer = await self._sessions.ask(installation, request)
        made = read(answer.data, JitConfig, request.asked.what)
        return Minted(made.runner.id, made.encoded_jit_config)

    async def find_runner(
        self, installation: InstallationId, scope: Scope, name: str
    ) -> GitHubRunner | None:
        """See the port. Older servers ignore `name`, so every page is looked through."""
        async with aclosing(
            self._runners_of(installation, addresses.of_scope(scope), name)
        ) as found:
            async for runner in found:
                if runner.name == name:
                    return runner
        return None

    async def delete_runner(
        self, installation: InstallationId, scope: Scope, runner_id: int
    ) -> Sighting:
        """See the port."""
        address = addresses.of_scope(scope)
        request = Request(
            "DELETE",
            f"{address.path}/actions/runners/{int(runner_id)}",
            address.asked(f"delete runner {runner_id}"),
            expected=frozenset({404, 422}),
        )
        answer = await self._sessions.ask(installation, request)
        return Sighting.BUSY if answer.status == 422 else Sighting.GONE

    async def run_jobs(
        self, installation: InstallationId, owner: str, repository: str, run: int, attempt: int
    ) -> list[WorkflowJobEvent]:
        """See the port. Empty when GitHub has no such attempt."""
        address = addresses.of_repository(owner, repository)
        request = Request(
            "GET",
            f"{address.path}/actions/runs/{int(run)}/attempts/{int(attempt)}/jobs",
            address.asked(f"list the jobs of run {run}", _ACTIONS),
            expected=frozenset({404}),
        )
        place = await self._place(installation, owner, repository)
        items = [item async for item in self._sessions.pages(installation, request, "jobs")]
        return [event for item in items if (event := _event(item, place)) is not None]

    async def get_job(
        self, installation: InstallationId, owner: str, repository: str, job_id: int
    ) -> WorkflowJobEvent | None:
        """See the port. None when GitHub has no such job."""
        address = addresses.of_repository(owner, repository)
        request = Request(
            "GET",
            f"{address.path}/actions/jobs/{int(job_id)}",
            address.asked(f"look at job {job_id}", _ACTIONS),
            expected=frozenset({404}),
        )
        answer = await self._sessions.ask(installation, request)
        if answer.status == 404:
            return None
        event = _event(answer.data, await self._place(installation, owner, repository))
        if event is None:
            raise GitHubUnreachable(f"could not {request.asked.what}: GitHub's answer is no job")
        return event

    async def get_run(
        self, installation: InstallationId, owner: str, repository: str, run: int
    ) -> Run | None:
        """The run: its event, and the fork its commit comes from. None when there is none."""
        address = addresses.of_repository(owner, repository)
        request = Request(
            "GET",
            f"{address.path}/actions/runs/{int(run)}",
            address.asked(f"look at run {run}", _ACTIONS),
            expected=frozenset({404}),
        )
        answer = await self._sessions.ask(installation, request)
        return None if answer.status == 404 else read(answer.data, Run, request.asked.what)

    async def registration_token(self, installation: InstallationId, scope: Scope) -> Secret:
        """Good for an hour and any number of runners: never near the machine that runs the job."""
        address = addresses.of_scope(scope)
        request = Request(
            "POST",
            f"{address.path}/actions/runners/registration-token",
            address.asked("make a registration token"),
        )
        answer = await self._sessions.ask(installation, request)
        return Secret(read(answer.data, IssuedToken, request.asked.what).token)

    async def app(self) -> App:
        """The App itself; the cheapest proof that the key is right."""
        request = Request("GET", "app", self._sessions.as_app("look at the App"))
        answer = await self._sessions.ask(None, request)
        return read(answer.data, App, request.asked.what)

    async def installations(self) -> list[Installation]:
        """Every installation of the App, suspended ones too."""
        asked = self._sessions.as_app("list the installations")
        request = Request("GET", "app/installations", asked)
        items = [item async for item in self._sessions.pages(None, request, "")]
        return read(items, list[Installation], asked.what)

    async def runners(self) -> AsyncIterator[tuple[InstallationId, Scope, GitHubRunner]]:
        """See the port. What GitHub does not show is logged as a warning and left out."""
        for installation in await self.installations():
            try:
                async for found in self._runners_in(installation):
                    yield found
            except (GitHubRefused, RateLimited, GitHubUnreachable) as error:
                log.warning(
                    "installation.skipped",
                    installation=installation.id,
                    owner=installation.owner,
                    reason=str(error),
                )

    async def _runners_in(
        self, installation: Installation
    ) -> AsyncIterator[tuple[InstallationId, Scope, GitHubRunner]]:
        for address in await self._addresses(installation):
            try:
                async for runner in self._runners_of(installation.installation, address):
                    yield installation.installation, Scope(address.path), runner
            except (GitHubRefused, GitHubUnreachable) as error:
                log.warning("repository.skipped", repository=address.label, reason=str(error))

    async def _addresses(self, installation: Installation) -> list[Address]:
        asked = Asked(f"list the repositories of {installation.owner}", installation.owner)
        request = Request("GET", "installation/repositories", asked)
        items = [
            item
            async for item in self._sessions.pages(
                installation.installation, request, "repositories"
            )
        ]
        repositories = read(items, list[Repository], asked.what)
        found = [addresses.of_repository(r.owner.login, r.name) for r in repositories]
        if installation.on_organization:
            found.insert(0, addresses.of_organization(installation.owner))
        return found

    async def _runners_of(
        self, installation: InstallationId, address: Address, name: str | None = None
    ) -> AsyncGenerator[GitHubRunner]:
        asked = address.asked("list the runners")
        query = {} if name is None else {"name": name}
        request = Request("GET", f"{address.path}/actions/runners", asked, query=query)
        async for item in self._sessions.pages(installation, request, "runners"):
            yield read(item, RunnerRecord, asked.what).runner

    async def _place(self, installation: InstallationId, owner: str, repository: str) -> Place:
        # A job from the API does not say what its owner is; the installation does, and never else.
        if installation not in self._on_organization:
            asked = self._sessions.as_app(
                "look at the installation", f"installation {installation}"
            )
            request = Request("GET", f"app/installations/{int(installation)}", asked)
            answer = await self._sessions.ask(None, request)
            found = read(answer.data, Installation, asked.what)
            self._on_organization[installation] = found.on_organization
        return Place(
            owner=owner,
            owner_is_organization=self._on_organization[installation],
            repository=repository,
            installation=installation,
        )


def _event(item: object, place: Place) -> WorkflowJobEvent | None:
    try:
        record = msgspec.convert(item, JobRecord)
    except msgspec.ValidationError as error:
        # One record we cannot read must not hide the others.
        log.warning(
            "job.skipped", repository=f"{place.owner}/{place.repository}", reason=str(error)
        )
        return None
    # A status we do not know is not counted, but asked about again.
    state = STATE_OF_STATUS.get(record.status, JobState.WAITING)
    event = event_of(record, state, place, _ASKED_FOR)
    return without_nul(event) if event is not None and has_nul(event) else event
