"""What a hostile job tries: each attempt is a shell script that ends with 0 when it succeeded.

What is planted on the machine for it to find is in `planted`, and holds the word of `_PRIZE`, which
no attempt spells out: it would find itself.
"""

import os
import shlex
import shutil
import socket
import stat
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mayfly.drivers.accounts import Account, chosen
from tests.fakes.runner_programs import Stage

_PRIZE = "RED-HANDED"

_MEMORY = """exec /usr/bin/python3 - <<'END'
import os, sys
prize, pid = b"RED%cHANDED" % 45, os.environ["PID"]
with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
    for line in maps:
        span, rights, *_ = line.split()
        low, high = (int(each, 16) for each in span.split("-"))
        if rights[0] == "r" and "[v" not in line:
            memory.seek(low)
            if prize in memory.read(high - low):
                sys.exit(0)
sys.exit(1)
END
"""


_KEYRING = """exec /usr/bin/python3 - <<'END'
import ctypes, os, sys
call = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
libc, found = ctypes.CDLL(None), ctypes.create_string_buffer(64)
key = libc.syscall(call, 10, -3, b"user", b"mayfly-test", 0)
sys.exit(0 if key > 0 and libc.syscall(call, 11, key, found, 64) > 0 else 1)
END
"""


def _connects(family: str, address: str, kind: str = "SOCK_STREAM") -> str:
    return (
        f"/usr/bin/python3 -c 'import os, socket as s; "
        f"s.socket(s.{family}, s.{kind}).connect({address})'"
    )


ESCAPES = {
    "read the executor's environment": "grep -aqs RED.HANDED /proc/$EXECUTOR/environ",
    "read the control plane's environment": "grep -aqs RED.HANDED /proc/$PLANE/environ",
    "read the executor's memory": f"export PID=$EXECUTOR\n{_MEMORY}",
    "read the control plane's memory": f"export PID=$PLANE\n{_MEMORY}",
    "read another job's memory": f"export PID=$NEIGHBOUR\n{_MEMORY}",
    "read the executor's token file": "grep -q RED.HANDED $ROOT/token",
    "read a file that every user of the machine may read": "grep -q RED.HANDED $ROOT/readable",
    "read another runner's credentials": "grep -q RED.HANDED $ROOT/slots/1/work-1/.credentials",
    "read another job's environment": "grep -aqs RED.HANDED /proc/$NEIGHBOUR/environ",
    "see other processes of the machine": "grep -aqs 42424[2] /proc/[0-9]*/cmdline",
    "signal another job's process": "kill -CONT $NEIGHBOUR",
    "signal the executor": "kill -CONT $EXECUTOR",
    "open a device of the machine": "test $(head -c 4 $ROOT/device | wc -c) = 4",
    "make a device": "mknod $TMPDIR/device c 1 5",
    "make a user namespace": "unshare --user --map-root-user true",
    "mount a file system": "unshare --user --map-root-user --mount mount -t tmpfs tmpfs /mnt",
    "become root by a set-uid program": 'test "$(./setuid -u)" = 0',
    "write to cgroups": "for each in /sys/fs/cgroup /sys/fs/cgroup/*; do\n"
    "mkdir $each/escaped && rmdir $each/escaped && exit 0; done; exit 1",
    "change the kernel's settings": "cd /proc/sys/kernel\n"
    'read -r old <core_pattern && echo "$old" >core_pattern',
    "go through another process's root": "for each in /proc/[0-9]*/root; do\n"
    "grep -qs RED.HANDED $each$ROOT/token && exit 0; done; exit 1",
    "find open descriptors": "exec /usr/bin/python3 - <<'END'\n"
    "import os, stat, sys\n"
    "for number in range(3, 1000):\n    try:\n        os.fstat(number)\n"
    "    except OSError:\n        continue\n    sys.exit(0)\nsys.exit(1)\nEND\n",
    "read the executor's keyring": _KEYRING,
    "use the kernel's keyrings": "exec /usr/bin/python3 -c '\n"
    "import ctypes, os, sys\n"
    'call = {"x86_64": 250, "aarch64": 219}[os.uname().machine]\n'
    "sys.exit(ctypes.CDLL(None).syscall(call, 0, -3, 1) <= 0)'",
    "change the job-start guard": "for each in $ROOT/slots/0/guard-*/job-started.sh; do\n"
    'echo >>"$each" && exit 0; done; exit 1',
    "change the runner of the next job": "echo x >>$ROOT/template/bin/runner",
    "leave a job for cron or a login": "for each in /etc/cron.d /var/spool/cron/crontabs /etc; do\n"
    "touch $each/escaped && rm $each/escaped && exit 0; done; exit 1",
    "leave a process": "setsid setsid sh -c 'trap \"\" TERM HUP; sleep 300' &\nexit 1",
    "leave a temporary file behind": "touch $ROOT-left; exit 1",
    "use a socket in the file system": _connects("AF_UNIX", 'os.environ["ROOT"] + "/socket"'),
    "use an abstract socket": _connects("AF_UNIX", '"\\0" + os.environ["ROOT"]'),
    "use shared memory of the machine": 'ipcs -m | grep -q " $SHARED "',
    "learn the machine's name": 'test "$(uname -n)" = "$MACHINE"',
    "reach what listens on the machine's loopback": _connects(
        "AF_INET", '("127.0.0.1", int(os.environ["PORT"]))'
    ),
    # A datagram socket that is connected has sent nothing, but there is a way.
    "reach the metadata address 169.254.169.254": _connects(
        "AF_INET", '("169.254.169.254", 80)', "SOCK_DGRAM"
    ),
}

_TITLES = {each: f'{each}, network = "none"' for each in ("sandbox", "container")}


def table(succeeded: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Lines of Markdown: what every driver makes of each attempt."""
    yield " | ".join(["| a job tries to", *(_TITLES.get(each, each) for each in succeeded)]) + " |"
    yield "|---" * (len(succeeded) + 1) + "|"
    for attempt in ESCAPES:
        words = ("**succeeds**" if attempt in found else "stopped" for found in succeeded.values())
        yield f"| {attempt} | " + " | ".join(words) + " |"


@contextmanager
def planted(place: Stage) -> Iterator[dict[str, object]]:
    """The attempts as files, and what there is to be found; variables for the attempts."""
    account, root = chosen(None, place.home.name), place.home.parents[1]
    for name, attempt in ESCAPES.items():
        path = place.programs / "attempts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(attempt)
    with ExitStack() as stack:
        _files(root, place, account)
        port = _listeners(root, stack)
        yield {
            "ROOT": root,
            "PLANE": _process(stack, None),
            "NEIGHBOUR": _process(stack, account),
            "SHARED": _shared_memory(stack),
            "MACHINE": socket.gethostname(),
            "PORT": port,
        }


def tell(place: Stage, variables: dict[str, object]) -> None:
    """Leave the variables where the attempts read them; written at once."""
    lines = (f"export {name}={shlex.quote(str(value))}\n" for name, value in variables.items())
    (place.programs / "plants.new").write_text("".join(lines))
    (place.programs / "plants.new").rename(place.programs / "plants")


def _files(root: Path, place: Stage, account: Account) -> None:
    theirs = root / "slots" / "1" / "work-1"
    template = root / "template" / "bin"
    for directory in (theirs, template):
        directory.mkdir(parents=True)
    for path, mode in (
        (root / "token", 0o600),
        (root / "readable", 0o644),
        (theirs / ".credentials", 0o600),
        (template / "runner", 0o755),
    ):
        path.write_text(_PRIZE)
        path.chmod(mode)
    os.chown(theirs / ".credentials", account.uid, account.gid)
    os.mknod(root / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    (root / "device").chmod(0o666)
    shutil.copy("/usr/bin/id", place.programs / "setuid")
    (place.programs / "setuid").chmod(0o4755)


def _listeners(root: Path, stack: ExitStack) -> int:
    """Sockets that answer by their backlog; the port of the one on the loopback."""
    for address in (str(root / "socket"), f"\0{root}"):
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(address)
        listener.listen()
    (root / "socket").chmod(0o666)
    loopback = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return int(loopback.getsockname()[1])


def _process(stack: ExitStack, account: Account | None) -> int:
    """A process that holds the prize; of root, or of the jobs' user."""
    process = stack.enter_context(
        subprocess.Popen(
            ["/bin/sleep", "424242"],
            env={"HELD": _PRIZE},
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    )
    stack.callback(process.kill)
    return process.pid


def _shared_memory(stack: ExitStack) -> str:
    made = subprocess.run(["ipcmk", "-M", "64"], check=True, capture_output=True, text=True)
    number = made.stdout.split()[-1]
    stack.callback(subprocess.run, ["ipcrm", "-m", number], check=True)
    return number
