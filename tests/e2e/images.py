"""Images of an executor: built by deploy/image/build, looked at and run, in their own storage."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import msgspec

from tests.e2e.runner_archive import VERSION, Archive
from tests.servers import podman
from tests.servers.absent import absent
from tests.servers.podman import Podman

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy" / "image"
BUILD = IMAGE / "build"
CACHE = Path.home() / ".cache" / "mayfly-tests" / "image"
"""The base of Debian's packages takes half a minute to make and does not change with our code."""
BUILD_SECONDS = 500.0
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
"""What the how-to says an executor needs of root's powers."""
# Where the tests run, nobody may raise a limit.
_LIMITS = ("--ulimit=nofile=20000:20000", "--ulimit=nproc=32768:32768")


class Ended(NamedTuple):
    code: int
    said: str


class Images:
    """A storage of images, and what is asked of it."""

    def __init__(self, server: Podman) -> None:
        self._server = server
        self._environment = {
            **server.environment(),
            "PYTHON": sys.executable,
            # pip's own cache and settings are those of who runs the tests.
            "XDG_CACHE_HOME": str(Path.home() / ".cache"),
            **{name: text for name, text in os.environ.items() if name.startswith("PIP_")},
        }

    def build(self, name: str, runner: Archive) -> None:
        """From Debian's packages."""
        words = [*arguments(runner), "--tag", name, "--rootfs", str(rootfs())]
        self._run(str(BUILD), *words)

    def extend(self, name: str, containerfile: str, context: Path) -> None:
        """As a team does that needs more than is in ours."""
        (context / "Containerfile").write_text(containerfile)
        self._run("buildah", "bud", "--quiet", "--isolation", "chroot", "--tag", name, str(context))

    def inspected(self, name: str) -> dict[str, Any]:
        (found,) = msgspec.json.decode(self._server.told("image", "inspect", name))
        return dict(found)

    @contextmanager
    def mounted(self, name: str) -> Iterator[Path]:
        """Its files, without a container."""
        yield Path(self._server.told("image", "mount", name).strip())
        self._server.told("image", "umount", name)

    @asynccontextmanager
    async def running(self, name: str, *options: str) -> AsyncIterator["Container"]:
        """A container on the machine's own network, with no more powers than it needs."""
        words = [
            *(*self._server.command(), "run", "--rm", "--network=host", *_LIMITS),
            *("--cap-drop=ALL", *(f"--cap-add={each}" for each in CAPABILITIES)),
            *(*options, name),
        ]
        process = await asyncio.create_subprocess_exec(
            *words,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield Container(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
                self._server.told("rm", "--all", "--force", "--time=0")

    def _run(self, *words: str) -> None:
        ran = subprocess.run(
            words,
            env=self._environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


class Container:
    """One that ends by itself."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ended(self, seconds: float) -> Ended:
        async with asyncio.timeout(seconds):
            said, _ = await self._process.communicate()
        return Ended(self._process.returncode or 0, said.decode(errors="replace"))


@contextmanager
def opened_images() -> Iterator[Images]:
    """An empty storage that is gone afterwards."""
    podman.needed()
    if missing := [each for each in ("buildah", "mmdebstrap") if which(each) is None]:
        absent(f"{' and '.join(missing)} not installed; tests/servers/install does it")
    server = Podman()
    try:
        yield Images(server)
    finally:
        server.remove()


def arguments(runner: Archive) -> Sequence[str]:
    """The runner, as the build wants it told."""
    return [
        *("--runner", str(runner.path), "--runner-version", VERSION),
        *("--runner-sha256", runner.sha256),
    ]


def rootfs() -> Path:
    """Where the base of Debian's packages is, or will be made."""
    asked = [str(BUILD), "--print-rootfs-key"]
    key = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=30).stdout
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE / f"rootfs-{key.strip()}.tar"
