"""What an engine is told of one container; see https://docs.docker.com/reference/api/engine/."""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

from mayfly.drivers import exitcodes
from mayfly.drivers.container.settings import Settings
from mayfly.drivers.guard import VARIABLE
from mayfly.drivers.jitconfig import PLACEHOLDER

LABEL = "mayfly.slot"
_PASSED = "/run/mayfly"
_IN_MEMORY = "rw,exec,nosuid,nodev,mode=1777"
_MEGABYTE = 1024 * 1024
_NANO = 1_000_000_000


def slot(home: Path) -> str:
    """What the containers of a slot are labelled with."""
    return blake2b(os.fsencode(home.resolve()), digest_size=12).hexdigest()


def body(
    settings: Settings,
    *,
    image: str,
    labels: dict[str, str],
    passing: Path,
    config: str,
    guard: Path | None,
    seccomp: str,
) -> dict[str, Any]:
    """A container that is to be created; `config` is a name in `passing`, `seccomp` as the engine
    wants it."""
    command = [part.replace(PLACEHOLDER, f"{_PASSED}/{config}") for part in settings.command]
    environment = {"HOME": settings.directory, "TMPDIR": "/tmp"}  # noqa: S108 - in the container, where nobody else is
    if exitcodes.is_githubs(settings.command):
        environment |= exitcodes.ENVIRONMENT
    environment |= settings.environment
    if guard is not None:
        environment[VARIABLE] = str(guard)
    return {
        "Image": image,
        "Entrypoint": [],
        "Cmd": command,
        "User": settings.user,
        "WorkingDir": settings.directory,
        "Hostname": "mayfly",
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": labels,
        "HostConfig": {
            **_limits(settings),
            **_walls(settings, seccomp),
            "Binds": _binds(settings, passing, guard),
            # What a runner writes is kept for its last lines only.
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            "Init": settings.init,
        },
    }


def _limits(settings: Settings) -> dict[str, Any]:
    # Podman adds these to a read-only root, and as large as the memory.
    usual = ("/run", "/var/tmp") if settings.read_only_root else ()  # noqa: S108 - as above
    in_memory = (*settings.in_memory, *usual)
    limits: dict[str, Any] = {
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value} for name, value in settings.ulimits.items()
        ],
        "ShmSize": settings.disk_mb * _MEGABYTE,
        "Tmpfs": dict.fromkeys(in_memory, f"{_IN_MEMORY},size={settings.disk_mb}m"),
    }
    if settings.memory_mb is not None:
        memory = settings.memory_mb * _MEGABYTE
        limits |= {"Memory": memory, "MemorySwap": memory}
    if settings.processes is not None:
        limits["PidsLimit"] = settings.processes
    if settings.cpus is not None:
        limits["NanoCpus"] = round(settings.cpus * _NANO)
    return limits


def _walls(settings: Settings, seccomp: str) -> dict[str, Any]:
    network = settings.network
    walls: dict[str, Any] = {
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(settings.capabilities),
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp}"],
        "ReadonlyRootfs": settings.read_only_root,
        "NetworkMode": f"ns:{network}" if network.startswith("/") else network,
        "IpcMode": "private",
        "CgroupnsMode": "private",
    }
    if settings.user_namespace is not None:
        walls["UsernsMode"] = settings.user_namespace
    return walls


def _binds(settings: Settings, passing: Path, guard: Path | None) -> list[str]:
    binds = [f"{passing}:{_PASSED}:ro"]
    if guard is not None:
        binds.append(f"{guard.parent}:{guard.parent}:ro")
    binds += [f"{path}:{path}:ro" for path in settings.read_only]
    return binds + [f"{path}:{path}:rw" for path in settings.read_write]
