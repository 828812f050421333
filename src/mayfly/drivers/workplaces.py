"""The fresh directory a runner works in, and its removal with everything a job put there."""

import asyncio
import os
import signal
import tempfile
from pathlib import Path

from mayfly.drivers import keeper
from mayfly.drivers.accounts import Account, check_reachable
from mayfly.model.errors import Permanent

_PREFIX = "work-"
_COPIED = "copy-"


async def fresh(home: Path, account: Account, template: Path | None) -> Path:
    """A new directory that belongs to `account`, with a copy of `template` in it."""
    place = new_copy(home)
    await fill(place, template, account)
    return handed_over(place, account)


def new_copy(home: Path) -> Path:
    """An empty directory that nobody else can reach, for a copy of the runner."""
    return Path(tempfile.mkdtemp(prefix=_COPIED, dir=home))


async def fill(copy: Path, template: Path | None, account: Account) -> None:
    """Put what `template` holds there, and a directory for temporary files, all of `account`.

    Not the directory itself: until it is handed over nobody else can reach what is in it.
    """
    if template is not None:
        await _copy(template, copy)
    inside = _closed(copy)
    if account.other:
        await _done("chown", "-hR", f"{account.uid}:{account.gid}", "--", *inside)


def handed_over(copy: Path, account: Account) -> Path:
    """The copy as the fresh directory of a job, which belongs to `account`."""
    place = copy.rename(copy.with_name(_PREFIX + copy.name.removeprefix(_COPIED)))
    if account.other:
        check_reachable(place, account)
        os.chown(place, account.uid, account.gid)
    return place


def copies(home: Path) -> list[Path]:
    """Copies no job has been given."""
    return sorted(home.glob(f"{_COPIED}*"))


def passage(home: Path) -> Path:
    """A new directory of ours, in which anybody may open what he knows by name and may read."""
    place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
    place.chmod(0o711)
    return place


def left(home: Path) -> list[Path]:
    """Directories of this and of earlier claims."""
    return sorted(home.glob(f"{_PREFIX}*"))


async def remove(place: Path) -> None:
    """Remove a directory that a stranger has filled; Permanent when something resists.

    `rm` and not shutil: a job can nest directories deeper than Python can recurse.
    """
    attempts = [
        [],
        ["chmod", "-R", "u+rwX", "--", str(place)],
        ["chattr", "-R", "-f", "-i", "-a", str(place)],
    ]
    for loosen in attempts:
        if loosen:
            await _said(*loosen)
        code, _ = await _said("rm", "-rf", "--one-file-system", "--", str(place))
        if code == 0:
            return
    raise Permanent(f"cannot remove {place}; see what is left there, and remove it by hand")


def kill_strays(place: Path, account: Account) -> int:
    """Kill processes that work in `place` although their keeper was killed; how many.

    A backstop: a process that hides its directory and its environment is not found.
    """
    strays = [pid for pid in _pids_of(account.uid) if _works_in(pid, place)]
    for pid in strays:
        if started := keeper.started_at(pid):
            keeper.send(pid, started, signal.SIGKILL)
    return len(strays)


def _closed(copy: Path) -> list[str]:
    """What is in it; cp has given it the template's own mode."""
    copy.chmod(0o700)
    (copy / "tmp").mkdir(exist_ok=True)
    return [str(path) for path in copy.iterdir()]


async def _copy(template: Path, place: Path) -> None:
    await _done(
        *("cp", "-R", "--no-dereference", "--reflink=auto", "--preserve=mode,timestamps,links"),
        *("--", f"{template}/.", str(place)),
    )


async def _done(*command: str) -> None:
    code, said = await _said(*command)
    if code != 0:
        raise Permanent(f"{command[0]} failed with exit code {code}: {said}")


async def _said(*command: str) -> tuple[int, str]:
    """Run a tool to its end; it does not outlive us when we are cancelled."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    except FileNotFoundError:
        return 127, f"{command[0]} is not installed"
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, said.decode(errors="replace").strip()[-500:]


def _pids_of(uid: int) -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def _works_in(pid: int, place: Path) -> bool:
    try:
        directory = Path(f"/proc/{pid}/cwd").readlink()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return directory.is_relative_to(place) or os.fsencode(place) in environment
