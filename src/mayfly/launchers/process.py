"""Executors as processes of this machine, which outlive the control plane that started them."""

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import msgspec

from mayfly.launchers.errands import TICKET, checked_variables, told
from mayfly.model.errors import InvalidSettings, Transient
from mayfly.model.launches import Launch, Launched, LaunchId, LaunchState, Ticket
from mayfly.ports import Clock, Launcher

_SCRIPT = f"""
IFS= read -r {TICKET} || exit 1
export {TICKET}
{{ echo $$ >group.new && mv group.new group; }} || exit 1
(
  trap : TERM INT
  "$@"
  echo $? >ended.new
  mv ended.new ended
) </dev/null >>log 2>&1 &
"""
"""The ticket is in the environment of the executor alone; who started it may end at once.

Nothing begins that could not be ended again, as where a disk is full."""
_WELL = {"0", "42"}
"""Exit codes of an executor that did what it was told."""
_KEPT_SECONDS = 3600.0
"""What ended is listed for so long."""
_SPAWN_SECONDS = 20.0


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What runs here."""

    config: Path
    """The executors' settings file, with `[runner]`."""
    state_dir: Path
    """A directory for each launch, with its executor's output, and the executors' slots."""
    command: tuple[str, ...] = ()
    """What is run instead of this Mayfly's own `executor --once`."""
    environment: dict[str, str] = {}
    """Variables beside PATH, HOME and LANG."""
    grace_seconds: float = 30.0
    """Between asking an executor to end and killing it, when it is told to end again."""


@asynccontextmanager
async def open_launcher(
    settings: object, *, server: str, pools: Sequence[str], clock: Clock
) -> AsyncIterator[Launcher]:
    """Nothing runs yet; InvalidSettings when nothing ever could."""
    del pools, clock  # any pool will do, and files have times of their own
    checked = msgspec.convert(settings, Settings, from_attributes=True)
    if not checked.command and not checked.config.is_file():
        raise InvalidSettings(f"the executors' settings file {checked.config} does not exist")
    if checked.command and shutil.which(checked.command[0]) is None:
        raise InvalidSettings(f"there is no program {checked.command[0]!r} that we may run")
    if checked.grace_seconds <= 0:
        raise InvalidSettings(f"grace_seconds is {checked.grace_seconds}; it must be positive")
    checked_variables(checked.environment)
    yield ProcessLauncher(checked, server)


class ProcessLauncher:
    """A launch is a directory; the lock in it is held by whatever runs for it."""

    def __init__(self, settings: Settings, server: str) -> None:
        self._settings = settings
        self._server = server
        self._root = settings.state_dir.absolute()

    async def start(self, launch: Launch, ticket: Ticket) -> None:
        """Returns when the process is on its own."""
        place = self._place(launch.pool, launch.id)
        with _as_transient(), _locked(place) as lock:
            if lock is None or (place / "group").exists():
                return
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", _SCRIPT, "mayfly-launch", *self._command()),
                cwd=place,
                env=self._environment(launch),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(lock,),
                start_new_session=True,
            )
            async with asyncio.timeout(_SPAWN_SECONDS):
                await process.communicate(f"{ticket.reveal()}\n".encode())
        if process.returncode:
            raise Transient(f"/bin/sh ended with {process.returncode} in {place}")

    async def launched(self, pool: str) -> list[Launched]:
        """What ended over an hour ago is forgotten meanwhile."""
        found = []
        with _as_transient():
            for place in _places(self._pool(pool)):
                one = _seen(place)
                if one is not None and not _is_running(one) and _age(place) > _KEPT_SECONDS:
                    await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
                elif one is not None:
                    found.append(one)
        return found

    async def stop(self, pool: str, launch: LaunchId) -> None:
        """Asked first; killed when it is told again after the grace time."""
        place = self._place(pool, launch)
        with _as_transient():
            one = _seen(place)
            if one is None or one.state is not LaunchState.RUNNING:
                return
            asked = place / "stopped"
            if not asked.exists():
                asked.touch()
                _signal(place, signal.SIGTERM)
            elif time.time() - asked.stat().st_mtime >= self._settings.grace_seconds:
                _signal(place, signal.SIGKILL)

    def _pool(self, pool: str) -> Path:
        return self._root / "launches" / f"pool-{quote(pool, safe='')}"

    def _place(self, pool: str, launch: LaunchId) -> Path:
        return self._pool(pool) / launch

    def _command(self) -> tuple[str, ...]:
        if self._settings.command:
            return self._settings.command
        config, state = self._settings.config.absolute(), self._root / "executors"
        program = (sys.executable, "-m", "mayfly", "executor", "--once")
        return (*program, "--config", str(config), "--state-dir", str(state))

    def _environment(self, launch: Launch) -> dict[str, str]:
        own = {name: value for name in ("PATH", "HOME", "LANG") if (value := os.environ.get(name))}
        return own | self._settings.environment | told(launch, self._server)


@contextmanager
def _locked(place: Path) -> Iterator[int | None]:
    """The lock of a launch, made where there is none; None: something runs for it."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield lock if _takes(lock, fcntl.LOCK_EX) else None
    finally:
        os.close(lock)


def _places(pool: Path) -> list[Path]:
    try:
        return sorted(place for place in pool.iterdir() if place.is_dir())
    except FileNotFoundError:
        return []


def _seen(place: Path) -> Launched | None:
    """None: nothing was ever started there."""
    try:
        lock = os.open(place / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        runs = not _takes(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)
    id_, begun = LaunchId(place.name), (place / "group").exists()
    if runs:
        return Launched(id_, LaunchState.RUNNING if begun else LaunchState.STARTING, "")
    if not begun:
        return None
    try:
        code = (place / "ended").read_text().strip()
    except FileNotFoundError:
        return Launched(id_, LaunchState.FAILED, "it was killed")
    if code in _WELL:
        return Launched(id_, LaunchState.ENDED, "")
    return Launched(id_, LaunchState.FAILED, f"it ended with {code}; see {place / 'log'}")


def _takes(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_running(one: Launched) -> bool:
    return one.state in {LaunchState.STARTING, LaunchState.RUNNING}


def _age(place: Path) -> float:
    return time.time() - place.stat().st_mtime


def _signal(place: Path, number: signal.Signals) -> None:
    """To the group that holds the lock, whose number is nobody else's for that long."""
    with suppress(ProcessLookupError):
        os.killpg(int((place / "group").read_text()), number)


@contextmanager
def _as_transient() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Transient(f"/bin/sh did not start within {_SPAWN_SECONDS:.0f} s") from error
    except OSError as error:
        raise Transient(f"this machine starts no process now: {error}") from error
