"""A hostile job tries to get out of every driver; what each stops is declared and documented.

The executor is root, as it should be, and all slots share one user, as they do by default.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.driven import DRIVERS, ROOT, executor, installed, machine
from tests.fakes.escapes import ESCAPES, planted, tell
from tests.fakes.runner_programs import Stage, processes_with, stage
from tests.servers import podman

_OF_THE_NETWORK = {
    "use an abstract socket",
    "reach what listens on the machine's loopback",
    "reach the metadata address 169.254.169.254",
}
OPEN: dict[str, set[str]] = {
    # A user of its own and a fresh directory: no isolation.
    "process": {
        "read a file that every user of the machine may read",
        "read another runner's credentials",
        "read another job's environment",
        "read another job's memory",
        "see other processes of the machine",
        "signal another job's process",
        "open a device of the machine",
        "make a user namespace",
        "mount a file system",
        "become root by a set-uid program",
        "leave a temporary file behind",
        "use a socket in the file system",
        "use shared memory of the machine",
        "learn the machine's name",
        "use the kernel's keyrings",
    }
    | _OF_THE_NETWORK,
    'sandbox, network = "host"': _OF_THE_NETWORK,
    "sandbox": set(),
    'container, network = "host"': _OF_THE_NETWORK,
    "container": set(),
}
"""What each driver does not stop."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, because it attacks root's executor"),
]


@pytest.fixture
def place() -> Iterator[Stage]:
    with stage() as made:
        yield made


@pytest.mark.parametrize("driver", OPEN, ids=lambda name: name.replace('"', ""))
def test_a_hostile_job_succeeds_with_what_is_declared_and_with_nothing_else(
    driver: str, place: Stage, record_property: Callable[[str, object], None]
):
    installed(driver)
    with machine(driver, place):
        succeeded = attacked(driver, place)
    record_property("attacked", driver)
    record_property("succeeded", sorted(succeeded))
    assert succeeded == OPEN[driver]


def test_root_succeeds_with_every_attempt(place: Stage):
    """Or a driver would be praised for what is only a broken script."""
    program = place.program("tries")
    guard = place.home / "guard-x" / "job-started.sh"
    guard.parent.mkdir()
    guard.touch()
    first = "import os, sys; from tests.fakes.driven import hold_a_key; hold_a_key(); "
    environment = {"MAYFLY_TOKEN": "RED-HANDED", "PATH": os.environ["PATH"]}
    environment["TMPDIR"] = str(place.home)
    with planted(place) as variables, guard.open() as inherited:
        neighbour = variables["NEIGHBOUR"]
        tell(place, variables | {"EXECUTOR": neighbour, "TRACES": place.traces})
        subprocess.run(
            [sys.executable, "-c", f"{first} os.execv(sys.argv[1], sys.argv[1:])", program],
            check=True,
            cwd=ROOT,
            env=environment,
            pass_fds=[inherited.fileno()],
        )
    root = place.home.parents[1]
    Path(f"{root}-left").unlink()
    for pid in processes_with(str(place.traces)):
        os.kill(pid, signal.SIGKILL)
    assert set(ESCAPES) - set((place.traces / "escaped").read_text().splitlines()) == {
        "leave a process",
        "leave a temporary file behind",
    }, "which are seen from outside"


def test_root_succeeds_with_every_attempt_in_a_container_without_walls(place: Stage):
    """Or the container driver would be praised for what its image lacks."""
    podman.needed()
    program = place.program("tries")
    guard = place.home / "guard-x" / "job-started.sh"
    guard.parent.mkdir()
    guard.touch()
    root = place.home.parents[1]
    with planted(place) as variables:
        neighbour = variables["NEIGHBOUR"]
        tell(place, variables | {"EXECUTOR": neighbour, "TRACES": place.traces})
        podman.shared().told(
            *("run", "--rm", "--privileged", "--user=0:0", "--ulimit=nofile=16384"),
            *("--ulimit=nproc=16384", f"--env=TRACES={place.traces}", f"--env=TMPDIR={place.home}"),
            *(f"--{kind}=host" for kind in ("pid", "network", "ipc", "uts", "cgroupns")),
            *(f"--volume={each}:{each}" for each in ("/tmp", "/etc", "/var", "/sys/fs/cgroup")),
            *(podman.IMAGE, program),
        )
    Path(f"{root}-left").unlink()
    assert set(ESCAPES) - set((place.traces / "escaped").read_text().splitlines()) == {
        "leave a process",
        "leave a temporary file behind",
        "find open descriptors",
        "read the executor's keyring",
    }, "which are seen from outside, or are nothing that Podman would hand on"


def attacked(driver: str, place: Stage) -> set[str]:
    """The attempts that succeeded against a driver."""
    root = place.home.parents[1]
    environment = {"MAYFLY_TOKEN": "RED-HANDED", "PATH": os.environ["PATH"]}
    with planted(place) as variables:
        with executor(driver, place, "tries", environment) as attacker:
            tell(place, variables | {"EXECUTOR": attacker.pid})
            try:
                assert attacker.wait(100) == 0
            finally:
                attacker.kill()
        assert (place.traces / "done").exists(), "the last attempt was made"
        escaped = place.traces / "escaped"
        found = set(escaped.read_text().splitlines()) if escaped.exists() else set()
        if processes_with(str(place.traces)):
            found.add("leave a process")
        if (left := Path(f"{root}-left")).exists():
            found.add("leave a temporary file behind")
            left.unlink()
        if (root / "template" / "bin" / "runner").read_text() != "RED-HANDED":
            found.add("change the runner of the next job")
    return found


def test_every_driver_is_attacked_in_at_least_15_ways():
    here = set(DRIVERS) - {"command"}  # its jobs run on another machine
    assert {name.partition(",")[0] for name in OPEN} == here
    assert len(ESCAPES) >= 15
    assert set().union(*OPEN.values()) <= set(ESCAPES)
