"""A Podman service of the tests' own: private storage, private socket, gone afterwards."""

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.servers import images
from tests.servers.absent import absent

DEADLINE = 60.0
"""Seconds for the service to begin on a busy machine; alone it takes less than one."""
IMAGE = "localhost/mayfly-test:1"

# The service and whoever watches over it are one process group, which goes with the tests' process;
# what runs in containers is not in the group, and goes first.
_GUARD = """
exec 3<&0
( cat <&3 >/dev/null
  "$@" rm --all --force --time 0 >/dev/null 2>&1
  for each in $(grep -o "$FOLDER/[^ ]*" /proc/mounts | sort -r); do umount -l "$each"; done
  rm -rf "$FOLDER"; kill -KILL 0 ) &
"$@" system service --time 0 "unix://$FOLDER/socket" </dev/null 3<&- &
wait $!
"""


class Podman:
    """Starts, is killed and started again; containers outlive it, as they do everywhere."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mayfly-podman-"))
        self.socket = self.folder / "socket"
        self.temporary = self.folder / "tmp"
        """Where it keeps what it pulls before it is stored."""
        self._process: subprocess.Popen[bytes] | None = None
        self.temporary.mkdir()
        for name, text in _CONFIGURATION.items():
            (self.folder / name).write_text(text.format(folder=self.folder))

    def start(self) -> None:
        """Until it answers."""
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                ["sh", "-c", _GUARD, "guard", *self.command()],
                cwd=self.folder,  # conmon leaves a file `oom` where it was begun
                env=self.environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        end = time.monotonic() + DEADLINE
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "output").read_text()
            assert time.monotonic() < end, "Podman does not begin"
            time.sleep(0.02)

    def load(self) -> None:
        """The image of the tests, made of this machine's own programs."""
        archive = self.folder / "image.tar"
        images.write(archive)
        self.told("import", str(archive), IMAGE)
        archive.unlink()

    def told(self, *arguments: str) -> str:
        """What the command line says."""
        done = subprocess.run(
            [*self.command(), *arguments],
            cwd=self.folder,
            env=self.environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        return done.stdout

    @contextmanager
    def little_room(self) -> Iterator[None]:
        """As long as this lasts there is next to no room for what it pulls."""
        options = ["-t", "tmpfs", "-o", "size=1m"]
        subprocess.run(["mount", *options, "tmpfs", self.temporary], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", self.temporary], check=True)

    def remove(self) -> None:
        """Nothing is left."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(DEADLINE)
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self) -> list[str]:
        """Podman, at the beginning of a command line."""
        return ["podman", f"--tmpdir={self.folder}/state"]

    def environment(self) -> dict[str, str]:
        """With it, other programs find the same storage."""
        folder = str(self.folder)
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": folder,
            "FOLDER": folder,
            "TMPDIR": str(self.temporary),
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{folder}/registries.conf",
        }

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self.socket))
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return connection.recv(12).endswith(b"200")
        except OSError:
            return False


# Without systemd, and with the runtime that takes cgroups of both versions mixed.
_CONFIGURATION = {
    "containers.conf": """
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
lock_type = "file"
[network]
network_config_dir = "{folder}/networks"
""",
    "storage.conf": """
[storage]
driver = "overlay"
graphroot = "{folder}/stored"
runroot = "{folder}/run"
""",
    "registries.conf": '[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n',
}


def needed() -> None:
    """Ends the test where there is no Podman, or not the right to run one."""
    if os.geteuid() != 0:
        absent("needs root, to run a Podman of its own")
    if missing := [each for each in ("podman", "runc") if shutil.which(each) is None]:
        absent(f"{' and '.join(missing)} not installed; tests/servers/install does it")


@cache
def shared() -> Podman:
    """One for all tests of this process, begun with the first that needs it."""
    needed()
    server = Podman()
    atexit.register(server.remove)
    server.start()
    server.load()
    return server
