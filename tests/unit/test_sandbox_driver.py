"""The sandbox driver beyond the contract: what it refuses, the JIT config, the limits."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mayfly.drivers import bubblewrap, guard, keeper
from mayfly.drivers.accounts import chosen
from mayfly.drivers.bubblewrap import View
from mayfly.drivers.jitconfig import JitDelivery
from mayfly.drivers.kept import Order, Record
from mayfly.drivers.sandbox import Settings, open_driver
from mayfly.model.errors import InvalidSettings
from mayfly.model.protocol import Outcome
from tests.fakes.driven import executor
from tests.fakes.runner_programs import (
    ALLOWED,
    KEY,
    Admission,
    Stage,
    claim,
    jit_config,
    processes_with,
    stage,
    until,
)
from tests.servers.absent import absent

KEEPER = Path(keeper.__file__).read_bytes()


CALLS = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
numbers = {
    "x86_64": (248, 321, 425, 323, 39),
    "aarch64": (217, 280, 425, 282, 172),
}
names = ("add_key", "bpf", "io_uring_setup", "userfaultfd", "getpid")
for name, number in zip(names, numbers[os.uname().machine]):
    ctypes.set_errno(0)
    libc.syscall(number, None, None, None, None)
    print(name, ctypes.get_errno())
for name in ("UNIX", "INET", "NETLINK", "VSOCK", "PACKET", "ALG"):
    try:
        socket.socket(getattr(socket, f"AF_{name}"), socket.SOCK_RAW if name == "NETLINK" else 1)
    except OSError as error:
        print(f"socket(AF_{name})", error.errno)
    else:
        print(f"socket(AF_{name})", 0)
"""


@pytest.fixture(autouse=True)
def usable(request: pytest.FixtureRequest) -> None:
    if shutil.which("bwrap") is None:
        absent("bubblewrap is not installed; tests/servers/install does it")
    if request.node.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root, to limit by cgroups or to enter a namespace")


@pytest.fixture
def place() -> Iterator[Stage]:
    with stage() as made:
        yield made


def settings(place: Stage, script: str, *arguments: str, **changes: object) -> Settings:
    usual = Settings(
        command=(place.program(script), *arguments),
        environment={"TRACES": str(place.traces), "THEN": "exit 0"},
        grace_seconds=0.5,
        network="none",
        processes=None,
        read_only=(place.programs,),
        read_write=(place.traces,),
    )
    return msgspec.structs.replace(usual, **changes)


async def once(settings: Settings, place: Stage, config: str | None = None):
    async with open_driver(settings, place.home, Admission(ALLOWED)) as driver:
        await driver.prepare(claim())
        return await driver.run("r", config or jit_config())


def shell(place: Stage, text: str, **changes: object) -> Settings:
    return settings(place, "ends", command=("/bin/sh", "-c", text), **changes)


async def test_the_environment_is_the_drivers_own(place: Stage):
    await once(settings(place, "probes"), place)
    seen = dict(each.split("=", 1) for each in place.trace("env").splitlines())
    assert (seen["HOME"], place.trace("pwd"), seen["TMPDIR"]) == (*["/home/runner"] * 2, "/tmp")
    assert set(seen) - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        *("HOME", "LANG", "PATH", "TMPDIR", "USER", "TRACES", "THEN", guard.VARIABLE),
    }
    status = place.trace("status")
    assert "NoNewPrivs:\t1" in status
    assert all(f"Cap{each}:\t{0:016}" in status for each in ("Inh", "Prm", "Eff", "Bnd", "Amb"))


async def test_nothing_of_the_host_is_on_the_command_line_of_process_1(place: Stage):
    said = "tr '\\0' ' ' </proc/1/cmdline; tr '\\0' '\\n' </proc/1/environ; exit 3"
    finished = await once(shell(place, said), place)
    assert "--args" in finished.detail
    assert str(place.programs) not in finished.detail
    assert "HOME=/home/runner" in finished.detail


async def test_files_are_written_as_the_runner_would_and_are_its_own(place: Stage):
    await once(settings(place, "probes"), place)
    assert KEY in place.trace("files")
    modes = {line.split()[0] for line in place.trace("ls").splitlines() if ".credentials" in line}
    assert modes == {"-rw-------"}


async def test_the_config_can_come_by_environment(place: Stage):
    await once(settings(place, "probes", jit=JitDelivery.ENVIRONMENT), place)
    assert f"ACTIONS_RUNNER_INPUT_JITCONFIG={jit_config()}" in place.trace("env")


async def test_a_config_file_is_read_by_the_runner_and_gone_once_it_was_opened(place: Stage):
    text = (
        "cat $1 >$TRACES/passed; i=0; while [ -e $1 ] && [ $i -lt 200 ]; do\n"
        "sleep 0.02; i=$((i+1)); done; [ -e $1 ] || echo >$TRACES/gone"
    )
    command = ("/bin/sh", "-c", text, "sh", "{jitconfig}")
    await once(settings(place, "ends", command=command, jit=JitDelivery.FILE), place)
    assert place.trace("passed") == jit_config()
    assert (place.traces / "gone").exists()


async def test_a_template_is_seen_in_home_and_cannot_be_written(place: Stage):
    template = place.programs / "template"
    (template / "bin").mkdir(parents=True)
    (template / "bin" / "Runner.Listener").write_text("#!/bin/sh\n. $TRACES/../programs/says\n")
    (template / "bin" / "Runner.Listener").chmod(0o755)
    (template / "run.sh").write_text("exit 0\n")
    text = "echo x >>run.sh || echo x >>bin/y || mv bin b || rm -f run.sh || { touch z && ls; }"
    (place.programs / "says").write_text(f"{{ {text}; }} >$TRACES/said 2>/dev/null; exit 0\n")
    command = ("bin/Runner.Listener", "run")
    finished = await once(settings(place, "ends", template=template, command=command), place)
    assert finished.outcome is Outcome.DONE, finished.detail
    assert place.trace("said").split() == ["bin", "run.sh", "z"]
    assert (template / "run.sh").read_text() == "exit 0\n"


async def test_a_job_can_write_to_its_home_and_temporary_directories_alone(place: Stage):
    text = (
        "for each in / /dev /dev/pts /etc /home /opt /proc /run /srv /usr /usr/local /var\n"
        "do touch $each/x && echo writes $each; done\n"
        "for each in ~ /tmp /dev/shm; do head -c 3M /dev/zero >$each/big || echo full; done\n"
        "exit 3"
    )
    finished = await once(shell(place, text, disk_mb=2), place)
    assert "writes" not in finished.detail
    assert finished.detail.count("full") == 3


async def test_system_calls_that_no_namespace_parts_are_refused(place: Stage):
    program = place.programs / "calls.py"
    program.write_text(CALLS)
    finished = await once(shell(place, f"/usr/bin/python3 {program}; exit 3"), place)
    assert finished.detail.endswith(
        "it said: add_key 1 | bpf 1 | io_uring_setup 1 | userfaultfd 1 | getpid 0 | "
        "socket(AF_UNIX) 0 | socket(AF_INET) 0 | socket(AF_NETLINK) 0 | socket(AF_VSOCK) 97 | "
        "socket(AF_PACKET) 97 | socket(AF_ALG) 97"
    )


async def test_a_sandbox_ends_with_its_keeper(place: Stage):
    async with open_driver(settings(place, "hangs"), place.home, Admission(None)) as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        await place.traced("pid")
        record = msgspec.json.decode((place.home / "keeper.json").read_bytes(), type=Record)
        os.kill(record.pid, signal.SIGKILL)
        await until(lambda: processes_with(str(place.traces)) == [])
        assert (await running).outcome is Outcome.FAILED


@pytest.mark.root
async def test_a_killed_executors_runner_is_given_its_grace(place: Stage):
    with executor("sandbox", place, "slow") as killed:
        await place.traced("pid")
        killed.kill()
    async with open_driver(settings(place, "ends", processes=9), place.home, Admission(None)):
        assert place.trace("bye") == "bye"


async def test_a_polite_runner_is_asked_before_it_is_killed(place: Stage):
    async with open_driver(
        settings(place, "polite", grace_seconds=10.0), place.home, Admission(None)
    ) as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        await place.traced("pid")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert place.trace("bye") == "bye"


@pytest.mark.root
async def test_memory_is_limited_files_included(place: Stage):
    text = "head -c 60M /dev/zero >big || exit 4; exit 3"
    assert (await once(shell(place, text), place)).exit_code == 3
    limited = shell(place, text, memory_mb=32)
    assert (await once(limited, place)).exit_code in {4, 137, -9}
    assert processes_with(str(place.traces)) == []


@pytest.mark.root
async def test_processor_time_is_limited(place: Stage):
    text = "timeout 1 sh -c 'while :; do :; done'; times >$TRACES/times; exit 0"
    await once(shell(place, text, cpus=0.2), place)
    minutes, seconds = place.trace("times").splitlines()[1].split()[0].rstrip("s").split("m")
    assert int(minutes) * 60 + float(seconds) < 0.5


@pytest.mark.root
async def test_a_network_namespace_can_be_named(place: Stage):
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as other:  # noqa: ASYNC220 - ended below
        theirs = f"/proc/{other.pid}/ns/net"
        own = os.readlink("/proc/self/ns/net")  # noqa: PTH115 - Path's blocks no less
        await until(lambda: os.readlink(theirs) != own)  # noqa: PTH115 - as above
        network = os.readlink(theirs)  # noqa: PTH115 - as above
        text = "readlink /proc/self/ns/net >$TRACES/network"
        await once(shell(place, text, network=theirs), place)
        other.kill()
    assert place.trace("network") == network


@pytest.mark.root
async def test_it_works_without_root(place: Stage):
    account = chosen("nobody", "0")
    nobody = pwd.getpwnam("nobody").pw_uid
    view = View(
        user=account.name, uid=account.uid, gid=account.gid, own_network=True, disk_bytes=1 << 20
    )
    wrapped = bubblewrap.wrapped("bwrap", view, ("/bin/sh", "-c", "id -u; ls /home; uname -n"))
    order = Order(
        command=wrapped.command,
        environment={"PATH": "/usr/bin:/bin"},
        directory="/",
        user=None,
        input=None,
        no_new_privileges=True,
        grace_seconds=0.5,
        wrappers=bubblewrap.WRAPPERS,
        descriptors=wrapped.descriptors,
    )
    own = place.programs / "keeper.py"
    own.write_bytes(KEEPER)
    process = await asyncio.create_subprocess_exec(
        *("/usr/bin/python3", "-I", "-S", own),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        user=nobody,
        group=nobody,
        extra_groups=[],
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(order) + b"\n")
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while b"exit_code" not in (report := await process.stdout.readline()):
            assert report
        _, output = await process.communicate()
    assert output.decode().split() == [str(nobody), "runner", "mayfly"]
    assert msgspec.json.decode(report) == {"exit_code": 0, "left": 0}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bwrap": "bubblewrapped"}, "there is no 'bubblewrapped' on this machine"),
        ({"network": "sometimes"}, "file of a namespace"),
        ({"read_only": (Path("/no/such"),)}, "/no/such is to be seen"),
        ({"read_write": (Path("relative"),)}, "relative is to be seen"),
        ({"disk_mb": 0}, "disk_mb is 0"),
        ({"cpus": -1.0}, "cpus is -1.0"),
        ({"command": ()}, "command is empty"),
    ],
)
async def test_unusable_settings_are_refused_at_once(place: Stage, changes, sentence):
    with pytest.raises(InvalidSettings, match=sentence):
        await once(settings(place, "ends", **changes), place)


NEW = "[ $1 = --version ] && echo bubblewrap 0.9.0"


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("echo bubblewrap 0.6.1", "needs bubblewrap 0.8 or later"),
        (
            f"{NEW} && exit; echo 'bwrap: No permissions to create new namespace' >&2; exit 1",
            "cannot make a sandbox here: bwrap: No permissions .* allow user namespaces",
        ),
        (f"{NEW} && exit; exit 1", "it said nothing"),
    ],
    ids=["too old", "forbidden", "silent"],
)
async def test_a_bubblewrap_that_makes_no_sandbox_is_one_sentence(
    place: Stage, program: str, sentence: str
):
    other = place.programs / "other"
    other.write_text(f"#!/bin/sh\n{program}\n")
    other.chmod(0o755)
    with pytest.raises(InvalidSettings, match=sentence):
        await once(settings(place, "ends", bwrap=str(other)), place)


async def test_a_configured_template_is_named(place: Stage):
    (place.programs / ".credentials").touch()
    with pytest.raises(InvalidSettings, match=r"has \.credentials"):
        await once(settings(place, "ends", template=place.programs), place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may limit")
async def test_limits_that_cannot_be_set_are_refused_or_warned_of(
    place: Stage, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(InvalidSettings, match="jobs cannot be limited"):
        await once(settings(place, "ends", processes=10), place)
    await once(settings(place, "ends", processes=10, limits_required=False), place)
    assert "sandbox.unlimited" in caplog.text
