"""One runner after another, each under a keeper: what the drivers of this machine share.

Such a driver is a recipe: where a runner is placed, and what its keeper is ordered to do.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import msgspec

from mayfly.drivers import exitcodes, guard, jitconfig, workplaces
from mayfly.drivers.accounts import Account
from mayfly.drivers.guard import Guard, Started
from mayfly.drivers.jitconfig import PLACEHOLDER, JitDelivery
from mayfly.drivers.kept import Kept, Order, User, end_predecessor
from mayfly.drivers.stock import Stock
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.protocol import Finished, Granted, Outcome
from mayfly.releases import cache

log = logging.getLogger(__name__)

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LONGEST_DETAIL = 2000


class RunnerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every such driver has to be told of its runner; a driver's own settings follow."""

    command: tuple[str, ...] = ("bin/Runner.Listener", "run")
    """The runner's program and arguments; a relative path is looked up in the fresh directory.
    GitHub's own, and not its `run.sh`, which hides exit codes."""
    jit: JitDelivery = JitDelivery.FILES
    """How it gets its JIT config; files is what GitHub's runner writes itself."""
    template: Path | None = None
    """A directory whose content each fresh directory has: the unpacked runner."""
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


class Recipe(Protocol):
    """What tells one such driver from another."""

    async def placed(self, home: Path, stock: Stock | None) -> Path:
        """A fresh directory in `home`, and whatever else the runner will need.

        With a `stock`, the runner is a copy taken from it.
        """

    def order(self, place: Path, jit_config: str, hook: Path | None, stack: ExitStack) -> Order:
        """The keeper's order; `stack` ends with the runner. `hook` is the guard's script."""

    async def released(self) -> None:
        """What `placed` took beside the directory is given back; a crashed predecessor's, too.

        Called when every process that is known of is gone. Idempotent.
        """


class KeeperDriver:
    """Runs one runner at a time in a fresh directory of `home`."""

    def __init__(
        self,
        settings: RunnerSettings,
        home: Path,
        account: Account,
        started: Started,
        recipe: Recipe,
    ) -> None:
        self._settings = settings
        self._home = home
        self._account = account
        self._started = started
        self._recipe = recipe
        self._record = home / "keeper.json"
        self._spare: Kept | None = None
        self._kept: Kept | None = None
        self._guard: Guard | None = None
        self._place: Path | None = None
        self._stock: Stock | None = None
        if settings.release is not None and settings.cache is not None:
            self._stock = Stock(home, account, settings.cache, settings.release)

    async def prepare(self, claim: Granted) -> None:
        """A fresh directory, a job-start hook and a keeper that waits for its order."""
        await self._emptied()
        with as_permanent(f"cannot prepare {self._home}"):
            self._kept, self._spare = await self.stand_by(), None
            self._kept.record(self._record)
            self._place = await self._recipe.placed(self._home, self._stock)
            # A hook of the operator's own is not taken away for what only tells.
            if claim.guard or guard.VARIABLE not in self._settings.environment:
                self._guard = Guard.opened(
                    self._home, self._started, self._settings.guard_seconds, asks=claim.guard
                )

    async def run(self, name: str, jit_config: str) -> Finished:
        """One runner, to the end of its last process."""
        kept, place = self._kept, self._place
        if kept is None or place is None:
            raise Permanent("the driver was not prepared for this runner")
        with ExitStack() as stack:
            with as_permanent(f"cannot place the JIT config in {place}"):
                hook = self._guard.hook if self._guard else None
                config = jitconfig.checked(jit_config)
                kept.order(self._recipe.order(place, config, hook, stack))
            log.info("runner.ordered runner=%s", name)
            stack.enter_context(
                stopping_the_refused(self._guard, self._settings.refused_seconds, kept.hang_up)
            )
            try:
                report = await kept.ended()
            finally:
                await kept.stop()
        output = [] if report and report.exit_code == 0 else kept.output()
        output = jitconfig.withheld(output, jit_config)
        if report is not None and report.refused is not None:
            return Finished(Outcome.FAILED, None, report.refused)
        how = None if report else "vanished with its keeper"
        code = report.exit_code if report else None
        return finished(self._guard, code, self._settings.command, output, how)

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
        self._spare = await Kept.ready(self._spare)
        return self._spare

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
        await self._recipe.released()
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


@contextlib.contextmanager
def stopping_the_refused(
    asked: Guard | None, seconds: float, stop: Callable[[], object]
) -> Iterator[None]:
    """A runner fails a refused job and ends by itself; one that lingers is stopped."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.TimerHandle] = []
    if asked is not None:
        asked.on_refusal = lambda: waiting.append(loop.call_later(seconds, stop))
    try:
        yield
    finally:
        for timer in waiting:
            timer.cancel()


def finished(
    asked: Guard | None,
    code: int | None,
    command: Sequence[str],
    output: list[str],
    how: str | None = None,
) -> Finished:
    """What the end means; an exit code is no evidence once a job has begun."""
    if asked is not None and asked.refusal is not None:
        return Finished(Outcome.DONE, code, f"a job was refused: {asked.refusal}")
    if asked is not None and asked.question is not None:
        return Finished(Outcome.DONE, code, f"ran a job of {asked.question.repository}")
    if code == 0:
        return Finished(Outcome.DONE, code, "")
    if how is None:
        how = "vanished" if code is None else exitcodes.ended(command, code)
    return Finished(Outcome.FAILED, code, _detail(command[0], how, output))


def check(settings: RunnerSettings) -> None:
    """InvalidSettings when they could never run anything."""
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
    program, empty = settings.command[0], settings.template is None and settings.release is None
    if empty and "/" in program and not program.startswith("/"):
        raise InvalidSettings(
            f"the runner's program {program} would be looked up in an empty directory; set "
            'release = "newest" (mayfly runner install), a template, or the whole path in command'
        )
    if settings.grace_seconds <= 0:
        raise InvalidSettings(f"grace_seconds is {settings.grace_seconds}; it must be positive")


def _check_release(settings: RunnerSettings, release: str) -> None:
    if settings.template is not None:
        raise InvalidSettings("template and release are both given; remove one of them")
    if settings.cache is None:
        raise InvalidSettings("release is given without a cache; say where releases are installed")
    cache.chosen(settings.cache, release)


def environment(
    settings: RunnerSettings, account: Account, home: Path, temporary: Path, hook: Path | None
) -> dict[str, str]:
    """All that a runner finds in its environment; nothing of the executor's own."""
    own = {
        "PATH": SEARCH_PATH,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TMPDIR": str(temporary),
        "USER": account.name,
    }
    if exitcodes.is_githubs(settings.command):
        own |= exitcodes.ENVIRONMENT
    return own | settings.environment | ({guard.VARIABLE: str(hook)} if hook else {})


def user(account: Account) -> User | None:
    """Whom the keeper has to become; None: the executor's own user."""
    if not account.other:
        return None
    return User(uid=account.uid, gid=account.gid, groups=account.groups)


@contextlib.contextmanager
def as_permanent(what: str) -> Iterator[None]:
    """A full disk or a read-only one: a person has to act."""
    try:
        yield
    except OSError as error:
        raise Permanent(f"{what}: {error}") from error


def _detail(program: str, what: str, output: list[str]) -> str:
    said = " | ".join(output)[-_LONGEST_DETAIL:]
    said = f"; it said: {said}" if said else " and said nothing"
    return f"{program} {what} before a job began{said}"
