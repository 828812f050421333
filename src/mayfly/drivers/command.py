"""A runner on a board that programs of the operator boot, reach and power off.

For machines without containers, booted for each job. Nothing of a job runs on the executor's
machine; what runs on the board is known to be over only when the board was booted or powered off.
"""

import asyncio
import logging
import os
import pwd
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from mayfly.drivers import accounts, configuring, jitconfig
from mayfly.drivers.configuring import Configuring
from mayfly.drivers.guard import Started
from mayfly.drivers.programs import Ended, Programs, sentence
from mayfly.drivers.runs import SEARCH_PATH
from mayfly.model.errors import InvalidSettings, MayflyError, Permanent
from mayfly.model.protocol import Entrusted, Finished, Granted, Outcome
from mayfly.ports import Driver

log = logging.getLogger(__name__)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One board, by the programs that know it: lists of words, never a line for a shell."""

    prepare: tuple[str, ...]
    """Boots the board afresh. Its last argument is the job's variant, empty when it has none."""
    remote: tuple[str, ...]
    """Runs its arguments on the board, with the three standard streams, as ssh does."""
    run: tuple[str, ...]
    """What `remote` is told to run: on the board, one runner. The JIT config is on its stdin."""
    power_off: tuple[str, ...]
    """Powers the board off, or ends by other means everything that runs on it."""
    prepare_seconds: float = 600.0
    """How long `prepare` may take; shorter than `[executor] prepare_timeout_seconds`."""
    power_off_seconds: float = 120.0
    """How long `power_off` may take."""
    idle_seconds: float = 360.0
    """How long a board may stay on after a job; 0: it goes off as soon as its runner has ended."""
    grace_seconds: float = 10.0
    """Between asking a program to end and killing it."""
    environment: dict[str, str] = {}
    """Variables of the programs here, beside PATH, HOME, LANG and MAYFLY_SLOT."""
    inherit: tuple[str, ...] = ("MORELLO_HOSTNAME",)
    """Variables of the executor's own environment that the programs find, too, where set."""
    configure: configuring.Settings | None = None
    """Token mode, the table `[runner.configure]`: a program here registers the runner, and `run`
    gets its settings files in place of the JIT config. Unset: JIT mode."""


@asynccontextmanager
async def open_driver(settings: Settings, home: Path, _: Started) -> AsyncIterator[Driver]:
    """A driver of one board. Nobody asks whether a job may begin: a board has no way to us."""
    _check(settings)
    programs = Programs(home, _environment(settings, home), settings.grace_seconds)
    board = BoardDriver(settings, home, programs)
    driver: BoardDriver | TokenBoardDriver = board
    if settings.configure is not None:
        account = accounts.chosen(settings.configure.run_as, home.name)
        driver = TokenBoardDriver(board, Configuring(settings.configure, home, account, programs))
    try:
        yield driver
    finally:
        await driver.close()


class BoardDriver:
    """Boots, runs one runner, and powers off: at once after trouble, else when nothing comes."""

    def __init__(self, settings: Settings, home: Path, programs: Programs) -> None:
        self._settings = settings
        self._programs = programs
        self._on = home / "board-on"
        """There from before the board is booted until it was powered off."""
        self._prepared = False
        self._trusted = False
        """Whether nothing of a job can run on the board although it is on."""
        self._warned = False
        self._powering = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._idling: asyncio.Task[None] | None = None

    async def prepare(self, claim: Granted) -> None:
        """Boot the board."""
        await self._attended()
        if not self._trusted:
            await self._power_off()
        if claim.guard and not self._warned:
            log.warning("guard.unavailable claim=%s", claim.claim)
            self._warned = True
        self._on.touch()
        self._trusted = False
        await self._boot(claim.variant or "")
        self._prepared = self._trusted = True
        log.info("board.booted claim=%s variant=%r", claim.claim, claim.variant)

    async def run(self, name: str, jit_config: str) -> Finished:
        """One runner, to the end of `remote`."""
        if not self._prepared:
            raise Permanent("the driver was not prepared for this runner")
        config = jitconfig.checked(jit_config)
        self._prepared = self._trusted = False
        log.info("runner.ordered runner=%s", name)
        settings = self._settings
        try:
            ended = await self._programs.ended(
                (*settings.remote, *settings.run), given=f"{config}\n"
            )
            # Any other end may be that of the connection alone.
            self._trusted = ended.exit_code == 0
        finally:
            await self._settled()
        return _finished(settings, ended._replace(said=jitconfig.withheld(ended.said, jit_config)))

    async def cleanup(self) -> None:
        """No program runs here, and the board is off or soon will be."""
        await self._attended()
        self._prepared = False
        if not self._trusted or self._settings.idle_seconds == 0:
            await self._power_off()
        elif self._on.exists():
            self._wait_idle()

    async def close(self) -> None:
        """The board is off."""
        await self._attended()
        await self._power_off()

    async def _boot(self, variant: str) -> None:
        settings = self._settings
        ended = await self._programs.ended(
            (*settings.prepare, variant), within=settings.prepare_seconds
        )
        if ended.exit_code != 0:
            raise Permanent(sentence("prepare", settings.prepare, ended))

    async def _settled(self) -> None:
        """After a runner: what a stop has cut off must not go on, and no error may hide its end."""
        if self._trusted and self._settings.idle_seconds > 0:
            return
        try:
            await self._power_off()
        except MayflyError as error:  # cleanup tries again, and lets it pass
            log.error("board.stays_on reason=%r", str(error))  # noqa: TRY400 - a trace says nothing

    async def _power_off(self) -> None:
        async with self._powering:
            if not self._on.exists():
                return
            settings = self._settings
            ended = await self._programs.ended(
                settings.power_off, within=settings.power_off_seconds
            )
            if ended.exit_code != 0:
                raise Permanent(sentence("power_off", settings.power_off, ended))
            self._on.unlink()
            log.info("board.off")

    def _wait_idle(self) -> None:
        def begin() -> None:
            self._idling = asyncio.create_task(self._idle_off())

        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._settings.idle_seconds, begin)

    async def _idle_off(self) -> None:
        try:
            await self._power_off()
        except MayflyError as error:
            log.error("board.stays_on reason=%r", str(error))  # noqa: TRY400 - as above
            self._wait_idle()

    async def _attended(self) -> None:
        """The board is ours alone: nobody waits to power it off, and no program runs here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._idling is not None:
            await asyncio.wait({self._idling})  # half off would be neither
            self._idling = None
            await self._attended()  # it may have failed and wait for another try
        await self._programs.stop()


class TokenBoardDriver:
    """The same, and a program here registers the runner: the board never sees the token."""

    def __init__(self, board: BoardDriver, own: Configuring) -> None:
        self._board = board
        self._own = own

    async def prepare(self, claim: Granted) -> None:
        """Boot the board."""
        await self._board.prepare(claim)

    async def configure(self, order: Entrusted) -> str:
        """The settings files, packed."""
        return await self._own.registered(order)

    @property
    def token_spent(self) -> bool:
        """Whether no process that was given a token is left."""
        return self._own.token_spent

    async def run(self, name: str, jit_config: str) -> Finished:
        """One runner, with the settings files in place of a JIT config."""
        return await self._board.run(name, jit_config)

    async def cleanup(self) -> None:
        """As the board's, and nothing is left of a configure program."""
        try:
            await self._board.cleanup()
        finally:
            await self._own.cleared()

    async def close(self) -> None:
        """The board is off."""
        try:
            await self._board.close()
        finally:
            await self._own.cleared()


def _finished(settings: Settings, ended: Ended) -> Finished:
    """What the end means; without a guard nothing here knows whether a job had begun."""
    if ended.exit_code == 0:
        return Finished(Outcome.DONE, 0, "")
    return Finished(Outcome.FAILED, ended.exit_code, sentence("remote", settings.remote, ended))


def _environment(settings: Settings, home: Path) -> dict[str, str]:
    """All that a program finds; nothing of ours that was not named, for ours may hold a token."""
    own = {
        "PATH": SEARCH_PATH,
        "HOME": pwd.getpwuid(os.geteuid()).pw_dir,
        "LANG": "C.UTF-8",
        "MAYFLY_SLOT": home.name,
    }
    # Existing farms tell each executor its board by a variable, so the driver has to read it here.
    inherited = {name: os.environ[name] for name in settings.inherit if name in os.environ}
    return own | inherited | settings.environment


def _check(settings: Settings) -> None:
    for name in ("prepare", "remote", "run", "power_off"):
        command: tuple[str, ...] = getattr(settings, name)
        if not command or not command[0]:
            raise InvalidSettings(f'{name} is empty; name a program, as in {name} = ["/opt/…"]')
        if name != "run" and shutil.which(command[0], path=SEARCH_PATH) is None:
            raise InvalidSettings(
                f"{name}: there is no program {command[0]!r} that we may run; give its whole path"
            )
    for name in ("prepare_seconds", "power_off_seconds", "grace_seconds"):
        if (seconds := getattr(settings, name)) <= 0:
            raise InvalidSettings(f"{name} is {seconds}; it must be positive")
    if settings.configure is not None:
        configuring.check(settings.configure)
    if settings.idle_seconds < 0:
        raise InvalidSettings(f"idle_seconds is {settings.idle_seconds}; 0 is after each job")
    if secret := [name for name in settings.inherit if name.startswith("MAYFLY_")]:
        raise InvalidSettings(f"inherit names {secret[0]}, which may be a secret of the executor")
