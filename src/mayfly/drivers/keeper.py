"""The keeper: starts one runner and ends its whole process tree, whatever happens to the executor.

A program of its own (`python -I -S keeper.py`, standard library only), started before it is needed.

* stdin: one JSON line, the order (`kept.Order`); then end of file means "stop", however the
  executor came to its end. Nothing secret is in this program's arguments or environment.
* stdout: one JSON line each: `{"started": PID}` or `{"refused": SENTENCE}`, and at last
  `{"exit_code": N | null, "left": N}` when every process is gone.
* stderr: the output of the runner.
"""

import binascii
import ctypes
import errno
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # a keeper's start is on the way of every job, so it imports little
    from typing import Any, NoReturn

_SET_DUMPABLE = 4
_SET_CHILD_SUBREAPER = 36
_SET_NO_NEW_PRIVS = 38
_JOIN_SESSION_KEYRING = 1
_CLONE_NEWNET = 0x40000000
_KILLING_SECONDS = 30.0  # a process in uninterruptible sleep must not keep us for ever
_TURN_SECONDS = 0.01


def main() -> int:
    """Keep one runner; the exit code is 0 when every process is gone."""
    prctl(_SET_CHILD_SUBREAPER, 1)  # daemons that fork twice become our children, not init's
    prctl(_SET_DUMPABLE, 0)  # a job of the same user cannot read the order out of our memory
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        # A handler, not SIG_IGN: what is ignored stays ignored in the runner.
        signal.signal(number, lambda *_: None)
    line = _line(0)
    if line is None:
        return 0
    order = json.loads(line)
    del line
    tree = Tree()
    try:
        tree.start(order)
    except OSError as error:
        _say({"refused": _sentence(order, error)})
        return 0
    # The rest may hold the JIT config.
    order = {name: order[name] for name in ("grace_seconds", "wrappers")}
    _say({"started": tree.runner})
    if tree.ended_by_itself():
        left = tree.kill()
    else:
        left = tree.stop(float(order["grace_seconds"]), int(order["wrappers"]))
    _say({"exit_code": tree.exit_code, "left": left})
    return 1 if left else 0


class Tree:
    """The runner and every process that descends from it, daemons included."""

    def __init__(self) -> None:
        self.runner = 0
        self.exit_code: int | None = None
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def start(self, order: "dict[str, Any]") -> None:
        """Run the command; OSError when it cannot be run."""
        text = order["input"]
        theirs, ours = (os.open(os.devnull, os.O_RDONLY), -1) if text is None else os.pipe()
        told, tell = os.pipe()  # closed by a successful exec, as every descriptor above 2
        self.runner = os.fork()
        if self.runner == 0:
            _become(order, theirs, tell)
        os.close(theirs)
        os.close(tell)
        failed = os.read(told, 16)
        os.close(told)
        if failed:
            os.waitpid(self.runner, 0)
            raise OSError(int(failed), os.strerror(int(failed)))
        if text is not None:
            _feed(ours, text.encode())
            os.close(ours)

    def ended_by_itself(self) -> bool:
        """Wait; True when the runner has ended, False when we are told to stop."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            self._reap()
            if self.exit_code is not None:
                return True
            if any(fd == 0 for fd, _ in poll.poll()):
                return False
            self._quieten()

    def stop(self, grace: float, wrappers: int) -> int:
        """Ask the runner to end, then the others, for `grace` seconds together; then kill.

        The runner is asked first and alone: it knows how to end its job and to tell GitHub so.
        """
        until = time.monotonic() + grace
        pid, started = wrapped(self.runner, wrappers)
        send(pid, started, signal.SIGTERM)
        while self.exit_code is None and time.monotonic() < until:
            self._turn()
        for pid, started in descendants(os.getpid()):
            send(pid, started, signal.SIGTERM)
        while descendants(os.getpid()) and time.monotonic() < until:
            self._turn()
        return self.kill()

    def kill(self) -> int:
        """Kill until nothing is left; the number of processes that would not go."""
        until = time.monotonic() + _KILLING_SECONDS
        self._reap()
        while left := descendants(os.getpid()):
            if time.monotonic() > until:
                return len(left)
            for pid, started in left:
                send(pid, started, signal.SIGKILL)
            self._turn()
        return 0

    def _turn(self) -> None:
        select.select([self._woken], [], [], _TURN_SECONDS)
        self._quieten()
        self._reap()

    def _quieten(self) -> None:
        try:
            os.read(self._woken, 4096)
        except BlockingIOError:
            return

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.runner and self.exit_code is None:
                self.exit_code = os.waitstatus_to_exitcode(status)


def prctl(option: int, value: int) -> None:
    """Set a property of this process; OSError when the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def started_at(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None when there is none."""
    row = _row(pid)
    return row[1] if row else None


def descendants(root: int) -> list[tuple[int, int]]:
    """(pid, start time) of every process below `root`, zombies included."""
    rows = {pid: row for pid in _pids() if (row := _row(pid))}
    family = {root}
    grown = True
    while grown:
        found = {pid for pid, (parent, _) in rows.items() if parent in family} - family
        family |= found
        grown = bool(found)
    return [(pid, rows[pid][1]) for pid in family - {root}]


def wrapped(pid: int, wrappers: int) -> tuple[int, int]:
    """(pid, start time) of the eldest child, so many generations below; the last one there is."""
    found = (pid, started_at(pid) or 0)
    for _ in range(wrappers):
        rows = [(row[1], child) for child in _pids() if (row := _row(child)) and row[0] == found[0]]
        if not rows:
            break
        started, child = min(rows)
        found = (child, started)
    return found


def send(pid: int, started: int, number: int) -> None:
    """Signal a process, but never another one that has been given its id meanwhile."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if started_at(pid) == started:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        os.close(handle)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - see the imports


def _row(pid: int) -> tuple[int, int] | None:
    """(parent, start time), from proc_pid_stat(5); a name may hold spaces and brackets."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - see the imports
            text = stat.read()
    except OSError:
        return None
    fields = text[text.rfind(b")") + 2 :].split()
    return int(fields[1]), int(fields[19])


def _become(order: "dict[str, Any]", stdin: int, tell: int) -> "NoReturn":
    """In the child: become the runner, or tell the error's number."""
    try:
        os.setsid()
        _leave_keyring()
        os.umask(0o022)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them
        os.dup2(stdin, 0)
        os.dup2(2, 1)
        for number, content in order["descriptors"].items():
            _give(int(number), binascii.a2b_base64(content))
        if order["network"]:
            _join_network(order["network"])
        for cgroup in order["cgroups"]:
            _write(f"{cgroup}/cgroup.procs", b"0")
        os.chdir(order["directory"])
        if user := order["user"]:
            os.setgroups(user["groups"])
            os.setgid(user["gid"])
            os.setuid(user["uid"])
        if order["no_new_privileges"]:
            prctl(_SET_NO_NEW_PRIVS, 1)
        _execute(order["command"], order["environment"])
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    except ValueError:  # a null character
        os.write(tell, str(errno.EINVAL).encode())
    finally:
        os._exit(127)


def _leave_keyring() -> None:
    """A session keyring of its own, see keyctl(2); a job inherits no key of the executor's."""
    call = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if call is not None:  # a kernel without keyrings refuses, and has nothing to hide
        ctypes.CDLL(None).syscall(call, _JOIN_SESSION_KEYRING, None)


def _give(number: int, content: bytes) -> None:
    """A file of our memory that the runner finds open under this number."""
    made = os.memfd_create("given", os.MFD_CLOEXEC)
    _feed(made, content)
    os.lseek(made, 0, os.SEEK_SET)
    os.dup2(made, number)


def _join_network(path: str) -> None:
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _write(path: str, text: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    os.write(file, text)
    os.close(file)


def _execute(command: "list[str]", environment: "dict[str, str]") -> None:
    """As os.execvpe, which imports modules when called: by now we may not read our own library."""
    found: OSError = FileNotFoundError(errno.ENOENT, "")
    program = command[0]
    places = [""] if "/" in program else [f"{at}/" for at in environment["PATH"].split(":")]
    for place in places:
        try:
            os.execve(f"{place}{program}", command, environment)  # noqa: S606 - an argument list from the settings; a shell is what we avoid
        except FileNotFoundError:
            continue
        except OSError as error:
            found = error
    raise found


def _feed(fd: int, text: bytes) -> None:
    """Write it all; a runner that does not want its stdin is no error of ours."""
    try:
        while text:
            text = text[os.write(fd, text) :]
    except BrokenPipeError:
        return


def _line(fd: int) -> bytes | None:
    """One line, or None when the file ended before it did."""
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(fd, 65536)
        if not more:
            return None
        line += more
    return line


def _say(report: "dict[str, Any]") -> None:
    try:
        os.write(1, json.dumps(report).encode() + b"\n")
    except BrokenPipeError:
        return  # the executor is gone; what is left to do is done all the same


def _sentence(order: "dict[str, Any]", error: OSError) -> str:
    return f"cannot run {order['command'][0]!r} in {order['directory']}: {error.strerror or error}"


if __name__ == "__main__":
    sys.exit(main())
