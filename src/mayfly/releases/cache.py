"""The cache: each release unpacked once, never changed afterwards, copied for every job.

    CACHE/lock          held by whoever installs
    CACHE/2.336.0/      a whole release; it comes here by a rename, so half of one is never seen
    CACHE/unpacking/    one that is being unpacked
    CACHE/download/     an archive, or as much of it as there is yet

The directory is closed to every other user: jobs get copies and see nothing of it.
"""

import asyncio
import fcntl
import os
import platform
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from mayfly.model.errors import InvalidSettings, Permanent, Transient
from mayfly.model.releases import Version, version_in

NEWEST = "newest"
"""The release to use when none is named."""
PROGRAM = Path("bin/Runner.Listener")
"""What is started, in every release."""
KEPT = 3
"""Releases come every few weeks and are refused after 30 days: no older one is of use."""


class Busy(Transient):
    """Another process installs at this moment."""


_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64", "armv7l": "arm"}
_TURN_SECONDS = 0.2


def in_state_dir(state_dir: Path) -> Path:
    """Where the cache is, unless it is told otherwise."""
    return state_dir / "runners"


def kind_of_machine() -> tuple[str, str]:
    """(operating system, architecture) in GitHub's words; Permanent when it has no runner."""
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in _ARCHITECTURES:
        raise Permanent(f"GitHub offers no runner for {system} on {machine}; use another machine")
    return "linux", _ARCHITECTURES[machine]


def installed(cache: Path) -> list[Version]:
    """The releases there are, newest first."""
    try:
        names = [entry.name for entry in os.scandir(cache) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(cache, error) from error
    found = {name: version_in(name) for name in names}
    return sorted((one for name, one in found.items() if one and str(one) == name), reverse=True)


def chosen(cache: Path, release: str) -> Version:
    """The release `newest` or a version names; InvalidSettings when it is not installed."""
    there = installed(cache)
    if not there:
        raise InvalidSettings(
            f"no release of GitHub's runner is installed in {cache}; "
            "run `mayfly runner install` as this user"
        )
    if release == NEWEST:
        return there[0]
    for version in there:
        if str(version) == release:
            return version
    raise InvalidSettings(
        f"release {release!r} of GitHub's runner is not installed in {cache}; "
        f'name one of {", ".join(map(str, there))}, or "{NEWEST}"'
    )


@contextmanager
def held(cache: Path, release: str) -> Iterator[Path]:
    """The directory of a release, which stays there until the context ends."""
    while True:
        directory = cache / str(chosen(cache, release))
        try:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # removed since; choose again
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            if _is_at(handle, directory):
                yield directory
                return
        finally:
            os.close(handle)


@asynccontextmanager
async def locked(cache: Path, *, wait: float) -> AsyncIterator[None]:
    """Nobody else installs meanwhile; Busy when another one still does after `wait` seconds.

    The kernel ends it, however the process ends.
    """
    _make(cache)
    try:
        handle = os.open(cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unreadable(cache, error) from error
    try:
        until = time.monotonic() + wait
        while not _taken(handle):
            if time.monotonic() >= until:
                raise Busy(f"another install is at work in {cache}; let it end first")
            await asyncio.sleep(_TURN_SECONDS)
        yield
    finally:
        os.close(handle)


def prune(cache: Path, *, keep: int = KEPT) -> None:
    """Remove releases older than the newest few; one that is being copied stays. Needs the lock."""
    for version in installed(cache)[keep:]:
        directory = cache / str(version)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _taken(handle):
                going = cache / "removing"
                emptied(going)
                directory.rename(going)
                emptied(going)
        finally:
            os.close(handle)


def emptied(directory: Path) -> None:
    """Remove a directory and what an interrupted predecessor left in it."""
    if directory.exists():
        shutil.rmtree(directory)


def _make(cache: Path) -> None:
    """For its owner only, below a directory that jobs' users may pass through."""
    try:
        cache.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        cache.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Permanent(
            f"cannot make {cache}: {error.strerror}; choose another --state-dir"
        ) from error


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, directory: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), directory.stat())
    except FileNotFoundError:
        return False


def _unreadable(cache: Path, error: OSError) -> Permanent:
    return Permanent(
        f"cannot use {cache}: {error.strerror}; run `mayfly runner install` as the user the "
        "executor runs as"
    )
