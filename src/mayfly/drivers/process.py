"""A runner as a process of this machine: fresh directory, unprivileged user, kept by a keeper.

Meant for workflow jobs one would run on such a machine anyway: the directory, the processes and
the credentials of a job are gone afterwards, but nothing stops a job from using the network or
from reading what every user of the machine may read. With `no_new_privileges` a job cannot use
sudo; without it (the default) it may do what the machine's sudoers file allows its user.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from mayfly.drivers import accounts, exitcodes, guard, jitconfig, workplaces
from mayfly.drivers.accounts import Account
from mayfly.drivers.guard import Guard, Started
from mayfly.drivers.jitconfig import PLACEHOLDER, JitDelivery
from mayfly.drivers.kept import Kept, Order, Report, User, end_predecessor
from mayfly.drivers.stock import Stock
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.protocol import Granted, Outcome
from mayfly.ports import Driver, Finished
from mayfly.releases import cache

log = logging.getLogger(__name__)

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LONGEST_DETAIL = 2000
_START_AS_ROOT = "start as root, so that jobs get another user"
_USER_PER_SLOT = (
    "jobs of two slots can read each other: create users mayfly-runner-0, mayfly-runner-1 "
    "and so on, or set run_as with {slot}"
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this machine runs a runner."""

    command: tuple[str, ...] = ("bin/Runner.Listener", "run")
    """The runner's program and arguments; a relative path is looked up in the fresh directory.
    GitHub's own, and not its `run.sh`, which hides exit codes."""
    jit: JitDelivery = JitDelivery.FILES
    """How it gets its JIT config; files is what GitHub's runner writes itself."""
    template: Path | None = None
    """A directory copied into each fresh directory: the unpacked runner."""
    release: str | None = None
    """Instead of a template: a release `mayfly runner install` has put here, `newest` or a
    version. `newest` is kept current by the executor itself."""
    cache: Path | None = None
    """Where releases are installed; unset: `runners` in the state directory."""
    run_as: str | None = None
    """The user; `{slot}` in it is the executor's slot. Default as root: mayfly-runner-SLOT,
    mayfly-runner or nobody, the first that exists. Otherwise the executor's own."""
    environment: dict[str, str] = {}
    """Variables beside PATH, HOME, LANG, TMPDIR and USER; every job can read them."""
    grace_seconds: float = 10.0
    """Between asking a runner to stop and killing it: enough to tell GitHub of a cancelled job."""
    guard_seconds: float = 120.0
    """How long a job waits for the control plane's leave to begin; then it is refused."""
    refused_seconds: float = 60.0
    """How long a runner may take to report a refused job before it is stopped."""
    no_new_privileges: bool = False
    """Whether sudo and the like are without effect in jobs. Off: many workflows use sudo."""


@asynccontextmanager
async def open_driver(settings: Settings, home: Path, started: Started) -> AsyncIterator[Driver]:
    """A driver that works in `home`; InvalidSettings when it could never run anything."""
    _check(settings)
    account = accounts.chosen(settings.run_as, home.name)
    if account.shared:
        advice = _USER_PER_SLOT if account.other else _START_AS_ROOT
        log.warning("runner.shares_user user=%s advice='%s'", account.name, advice)
    driver = ProcessDriver(settings, home, account, started)
    try:
        await driver.stand_by()
        yield driver
    finally:
        await driver.close()


class ProcessDriver:
    """Runs one runner at a time in a fresh directory of `home`."""

    def __init__(self, settings: Settings, home: Path, account: Account, started: Started) -> None:
        self._settings = settings
        self._home = home
        self._account = account
        self._started = started
        self._record = home / "keeper.json"
        self._spare: Kept | None = None
        self._kept: Kept | None = None
        self._guard: Guard | None = None
        self._place: Path | None = None
        self._stock: Stock | None = None
        if settings.release is not None and settings.cache is not None:
            self._stock = Stock(home, account, settings.cache, settings.release)

    async def prepare(self, claim: Granted) -> None:
        """A fresh directory, a guard that listens and a keeper that waits for its order."""
        await self._emptied()
        with _as_permanent(f"cannot prepare {self._home}"):
            self._kept, self._spare = await self.stand_by(), None
            self._kept.record(self._record)
            self._place = await self._fresh_place()
            if claim.guard:
                self._guard = Guard.opened(self._home, self._started, self._settings.guard_seconds)

    async def run(self, name: str, jit_config: str) -> Finished:
        """One runner, to the end of its last process."""
        kept, place = self._kept, self._place
        if kept is None or place is None:
            raise Permanent("the driver was not prepared for this runner")
        with ExitStack() as stack:
            with _as_permanent(f"cannot place the JIT config in {place}"):
                kept.order(self._order(place, jitconfig.checked(jit_config), stack))
            log.info("runner.ordered runner=%s", name)
            stack.enter_context(self._stopping_the_refused(kept))
            try:
                report = await kept.ended()
            finally:
                await kept.stop()
        output = [] if report and report.exit_code == 0 else kept.output()
        return self._finished(report, jitconfig.withheld(output, jit_config))

    async def cleanup(self) -> None:
        """Nothing is left, and a keeper waits for the next claim."""
        await self._emptied()
        await self.stand_by()

    async def close(self) -> None:
        """Nothing is left."""
        await self._emptied()
        if self._stock is not None:
            await self._stock.close()
        if self._spare is not None:
            await self._spare.stop()
            self._spare = None

    async def stand_by(self) -> Kept:
        """A keeper and a copy of the runner, before they are needed: either would delay a job."""
        if self._stock is not None:
            self._stock.refill()
        if self._spare is not None and not self._spare.waiting:
            await self._spare.stop()
            self._spare = None
        if self._spare is None:
            self._spare = await Kept.spawned()
        return self._spare

    async def _fresh_place(self) -> Path:
        if self._stock is not None:
            return await self._stock.place()
        return await workplaces.fresh(self._home, self._account, self._settings.template)

    async def _emptied(self) -> None:
        """Processes first, then what they worked in."""
        kept, self._kept, self._place = self._kept, None, None
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        places = workplaces.left(self._home)
        if not await self._processes_gone(kept):
            for place in places:
                if strays := workplaces.kill_strays(place, self._account):
                    log.warning("processes.killed count=%d directory=%s", strays, place)
        unused = self._stock.strays() if self._stock else workplaces.copies(self._home)
        for directory in [*places, *unused, *guard.left(self._home)]:
            await workplaces.remove(directory)
        self._record.unlink(missing_ok=True)

    async def _processes_gone(self, kept: Kept | None) -> bool:
        """Whether a keeper has vouched for it; ours, or there is no trace of an earlier one."""
        if kept is not None:
            await kept.stop()
            return kept.orderly
        if not self._record.exists():
            return True
        await end_predecessor(self._record, self._settings.grace_seconds)
        return False

    def _order(self, place: Path, jit_config: str, stack: ExitStack) -> Order:
        environment, command = self._environment(place), self._settings.command
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
        account = self._account
        return Order(
            command=command,
            environment=environment,
            directory=str(place),
            user=User(uid=account.uid, gid=account.gid, groups=account.groups)
            if account.other
            else None,
            input=given,
            no_new_privileges=self._settings.no_new_privileges,
            grace_seconds=self._settings.grace_seconds,
        )

    def _environment(self, place: Path) -> dict[str, str]:
        own = {
            "PATH": _PATH,
            "HOME": str(place),
            "LANG": "C.UTF-8",
            "TMPDIR": str(place / "tmp"),
            "USER": self._account.name,
        }
        if exitcodes.is_githubs(self._settings.command[0]):
            own |= exitcodes.ENVIRONMENT
        guarded = {guard.VARIABLE: str(self._guard.hook)} if self._guard else {}
        return own | self._settings.environment | guarded

    @contextlib.contextmanager
    def _stopping_the_refused(self, kept: Kept) -> Iterator[None]:
        """A runner fails a refused job and ends by itself; one that lingers is stopped."""
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.TimerHandle] = []
        if self._guard is not None:
            self._guard.on_refusal = lambda: waiting.append(
                loop.call_later(self._settings.refused_seconds, kept.hang_up)
            )
        try:
            yield
        finally:
            for timer in waiting:
                timer.cancel()

    def _finished(self, report: Report | None, output: list[str]) -> Finished:
        """What the end means; an exit code is no evidence once a job has begun."""
        began = self._guard.question if self._guard else None
        code = report.exit_code if report else None
        if report is not None and report.refused is not None:
            return Finished(Outcome.FAILED, None, report.refused)
        if self._guard is not None and self._guard.refusal is not None:
            return Finished(Outcome.DONE, code, f"a job was refused: {self._guard.refusal}")
        if began is not None:
            return Finished(Outcome.DONE, code, f"ran a job of {began.repository}")
        if code == 0:
            return Finished(Outcome.DONE, code, "")
        what = "vanished with its keeper"
        if code is not None:
            meaning = exitcodes.sentence(self._settings.command[0], code)
            what = f"ended with exit code {code}" + (f" ({meaning})" if meaning else "")
        return Finished(Outcome.FAILED, code, _detail(self._settings.command[0], what, output))


@contextlib.contextmanager
def _as_permanent(what: str) -> Iterator[None]:
    """A full disk or a read-only one: a person has to act."""
    try:
        yield
    except OSError as error:
        raise Permanent(f"{what}: {error}") from error


def _check(settings: Settings) -> None:
    if not settings.command or not all(settings.command):
        raise InvalidSettings("the runner's command is empty; name its program and arguments")
    named = any(PLACEHOLDER in part for part in settings.command)
    if named != (settings.jit is JitDelivery.FILE):
        raise InvalidSettings(
            f'jit = "{settings.jit}": {PLACEHOLDER} belongs into the command when, and only when, '
            'jit = "file"'
        )
    if settings.template is not None and not settings.template.is_dir():
        raise InvalidSettings(
            f"template {settings.template} is not a directory; unpack the runner there"
        )
    if settings.release is not None:
        _check_release(settings, settings.release)
    if settings.grace_seconds <= 0:
        raise InvalidSettings(f"grace_seconds is {settings.grace_seconds}; it must be positive")


def _check_release(settings: Settings, release: str) -> None:
    if settings.template is not None:
        raise InvalidSettings("template and release are both given; remove one of them")
    if settings.cache is None:
        raise InvalidSettings("release is given without a cache; say where releases are installed")
    cache.chosen(settings.cache, release)


def _detail(program: str, what: str, output: list[str]) -> str:
    said = " | ".join(output)[-_LONGEST_DETAIL:]
    said = f"; it said: {said}" if said else " and said nothing"
    return f"{program} {what} before a job began{said}"
