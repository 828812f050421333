"""Slots: which of a host's executors this is, so that no two ever share a machine id."""

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from mayfly.model.errors import InvalidSettings

SYSTEM_STATE_DIR = Path("/var/lib/mayfly")
_MOST = 1000


class Slot(NamedTuple):
    """A place on this host, held by one process until it ends."""

    machine: str
    directory: Path


def default_state_dir(environment: Mapping[str, str]) -> Path:
    """/var/lib/mayfly for root, else mayfly in the user's state directory."""
    if os.geteuid() == 0 and _writable(SYSTEM_STATE_DIR):
        return SYSTEM_STATE_DIR
    home = environment.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "mayfly"


@contextmanager
def taken(state_dir: Path, machine: str | None) -> Iterator[Slot]:
    """The first free slot; the kernel frees it, however this process ends."""
    slots = state_dir / "slots"
    try:
        _make_passable(slots)
        number, lock = _first_free(slots)
    except OSError as error:
        raise InvalidSettings(
            f"cannot keep state in {state_dir}: {error.strerror}; choose another state_dir"
        ) from error
    try:
        directory = slots / str(number)
        _make_passable(directory)
        yield Slot(f"{machine or socket.gethostname()}{_suffix(state_dir)}/{number}", directory)
    finally:
        os.close(lock)


def _make_passable(directory: Path) -> None:
    """Make it and its missing parents, for the users that jobs run as to pass through.

    What is inside has its own modes, and what was there before keeps its mode.
    """
    if directory.is_dir():
        return
    _make_passable(directory.parent)
    try:
        directory.mkdir(mode=0o711)
    except FileExistsError:
        if not directory.is_dir():
            raise
        return  # another executor was faster
    directory.chmod(0o711)  # mkdir subtracts the umask


def _first_free(slots: Path) -> tuple[int, int]:
    for number in range(_MOST):
        lock = os.open(slots / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return number, lock
    raise InvalidSettings(f"{_MOST} executors hold a slot in {slots} already")


def _suffix(state_dir: Path) -> str:
    """Nothing for the usual directory; two directories count their slots apart from each other."""
    if state_dir == SYSTEM_STATE_DIR:
        return ""
    digest = blake2b(os.fsencode(state_dir.resolve()), digest_size=4).hexdigest()
    return f"/{digest}"


def _writable(directory: Path) -> bool:
    try:
        _make_passable(directory)
    except OSError:
        return False
    return os.access(directory, os.W_OK)
