"""Limits of memory, processes and processor time, by cgroups of version 1, 2 or a mix of both.

See cgroups(7). Version 2 keeps processes in leaves only, so there the executor moves itself into
a leaf of its own cgroup, and needs that to be delegated to it (systemd: `Delegate=yes`).
"""

import asyncio
import os
import re
import signal
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from mayfly.model.errors import MayflyError, Permanent

_OWN_LEAF = "mayfly-executor"
_PERIOD_MICROSECONDS = 100_000
_TURNS = 500
_TURN_SECONDS = 0.01


class Unavailable(MayflyError):
    """This machine cannot set a limit; a sentence."""


class Limits(NamedTuple):
    """What one job may use; None: as much as there is."""

    memory_bytes: int | None = None
    processes: int | None = None
    cpus: float | None = None


class _Hierarchy(NamedTuple):
    """A mounted hierarchy: where we are in it, and what it controls."""

    version: int
    own: Path
    controllers: frozenset[str]


class Cgroup:
    """One job's cgroup: a directory in each hierarchy that is needed for its limits."""

    def __init__(self, files: dict[Path, dict[str, str]], record: Path) -> None:
        self._files = files
        self._record = record

    @property
    def directories(self) -> tuple[str, ...]:
        """Where a process writes its id to become a member."""
        return tuple(str(directory) for directory in self._files)

    async def make(self) -> None:
        """Empty and limited; Permanent when the kernel refuses."""
        await self.remove()
        try:
            # A successor may be started in another cgroup, and would not look here by itself.
            self._record.write_text("\n".join(self.directories))
            for directory, values in self._files.items():
                directory.mkdir()
                for name, value in values.items():
                    _set(directory, name, value)
        except OSError as error:
            raise Permanent(f"cannot limit a job by {error.filename}: {error.strerror}") from error

    async def remove(self) -> None:
        """Gone, with every process in it; Permanent when one does not die. Idempotent."""
        for directory in {*self._files, *_recorded(self._record)}:
            for _ in range(_TURNS):
                if _gone(directory):
                    break
                await asyncio.sleep(_TURN_SECONDS)
            else:
                raise Permanent(f"a process does not die; see {directory}/cgroup.procs")
        self._record.unlink(missing_ok=True)


def opened(home: Path, limits: Limits, kernel: Path = Path("/proc/self")) -> Cgroup:
    """The cgroup of the jobs of `home`, below ours, not made yet; Unavailable says what lacks."""
    name = f"mayfly-{blake2b(os.fsencode(home.resolve()), digest_size=6).hexdigest()}"
    wanted = _values(limits)
    hierarchies = _hierarchies(kernel)
    files: dict[Path, dict[str, str]] = {}
    for controller, values in wanted.items():
        found = next((each for each in hierarchies if controller in each.controllers), None)
        if found is None:
            raise Unavailable(f"this machine has no cgroup controller {controller!r} for us")
        base = _delegated(found.own, controller) if found.version == 2 else found.own
        files.setdefault(base / name, {}).update(values[found.version])
    for base in {directory.parent for directory in files}:
        if not os.access(base, os.W_OK):
            raise Unavailable(f"we may not make cgroups in {base}; {_DELEGATE}")
    return Cgroup(files, home / "cgroups")


_DELEGATE = "start the executor as root, or in a cgroup of its own (systemd: Delegate=yes)"


def _values(limits: Limits) -> dict[str, dict[int, dict[str, str]]]:
    """Controller to version to file to value."""
    values: dict[str, dict[int, dict[str, str]]] = {}
    if (memory := limits.memory_bytes) is not None:
        values["memory"] = {
            # Swap counts too, in the same order: it cannot be less than memory alone.
            1: {"memory.limit_in_bytes": str(memory), "memory.memsw.limit_in_bytes": str(memory)},
            2: {"memory.max": str(memory), "memory.swap.max": "0"},
        }
    if (processes := limits.processes) is not None:
        pids = {"pids.max": str(processes)}
        values["pids"] = {1: pids, 2: pids}
    if limits.cpus is not None:
        quota = str(round(limits.cpus * _PERIOD_MICROSECONDS))
        values["cpu"] = {
            1: {"cpu.cfs_period_us": str(_PERIOD_MICROSECONDS), "cpu.cfs_quota_us": quota},
            2: {"cpu.max": f"{quota} {_PERIOD_MICROSECONDS}"},
        }
    return values


def _hierarchies(kernel: Path) -> list[_Hierarchy]:
    """Those mounted, from proc_pid_mountinfo(5) and proc_pid_cgroup(5)."""
    paths: dict[frozenset[str], str] = {}
    for line in (kernel / "cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        paths[frozenset(names.split(","))] = path
    found = []
    for line in (kernel / "mountinfo").read_text().splitlines():
        fields, _, (kind, _, options) = (part.split(" ") for part in _parted(line))
        root, mounted = fields[3], Path(_unescaped(fields[4]))
        if kind == "cgroup2":
            own = _own(mounted, root, paths.get(frozenset({""}), "/"))
            controllers = (own / "cgroup.controllers").read_text().split()
            found.append(_Hierarchy(2, own, frozenset(controllers)))
        elif kind == "cgroup":
            ours = next((each for each in paths if each <= set(options.split(","))), None)
            if ours is not None:
                found.append(_Hierarchy(1, _own(mounted, root, paths[ours]), ours))
    return found


def _parted(line: str) -> tuple[str, str, str]:
    before, mark, after = line.partition(" - ")
    return before, mark, after


def _own(mounted: Path, root: str, path: str) -> Path:
    """Our directory; in a container the mount's own, because it shows a part only."""
    below = path.removeprefix(root) if root != "/" else path
    own = mounted / below.lstrip("/")
    return own if own.is_dir() else mounted


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _delegated(own: Path, controller: str) -> Path:
    """A cgroup of version 2 below which `controller` works; it holds no process itself."""
    base = own.parent if own.name == _OWN_LEAF else own
    switches = base / "cgroup.subtree_control"
    try:
        if controller in switches.read_text().split():
            return base
        if own == base and (base / "cgroup.type").exists():  # the root may hold processes
            leaf = base / _OWN_LEAF
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text(str(os.getpid()))
        switches.write_text(f"+{controller}")
    except OSError as error:
        raise Unavailable(
            f"cgroup {base} is not ours alone ({error.strerror}); {_DELEGATE}"
        ) from error
    return base


def _recorded(record: Path) -> list[Path]:
    try:
        return [Path(line) for line in record.read_text().splitlines()]
    except FileNotFoundError:
        return []


def _set(directory: Path, name: str, value: str) -> None:
    """Write a limit; swap is left alone where the kernel does not count it."""
    file = directory / name
    if ("swap" in name or "memsw" in name) and not file.exists():
        return
    with file.open("w") as limit:
        limit.write(value)


def _gone(directory: Path) -> bool:
    """Whether it is; what is in it is killed."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        _kill(directory)
        return False
    return True


def _kill(directory: Path) -> None:
    every = directory / "cgroup.kill"
    try:
        if every.exists():
            every.write_text("1")
            return
        for pid in (directory / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
    except (OSError, ValueError):
        return
