"""The arguments of bubblewrap (bwrap): what is to be seen from inside a sandbox, and what not.

Everything is new or read-only; what is not named here is not there. See bwrap(1).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from mayfly.drivers import syscalls

HOME = Path("/home/runner")
TEMPORARY = Path("/tmp")  # noqa: S108 - in the sandbox, where nobody else is
PASSED = Path("/run/jitconfig")
WRAPPERS = 2
"""bwrap itself, and its process 1 of the sandbox; the runner is the first child of that."""

_FIRST_DESCRIPTOR = 100
_NOBODY = 65534
_SYSTEM = ("/usr",)
_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    *("alternatives", "ca-certificates", "crypto-policies", "debian_version", "fonts"),
    *("gai.conf", "host.conf", "hosts", "java", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"),
    *("localtime", "lsb-release", "mime.types", "nsswitch.conf", "os-release"),
    *("perl", "pki", "profile", "protocols", "python3", "resolv.conf", "services", "ssl"),
    *("timezone",),
)
"""What programs need of /etc, and no other file: settings of the machine may hold secrets."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """One sandbox, as its runner sees it."""

    user: str
    uid: int
    gid: int
    own_network: bool
    disk_bytes: int
    template: Path | None = None
    read_only: tuple[Path, ...] = ()
    read_write: tuple[Path, ...] = ()
    files: dict[str, bytes] = {}
    """Files of HOME, by name; only the runner's user may read them."""
    passed: Path | None = None
    """A directory that is shown at PASSED."""


class Wrapped(NamedTuple):
    """A command line with the descriptors it expects."""

    command: tuple[str, ...]
    descriptors: dict[int, bytes]


def wrapped(program: str, view: View, command: tuple[str, ...]) -> Wrapped:
    """The command inside a sandbox.

    The arguments go by descriptor: paths of the host are no business of a job, which can read the
    command line of its process 1.
    """
    descriptors: dict[int, bytes] = {}

    def descriptor(content: bytes) -> str:
        number = _FIRST_DESCRIPTOR + len(descriptors)
        descriptors[number] = content
        return str(number)

    arguments = [*_NAMESPACES, *_system()]
    if (filtered := syscalls.program()) is not None:
        arguments += ["--seccomp", descriptor(filtered)]
    if view.own_network:
        arguments.append("--unshare-net")
    for name, content in (("passwd", _passwd(view)), ("group", _group(view))):
        arguments += ["--perms", "0644", "--file", descriptor(content), f"/etc/{name}"]
    arguments += _writable(view.disk_bytes)  # first, or it would hide what lies below /tmp
    for path in view.read_only:
        arguments += ["--ro-bind", str(path), str(path)]
    # Every entry of the template by itself, so that its copy costs nothing and HOME is writable.
    for entry in sorted(view.template.iterdir()) if view.template else ():
        arguments += ["--ro-bind", str(entry), str(HOME / entry.name)]
    for name, content in view.files.items():
        arguments += ["--perms", "0600", "--file", descriptor(content), str(HOME / name)]
    if view.passed is not None:
        arguments += ["--ro-bind", str(view.passed), str(PASSED)]
    for path in view.read_write:
        arguments += ["--bind", str(path), str(path)]
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(HOME)]
    told = descriptor("".join(f"{each}\0" for each in arguments).encode())
    return Wrapped((program, "--args", told, "--", *command), descriptors)


_NAMESPACES = (
    *("--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
    *("--unshare-cgroup-try", "--hostname", "mayfly", "--die-with-parent", "--new-session"),
    *("--cap-drop", "ALL"),
)


def _system() -> Iterator[str]:
    yield from ("--dir", "/etc", "--dir", "/run", "--dir", "/var", "--dir", "/opt", "--dir", "/srv")
    yield from ("--symlink", "../tmp", "/var/tmp", "--symlink", "../run", "/var/run")  # noqa: S108 - as TEMPORARY
    for path in _SYSTEM:
        yield from ("--ro-bind", path, path)
    for link in map(Path, _LINKS):
        if link.is_symlink():
            yield from ("--symlink", str(link.readlink()), str(link))
        elif link.is_dir():
            yield from ("--ro-bind", str(link), str(link))
    for name in _ETC:
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
    yield from ("--proc", "/proc", "--dev", "/dev")


def _writable(size: int) -> Iterator[str]:
    for path, mode in ((HOME, "0755"), (TEMPORARY, "1777"), (Path("/dev/shm"), "1777")):  # noqa: S108 - as TEMPORARY
        yield from ("--perms", mode, "--size", str(size), "--tmpfs", str(path))


def _passwd(view: View) -> bytes:
    """Its own users: a program asks for its home and its name, and has no use for ours."""
    lines = ["root:x:0:0:root:/:/bin/false"]
    if view.uid != _NOBODY:
        lines.append(f"nobody:x:{_NOBODY}:{_NOBODY}:nobody:/:/bin/false")
    lines.append(f"{view.user}:x:{view.uid}:{view.gid}::{HOME}:/bin/sh")
    return "\n".join([*lines, ""]).encode()


def _group(view: View) -> bytes:
    lines = ["root:x:0:"]
    if view.gid != _NOBODY:
        lines.append(f"nogroup:x:{_NOBODY}:")
    lines.append(f"{view.user}:x:{view.gid}:")
    return "\n".join([*lines, ""]).encode()
