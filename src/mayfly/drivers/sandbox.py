"""A runner in a sandbox of bubblewrap: namespaces of its own, a read-only system, limits.

Nothing of the machine but its programs is to be seen from inside, and nothing a job wrote is left
after it: home, work and temporary files are in memory. The kernel is shared with the machine.
"""

import asyncio
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from mayfly.drivers import accounts, bubblewrap, cgroups, jitconfig, runs, workplaces
from mayfly.drivers.accounts import Account
from mayfly.drivers.bubblewrap import View
from mayfly.drivers.cgroups import Cgroup, Limits, Unavailable
from mayfly.drivers.guard import Started
from mayfly.drivers.jitconfig import PLACEHOLDER, JitDelivery
from mayfly.drivers.kept import Kept, Order
from mayfly.drivers.runs import KeeperDriver, RunnerSettings
from mayfly.drivers.stock import Stock
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.ports import Driver

log = logging.getLogger(__name__)

_OLDEST = (0, 8)
_MEGABYTE = 1024 * 1024
_TRYING_SECONDS = 20.0
_ADVICE = (
    "allow user namespaces to this user (sysctl user.max_user_namespaces, "
    "kernel.unprivileged_userns_clone or kernel.apparmor_restrict_unprivileged_userns), or "
    "choose another driver"
)


class Settings(RunnerSettings, frozen=True, kw_only=True):
    """How this machine runs a runner, and what the runner may see and use."""

    network: str = "host"
    """`host`: the machine's own; `none`: a loopback of its own; else the file of a network
    namespace. A runner of GitHub's needs GitHub."""
    disk_mb: int = 4096
    """The largest size of HOME, of /tmp and of /dev/shm, each. They are in memory, and count as
    such against `memory_mb`."""
    memory_mb: int | None = None
    """The most memory of a job, swap included; unset: what the machine has."""
    processes: int | None = 4096
    """The most processes and threads of a job, so that a fork bomb ends with it; unset: no limit
    of ours."""
    cpus: float | None = None
    """The most processors' time, as in 1.5; unset: what the machine has."""
    limits_required: bool = True
    """Whether the executor refuses to start when a limit cannot be set. Off: it warns."""
    read_only: tuple[Path, ...] = ()
    """Directories and files of the machine that jobs see beside its programs."""
    read_write: tuple[Path, ...] = ()
    """Those that jobs may also write, such as a cache; what one leaves there, the next finds."""
    bwrap: str = "bwrap"
    """The program, bubblewrap 0.8 or later."""


@asynccontextmanager
async def open_driver(settings: Settings, home: Path, started: Started) -> AsyncIterator[Driver]:
    """A driver that works in `home`; InvalidSettings when it could never make a sandbox."""
    _check(settings)
    account = accounts.chosen(settings.run_as, home.name)
    program = await _program(settings.bwrap)
    recipe = SandboxRecipe(settings, account, program, _cgroup(settings, home))
    driver = KeeperDriver(settings, home, account, started, recipe)
    try:
        await driver.cleanup()  # first: a predecessor's runner may still be saying good-bye
        await recipe.try_out()
        yield driver
    finally:
        await driver.close()


class SandboxRecipe:
    """A command wrapped by bwrap, which its keeper starts as the runner's user."""

    def __init__(
        self, settings: Settings, account: Account, program: str, cgroup: Cgroup | None
    ) -> None:
        self._settings = settings
        self._account = account
        self._program = program
        self._cgroup = cgroup
        self._runner = settings.template
        """Whose entries HOME shows: the template, or this job's copy of a release."""

    async def try_out(self) -> None:
        """InvalidSettings when the kernel or a path forbids such a sandbox."""
        kept = await Kept.spawned()
        try:
            async with asyncio.timeout(_TRYING_SECONDS):
                await self._limited()
                kept.order(self._ordered(self._view(), ("/bin/true",), Path("/")))
                report = await kept.ended()
        except TimeoutError as error:
            raise InvalidSettings(
                f"{self._program} has not made a sandbox within {_TRYING_SECONDS:.0f} s"
            ) from error
        except (OSError, Permanent) as error:
            raise InvalidSettings(f"cannot try out a sandbox: {error}") from error
        finally:
            await kept.stop()
            await self.released()
        if report is None or report.exit_code != 0:
            said = " | ".join(kept.output()) or (report and report.refused) or "it said nothing"
            raise InvalidSettings(f"{self._program} cannot make a sandbox here: {said}; {_ADVICE}")

    async def placed(self, home: Path, stock: Stock | None) -> Path:
        """A directory for what is passed; the runner's own home is in the sandbox."""
        await self._limited()
        if stock is not None:
            self._runner = await stock.place()
            (self._runner / "tmp").rmdir()  # the sandbox has its own, in memory
        return await workplaces.fresh(home, self._account, None)

    def order(self, place: Path, jit_config: str, hook: Path | None, stack: ExitStack) -> Order:
        """The command in a sandbox."""
        account, command, view = self._account, self._settings.command, self._view()
        if hook is not None:
            view = msgspec.structs.replace(view, read_only=(*view.read_only, hook.parent))
        given: str | None = None
        environment: dict[str, str] = {}
        match self._settings.jit:
            case JitDelivery.FILES:
                view = msgspec.structs.replace(view, files=jitconfig.unpacked(jit_config))
            case JitDelivery.STDIN:
                given = f"{jit_config}\n"
            case JitDelivery.FILE:
                passing = stack.enter_context(jitconfig.passing_file(jit_config, place, account))
                view = msgspec.structs.replace(view, passed=place)
                path = str(bubblewrap.PASSED / passing.name)
                command = tuple(part.replace(PLACEHOLDER, path) for part in command)
            case JitDelivery.ENVIRONMENT:
                environment[jitconfig.VARIABLE] = jit_config
        order = self._ordered(view, command, place, hook)
        return msgspec.structs.replace(
            order, input=given, environment=order.environment | environment
        )

    async def released(self) -> None:
        """The cgroup is gone, and whatever was in it; a job's copy goes with its directory."""
        self._runner = self._settings.template
        if self._cgroup is not None:
            await self._cgroup.remove()

    async def _limited(self) -> None:
        if self._cgroup is not None:
            await self._cgroup.make()

    def _view(self) -> View:
        settings, account = self._settings, self._account
        return View(
            user=account.name,
            uid=account.uid,
            gid=account.gid,
            own_network=settings.network == "none",
            disk_bytes=settings.disk_mb * _MEGABYTE,
            template=self._runner,
            read_only=settings.read_only,
            read_write=settings.read_write,
        )

    def _ordered(
        self, view: View, command: tuple[str, ...], directory: Path, hook: Path | None = None
    ) -> Order:
        settings, account = self._settings, self._account
        wrapped = bubblewrap.wrapped(self._program, view, command)
        return Order(
            command=wrapped.command,
            environment=runs.environment(
                settings, account, bubblewrap.HOME, bubblewrap.TEMPORARY, hook
            ),
            directory=str(directory),
            user=runs.user(account),
            input=None,
            no_new_privileges=True,
            grace_seconds=settings.grace_seconds,
            wrappers=bubblewrap.WRAPPERS,
            descriptors=wrapped.descriptors,
            cgroups=self._cgroup.directories if self._cgroup else (),
            network=settings.network if settings.network.startswith("/") else None,
        )


async def _program(name: str) -> str:
    """The path of bubblewrap; InvalidSettings when there is none, or one that is too old."""
    program = shutil.which(name, path=runs.SEARCH_PATH)
    if program is None:
        raise InvalidSettings(
            f"the sandbox driver needs bubblewrap, but there is no {name!r} on this machine; "
            "install the package bubblewrap, or choose another driver"
        )
    asked = await asyncio.create_subprocess_exec(
        program, "--version", stdout=asyncio.subprocess.PIPE, env={}
    )
    said, _ = await asked.communicate()
    version = re.search(rb"(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < _OLDEST:
        raise InvalidSettings(
            f"{program} says it is {said.decode(errors='replace').strip()!r}; the sandbox driver "
            "needs bubblewrap 0.8 or later"
        )
    return program


def _cgroup(settings: Settings, home: Path) -> Cgroup | None:
    """The cgroup of this slot's jobs; None without limits, wanted or possible."""
    memory = settings.memory_mb
    limits = Limits(
        memory_bytes=None if memory is None else memory * _MEGABYTE,
        processes=settings.processes,
        cpus=settings.cpus,
    )
    if limits == Limits():
        return None
    try:
        return cgroups.opened(home, limits)
    except Unavailable as error:
        if settings.limits_required:
            raise InvalidSettings(
                f"jobs cannot be limited: {error}, or set limits_required = false"
            ) from error
        log.warning("sandbox.unlimited reason=%r", str(error))
        return None


def _check(settings: Settings) -> None:
    runs.check(settings)
    for name, value in (
        ("disk_mb", settings.disk_mb),
        ("memory_mb", settings.memory_mb),
        ("processes", settings.processes),
        ("cpus", settings.cpus),
    ):
        if value is not None and value <= 0:
            raise InvalidSettings(f"{name} is {value}; it must be positive")
    for path in (*settings.read_only, *settings.read_write):
        if not path.is_absolute() or not path.exists():
            raise InvalidSettings(f"{path} is to be seen in the sandbox, but is not on the machine")
    if settings.network.startswith("/") and os.geteuid() != 0:
        raise InvalidSettings(
            f'network = "{settings.network}" is a namespace, which root alone can enter; start '
            'the executor as root, or set "host" or "none"'
        )
    if settings.network not in {"host", "none"} and not Path(settings.network).is_absolute():
        raise InvalidSettings(
            f'network = "{settings.network}"; set "host", "none" or the file of a namespace, as in '
            '"/run/netns/jobs"'
        )
    configured = settings.template and [
        name for name in jitconfig.FILES if (settings.template / name).exists()
    ]
    if configured:
        raise InvalidSettings(
            f"template {settings.template} has {configured[0]}; use a runner that was never "
            "configured"
        )
