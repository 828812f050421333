"""A runner as a process of this machine: fresh directory, unprivileged user, kept by a keeper.

Meant for workflow jobs one would run on such a machine anyway: the directory, the processes and
the credentials of a job are gone afterwards, but nothing stops a job from using the network or
from reading what every user of the machine may read. With `no_new_privileges` a job cannot use
sudo; without it (the default) it may do what the machine's sudoers file allows its user.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from mayfly.drivers import accounts, jitconfig, runs, workplaces
from mayfly.drivers.accounts import Account
from mayfly.drivers.guard import Started
from mayfly.drivers.jitconfig import PLACEHOLDER, JitDelivery
from mayfly.drivers.kept import Order
from mayfly.drivers.runs import KeeperDriver, RunnerSettings
from mayfly.drivers.stock import Stock
from mayfly.ports import Driver

log = logging.getLogger(__name__)

_START_AS_ROOT = "start as root, so that jobs get another user"
_USER_PER_SLOT = (
    "jobs of two slots can read each other: create users mayfly-runner-0, mayfly-runner-1 "
    "and so on, or set run_as with {slot}"
)


class Settings(RunnerSettings, frozen=True, kw_only=True):
    """How this machine runs a runner."""

    no_new_privileges: bool = False
    """Whether sudo and the like are without effect in jobs. Off: many workflows use sudo."""


@asynccontextmanager
async def open_driver(settings: Settings, home: Path, started: Started) -> AsyncIterator[Driver]:
    """A driver that works in `home`; InvalidSettings when it could never run anything."""
    runs.check(settings)
    account = accounts.chosen(settings.run_as, home.name)
    if account.shared:
        advice = _USER_PER_SLOT if account.other else _START_AS_ROOT
        log.warning("runner.shares_user user=%s advice='%s'", account.name, advice)
    driver = driver_of(settings, home, account, started)
    try:
        await driver.stand_by()
        yield driver
    finally:
        await driver.close()


def driver_of(settings: Settings, home: Path, account: Account, started: Started) -> KeeperDriver:
    """The driver itself, before it stands by."""
    return KeeperDriver(settings, home, account, started, ProcessRecipe(settings, account))


class ProcessRecipe:
    """A copy of the runner, and the runner in it, as another user where we may change ours."""

    def __init__(self, settings: Settings, account: Account) -> None:
        self._settings = settings
        self._account = account

    async def placed(self, home: Path, stock: Stock | None) -> Path:
        """A copy of the release or of the template."""
        if stock is not None:
            return await stock.place()
        return await workplaces.fresh(home, self._account, self._settings.template)

    def order(self, place: Path, jit_config: str, hook: Path | None, stack: ExitStack) -> Order:
        """The command itself."""
        account, command = self._account, self._settings.command
        environment = runs.environment(self._settings, account, place, place / "tmp", hook)
        given: str | None = None
        match self._settings.jit:
            case JitDelivery.FILES:
                jitconfig.write_files(jit_config, place, self._account)
            case JitDelivery.STDIN:
                given = f"{jit_config}\n"
            case JitDelivery.FILE:
                passing = jitconfig.passing_file(jit_config, place, self._account)
                path = str(stack.enter_context(passing))
                command = tuple(part.replace(PLACEHOLDER, path) for part in command)
            case JitDelivery.ENVIRONMENT:
                environment[jitconfig.VARIABLE] = jit_config
        return Order(
            command=command,
            environment=environment,
            directory=str(place),
            user=runs.user(account),
            input=given,
            no_new_privileges=self._settings.no_new_privileges,
            grace_seconds=self._settings.grace_seconds,
        )

    async def released(self) -> None:
        """There is nothing but processes and directories."""
