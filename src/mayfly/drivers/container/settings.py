"""What the container driver is told, and whether it can be done."""

import os
import re
from pathlib import Path

import msgspec

from mayfly.drivers.accounts import Account
from mayfly.drivers.container import images
from mayfly.drivers.jitconfig import PLACEHOLDER
from mayfly.model.errors import InvalidSettings

SOCKETS = (Path("/run/podman/podman.sock"), Path("/run/docker.sock"))
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_ULIMITS = {"nofile": 16384, "nproc": 16384, "core": 0}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this machine runs a runner in a container."""

    image: str
    """Pinned: REGISTRY/REPOSITORY and a digest or a tag."""
    command: tuple[str, ...] = (
        "/bin/sh",
        "-c",
        'ACTIONS_RUNNER_INPUT_JITCONFIG=$(cat "$0") exec bin/Runner.Listener run',
        PLACEHOLDER,
    )
    """The runner's program and arguments. `{jitconfig}` is a file that only the runner's user can
    read, and that is gone when it was opened."""
    directory: str = "/home/runner"
    """Where the runner is in the image: its working directory and HOME."""
    user: str = "1001:1001"
    """UID:GID of the runner in the container; GitHub's image calls 1001 `runner`."""
    user_namespace: str | None = None
    """What the engine shall map users by, as in `keep-id:uid=1001,gid=1001` for a rootless
    Podman; unset: the engine's own way."""
    engine: Path | None = None
    """The engine's socket; unset: Podman's or Docker's usual one, the first there is."""
    pull: bool = True
    """Whether an image that is not there is fetched, at the start and before a job."""
    pull_seconds: float = 600.0
    """How long that may take; within `[executor] prepare_timeout_seconds` before a job."""
    registry_credentials_file: Path | None = None
    """A file with USER:PASSWORD for the image's registry."""
    allow_unpinned: bool = False
    """Whether an image without a version, or `latest`, is accepted."""
    network: str = "bridge"
    """`bridge`: the engine's own, with a way out; `none`; `host`: the machine's; a network of the
    engine by name; with Podman also the file of a network namespace."""
    memory_mb: int | None = None
    """The most memory of a job, swap included; unset: what the machine has."""
    processes: int | None = 4096
    """The most processes and threads of a job, so that a fork bomb ends with it."""
    cpus: float | None = None
    """The most processors' time, as in 1.5; unset: what the machine has."""
    ulimits: dict[str, int] = msgspec.field(default_factory=_ULIMITS.copy)
    """See setrlimit(2). Explicit, because an engine in a container may not set its own defaults."""
    read_only_root: bool = False
    """Whether the image's files cannot be changed by a job; then it needs `in_memory`."""
    in_memory: tuple[str, ...] = ()
    """Directories that are empty and in memory, each of at most `disk_mb`."""
    disk_mb: int = 4096
    """The largest size of each directory in memory, and of /dev/shm."""
    read_only: tuple[Path, ...] = ()
    """Directories and files of the machine that jobs see."""
    read_write: tuple[Path, ...] = ()
    """Those that jobs may also write, such as a cache; what one leaves there, the next finds."""
    capabilities: tuple[str, ...] = ()
    """What a job's root may do beside nothing, as in `CHOWN`; see capabilities(7)."""
    seccomp_file: Path | None = None
    """A seccomp profile to use instead of ours."""
    init: bool = False
    """Whether the engine's own small process 1 buries what a job leaves dead."""
    environment: dict[str, str] = {}
    """Variables beside HOME, TMPDIR and the image's own; every job can read them."""
    grace_seconds: float = 10.0
    """Between asking a runner to stop and killing it: enough to tell GitHub of a cancelled job."""
    guard_seconds: float = 120.0
    """How long a job waits for the control plane's leave to begin; then it is refused."""
    refused_seconds: float = 60.0
    """How long a runner may take to report a refused job before it is stopped."""

    @property
    def account(self) -> Account:
        """Whom the JIT config is for; with a user namespace of its own, that is ourselves."""
        uid, _, gid = self.user.partition(":")
        other = os.geteuid() == 0 and self.user_namespace is None
        return Account(self.user, int(uid), int(gid), (), other=other)


def check(settings: Settings) -> None:
    """InvalidSettings when they could never run anything, or would give the machine away."""
    images.check(settings.image, unpinned=settings.allow_unpinned)
    if not settings.command or not any(PLACEHOLDER in part for part in settings.command):
        raise InvalidSettings(
            f"the command has no {PLACEHOLDER}; without it the runner would not find its JIT config"
        )
    _check_user(settings)
    for name in ("processes", "memory_mb", "cpus", "disk_mb", "grace_seconds", "pull_seconds"):
        value = getattr(settings, name)
        if value is not None and value <= 0:
            raise InvalidSettings(f"{name} is {value}; it must be positive")
    for inside in (settings.directory, *settings.in_memory):
        if not inside.startswith("/") or ":" in inside:
            raise InvalidSettings(f"{inside!r} is no whole path in the container")
    if not settings.network.startswith("/") and not _NETWORK.fullmatch(settings.network):
        raise InvalidSettings(
            f'network = "{settings.network}"; set "bridge", "none", "host", a network of the '
            'engine by name, or the file of a namespace, as in "/run/netns/jobs"'
        )
    _check_paths(settings)


def socket_of(settings: Settings) -> Path:
    """The engine's socket; InvalidSettings when there is none."""
    if settings.engine is not None:
        return settings.engine
    found = next((each for each in SOCKETS if each.is_socket()), None)
    if found is None:
        raise InvalidSettings(
            f"the container driver found no engine at {' or '.join(map(str, SOCKETS))}; start one "
            "(systemctl enable --now podman.socket), or name its socket in [runner] engine"
        )
    return found


def _check_user(settings: Settings) -> None:
    if not re.fullmatch(r"[0-9]{1,10}:[0-9]{1,10}", settings.user):
        raise InvalidSettings(f"user {settings.user!r} is not UID:GID in numbers, as in 1001:1001")
    if settings.user.startswith("0:") and settings.user_namespace is None:
        raise InvalidSettings(
            "user 0 is root, the machine's own unless user_namespace is set; name another user"
        )


def _check_paths(settings: Settings) -> None:
    for path in (*settings.read_only, *settings.read_write):
        if not path.is_absolute() or not path.exists() or ":" in str(path):
            raise InvalidSettings(f"{path} is to be seen by jobs, but is not on the machine")
        if any(each.is_relative_to(path.resolve()) for each in _giveaways(settings)):
            raise InvalidSettings(
                f"{path} holds the engine's socket, with which a job could do as root of the "
                "machine whatever it likes; show jobs another directory"
            )
    for file in (settings.seccomp_file, settings.registry_credentials_file):
        if file is not None and not file.is_file():
            raise InvalidSettings(f"there is no file {file}")


def _giveaways(settings: Settings) -> list[Path]:
    return [each.resolve() for each in (*SOCKETS, *filter(None, [settings.engine]))]
