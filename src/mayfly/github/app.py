"""The GitHub App: what Mayfly asks of GitHub, with the key that never leaves this process."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import msgspec

from mayfly.github import addresses
from mayfly.github.answers import App, Installation, IssuedToken, JitConfig, RunRecord, read
from mayfly.github.budgets import Budgets, Remaining
from mayfly.github.calls import Calls, Request
from mayfly.github.deliverylog import DeliveryLog
from mayfly.github.examinations import Examination
from mayfly.github.jobs import Jobs
from mayfly.github.judgements import Needs
from mayfly.github.limits import REGISTRATION
from mayfly.github.listings import Listings
from mayfly.github.secrets import Secret
from mayfly.github.sessions import Sessions
from mayfly.github.tokens import AppKey, LocalKey, Signer, VaultKey
from mayfly.model.access import Scope
from mayfly.model.deliveries import Attempt
from mayfly.model.errors import InvalidSettings, not_installed
from mayfly.model.jobs import InstallationId, WorkflowJobEvent
from mayfly.model.releases import Offer
from mayfly.model.repositories import Repository, Runs
from mayfly.model.runners import GitHubRunner, Minted, RegistrationToken, Sighting
from mayfly.ports import Clock

_DEFAULT_GROUP = 1
_WORK_FOLDER = "_work"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Which App this is, which GitHub it lives on, and how it is asked."""

    app_id: str
    """The App's id or client id, as its settings page shows it."""
    private_key: Secret | VaultKey
    """The key, see `tokens.read_key`, or where it is."""
    api_url: str = "https://api.github.com"
    """`https://HOST/api/v3` for GitHub Enterprise Server."""
    connect_seconds: float = 5.0
    """Until a connection stands. More only hides a network that is broken."""
    read_seconds: float = 20.0
    """Until GitHub says the next word; it gives up itself after 10 s."""
    call_seconds: float = 30.0
    """A whole call, with the wait for one of the `concurrency` slots."""
    concurrency: int = 50
    """Calls at once. GitHub allows 100 for everything the App does.

    One installation has 60 % of them at most, so that a silent one holds up no other."""
    mints_per_minute: int = 180
    """Per installation; GitHub's secondary limit is 900 points, and a mint costs 5.

    What mints leave of the points, other calls may use, up to 70 %."""
    mint_patience_seconds: float = 30.0
    """How long a mint waits for its turn; an executor asks again, so longer gains nothing.

    Other calls wait for 5 s at most."""


@asynccontextmanager
async def open_github(
    settings: Settings, clock: Clock, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator["GitHubApp"]:
    """The App, for as long as the context lives. InvalidSettings when it cannot even be tried.

    A `transport` of one's own takes the network's place.
    """
    checked(settings)
    timeout = httpx.Timeout(
        settings.read_seconds, connect=settings.connect_seconds, pool=settings.call_seconds
    )
    limits = httpx.Limits(max_connections=settings.concurrency)
    async with httpx.AsyncClient(timeout=timeout, limits=limits, transport=transport) as client:
        calls = Calls(
            client,
            api_url=settings.api_url,
            clock=clock,
            concurrency=settings.concurrency,
            deadline=timedelta(seconds=settings.call_seconds),
        )
        budgets = Budgets(
            mints_per_minute=settings.mints_per_minute,
            patience=timedelta(seconds=settings.mint_patience_seconds),
            concurrency=settings.concurrency,
            clock=clock,
        )
        async with _signing(settings.private_key) as signer:
            key = AppKey(settings.app_id, signer, clock)
            sessions = Sessions(key, calls, budgets, clock)
            try:
                yield GitHubApp(sessions, budgets, clock, addresses.web(settings.api_url))
            finally:
                await sessions.close()


@asynccontextmanager
async def _signing(key: Secret | VaultKey) -> AsyncIterator[Signer]:
    if isinstance(key, Secret):
        yield LocalKey(key)
        return
    try:
        from mayfly.github import keyvault  # noqa: PLC0415 - an extra, and a second to import
    except ImportError as error:
        raise not_installed("[github] key_vault_key", "azure", error) from error
    async with keyvault.open_signer(key.url) as signer:
        yield signer


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

    def __init__(self, sessions: Sessions, budgets: Budgets, clock: Clock, web: str) -> None:
        self._sessions = sessions
        self._clock = clock
        self._budgets = budgets
        self._web = web
        self._jobs = Jobs(sessions)
        self._listings = Listings(sessions)
        self._log = DeliveryLog(sessions)

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
            first=True,
            hour=REGISTRATION,
        )
        answer = await self._sessions.ask(installation, request)
        made = read(answer.data, JitConfig, request.asked.what)
        return Minted(made.runner.id, made.encoded_jit_config)

    async def find_runner(
        self, installation: InstallationId, scope: Scope, name: str
    ) -> GitHubRunner | None:
        """See the port. Older servers ignore `name`, so every page is looked through."""
        address = addresses.of_scope(scope)
        async with aclosing(self._listings.runners_at(installation, address, name)) as found:
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

    def runners(self) -> AsyncIterator[tuple[InstallationId, Scope, GitHubRunner]]:
        """See the port. What GitHub does not show is logged as a warning and left out."""
        return self._listings.runners()

    async def runners_of(self, installation: InstallationId, scope: Scope) -> list[GitHubRunner]:
        """See the port."""
        address = addresses.of_scope(scope)
        return [runner async for runner in self._listings.runners_at(installation, address)]

    async def offers(self, installation: InstallationId, scope: Scope) -> list[Offer]:
        """See the port."""
        return await self._listings.offers(installation, addresses.of_scope(scope))

    async def run_jobs(
        self, installation: InstallationId, owner: str, repository: str, run: int, attempt: int
    ) -> list[WorkflowJobEvent]:
        """See the port. Empty when GitHub has no such attempt."""
        return await self._jobs.of_run(installation, owner, repository, run, attempt)

    async def get_job(
        self, installation: InstallationId, owner: str, repository: str, job_id: int
    ) -> WorkflowJobEvent | None:
        """See the port. None when GitHub has no such job."""
        return await self._jobs.job(installation, owner, repository, job_id)

    async def get_run(
        self, installation: InstallationId, owner: str, repository: str, run: int
    ) -> RunRecord | None:
        """The run: its event, and the fork its commit comes from. None when there is none."""
        return await self._jobs.run(installation, owner, repository, run)

    async def runs(self, repository: Repository, status: str, etag: str | None) -> Runs | None:
        """See the port. GitHubRefused with REPOSITORY_GONE when GitHub shows no such repository."""
        return await self._listings.runs(repository, status, etag)

    def repositories(self) -> AsyncIterator[Repository]:
        """See the port. An installation that cannot be asked is logged as a warning, left out."""
        return self._listings.repositories()

    async def repositories_of(self, installation: InstallationId) -> list[Repository]:
        """See the port."""
        return await self._listings.repositories_of(installation, f"installation {installation}")

    def deliveries(self) -> AsyncIterator[Attempt]:
        """See the port. Attempts that cannot be read are logged as a warning and left out."""
        return self._log.attempts()

    async def delivery(self, attempt: int) -> WorkflowJobEvent | None:
        """See the port. GitHubRefused with DELIVERY_GONE when the log does not have it."""
        return await self._log.delivered(attempt)

    async def redeliver(self, attempt: int) -> None:
        """See the port. GitHubRefused with DELIVERY_GONE when the log does not have it."""
        await self._log.redeliver(attempt)

    async def registration_token(
        self, installation: InstallationId, scope: Scope
    ) -> RegistrationToken:
        """See the port."""
        address = addresses.of_scope(scope)
        request = Request(
            "POST",
            f"{address.path}/actions/runners/registration-token",
            address.asked("make a registration token"),
            first=True,
            hour=REGISTRATION,
        )
        answer = await self._sessions.ask(installation, request)
        token = read(answer.data, IssuedToken, request.asked.what).token
        return RegistrationToken(token, f"{self._web}/{address.place}")

    async def app(self) -> App:
        """The App itself; the cheapest proof that the key is right."""
        request = Request("GET", "app", self._sessions.as_app("look at the App"))
        answer = await self._sessions.ask(None, request)
        return read(answer.data, App, request.asked.what)

    def examination(self, needs: Needs) -> Examination:
        """A look at everything a control plane depends on here."""
        return Examination(self._sessions, needs, self._clock)

    async def installations(self) -> list[Installation]:
        """Every installation of the App, suspended ones too."""
        return await self._listings.installations()

    def budgets(self) -> Mapping[InstallationId | None, Remaining]:
        """What may still be asked, by installation; under None for the App itself."""
        return self._budgets.remaining()

    def least_share(self) -> float:
        """The part of its hourly calls that is left to whoever has the least, 0 to 1."""
        return self._budgets.least_share()
