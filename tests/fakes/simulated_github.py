"""The App against the simulator: what the tests of the port GitHub share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import pytest

from mayfly.github.app import GitHubApp, Settings, open_github
from mayfly.github.secrets import Secret
from mayfly.model.access import Scope
from mayfly.model.errors import GitHubRefused
from mayfly.model.jobs import InstallationId
from mayfly.model.repositories import Repository
from mayfly.simulator import Account, Simulator, generate_app_key, serve
from mayfly.simulator import Settings as SimulatorSettings

PRIVATE, PUBLIC = generate_app_key()
ORG, USER = InstallationId(501), InstallationId(502)
REPO, ORGANIZATION = Scope("repos/octo-org/octo-repo"), Scope("orgs/octo-org")
LABELS = ["self-hosted", "linux"]
OCTO_REPO = Repository(ORG, "octo-org", "octo-repo")
ONE_JOB = "jobs: {build: {runs-on: [self-hosted, linux], steps: [{run: 'true'}]}}"


class SystemClock:
    """The machine's clock, which may be wrong."""

    def __init__(self, wrong_by: timedelta = timedelta(0)) -> None:
        self.wrong_by = wrong_by

    def now(self) -> datetime:
        return datetime.now(UTC) + self.wrong_by

    def new_id(self) -> str:
        raise NotImplementedError


class World(NamedTuple):
    """A simulated GitHub, and the App that asks it."""

    simulator: Simulator
    github: GitHubApp
    clock: SystemClock

    def permit(self, **permissions: str) -> None:
        """What the owner grants to the App on octo-org from now on."""
        self.simulator.world.accounts.permit(ORG, permissions)


@asynccontextmanager
async def simulated() -> AsyncIterator[Simulator]:
    """A GitHub with an organization and a person who have installed the App."""
    settings = SimulatorSettings(
        app_public_key=PUBLIC,
        accounts=(
            Account(
                login="octo-org", repositories=("octo-repo", "other-repo"), installation_id=ORG
            ),
            Account(login="mona", type="User", repositories=("dots",), installation_id=USER),
        ),
    )
    async with serve(settings) as running:
        yield running


def _settings(simulator: Simulator, **changes: Any) -> Settings:
    chosen: dict[str, Any] = {
        "app_id": str(simulator.settings.app_id),
        "private_key": Secret(PRIVATE),
        "api_url": simulator.url,
        "connect_seconds": 2.0,
        "read_seconds": 5.0,
        "call_seconds": 8.0,
    }
    return Settings(**(chosen | changes))


@asynccontextmanager
async def opened(
    simulator: Simulator,
    clock: SystemClock | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    **changes: Any,
) -> AsyncIterator[World]:
    """The App, asking that GitHub over loopback or over a `transport`."""
    clock = clock or SystemClock()
    async with open_github(_settings(simulator, **changes), clock, transport) as github:
        yield World(simulator, github, clock)


async def refusal_of(awaitable: Any) -> GitHubRefused:
    """The refusal it ends with."""
    with pytest.raises(GitHubRefused) as raised:
        await awaitable
    return raised.value
