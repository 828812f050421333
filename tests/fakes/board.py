"""A board to boot: a program that stands for the hardware, with what a farm's own programs do.

`board.py hardware DIRECTORY` is the board and its power supply; `boot`, `off` and `ssh` are
the programs of its operator. Booted, it is a set of namespaces with file systems in memory, and
what runs on it goes on when the program that asked for it has ended, as with ssh.
"""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

PROGRAM = (os.path.realpath(sys.executable), "-I", "-S", str(Path(__file__).resolve()))
_HOME = "/mnt"
_DISK = str(8 * 1024 * 1024)


def words(verb: str, directory: Path) -> tuple[str, ...]:
    """The command line of one of the operator's programs."""
    return (*PROGRAM, verb, str(directory))


@contextlib.contextmanager
def plugged_in(directory: Path, *shown: Path) -> Iterator[Path]:
    """A board that is off. Of the machine it shows its programs, and `shown`, which it may write.

    In the directory: `power`, what its power supply did; `slow`, a FIFO, where somebody made it,
    that each boot waits for; `broken`, where somebody made it: it does not boot; `online`, where
    somebody made it: it has the machine's network.
    """
    directory.mkdir()
    # Not an argument: tests look for processes that know these directories.
    (directory / "shown").write_text(json.dumps([str(each) for each in shown]))
    board = subprocess.Popen(words("hardware", directory), stdout=subprocess.PIPE)
    try:
        assert board.stdout is not None
        assert board.stdout.readline() == b"plugged in\n"
        yield directory
    finally:
        board.terminate()
        board.communicate(timeout=10)


class Hardware:
    """One board."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shown: list[str] = json.loads((directory / "shown").read_text())
        self.on: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()
        self.waiting: queue.Queue[socket.socket] = queue.Queue()

    def serve(self) -> None:
        """Boots from here alone: bubblewrap ends with the thread that started it."""
        with socket.socket(socket.AF_UNIX) as plug:
            plug.bind(str(self.directory / "plug"))
            plug.listen()
            threading.Thread(target=self.accept, args=(plug,), daemon=True).start()
            print("plugged in", flush=True)
            while True:
                with self.waiting.get() as asker:
                    asker.sendall(self.boot().encode())

    def accept(self, plug: socket.socket) -> None:
        while True:
            asker, _ = plug.accept()
            threading.Thread(target=self.answer, args=(asker,), daemon=True).start()

    def answer(self, asker: socket.socket) -> None:
        order = json.loads(asker.recv(65536))
        self.power_off()
        if order["verb"] == "off":
            asker.sendall(b"done")
            asker.close()
            return
        self.wrote({"on": order["variant"]})
        if (slow := self.directory / "slow").exists():
            slow.read_text()
        self.waiting.put(asker)

    def boot(self) -> str:
        if (self.directory / "broken").exists():
            return "kernel panic: no root file system"
        places = [part for path in self.shown for part in ("--bind", path, path)]
        network = self.directory / "network"
        network.mkdir(exist_ok=True)
        with self.lock:
            self.on = subprocess.Popen(
                [
                    *("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/"),
                    *(["--share-net"] if (self.directory / "online").exists() else []),
                    *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
                    *("--size", _DISK, "--tmpfs", _HOME, "--tmpfs", "/dev/shm"),
                    *(*places, "--bind", str(network), str(network)),
                    *("--ro-bind", __file__, __file__, "--chdir", _HOME),  # it may lie in /tmp
                    *("--", *PROGRAM, "inside", str(network)),
                ],
                stdout=subprocess.PIPE,
            )
        assert self.on.stdout is not None
        return "done" if self.on.stdout.readline() else "it hangs at its boot loader"

    def power_off(self) -> None:
        with self.lock:
            if self.on is not None:
                self.on.kill()  # the first process of its namespace goes, and with it all others
                self.on.communicate()
                self.wrote({"off": True})
            self.on = None

    def wrote(self, what: dict[str, object]) -> None:
        with (self.directory / "power").open("a") as file:
            file.write(json.dumps(what) + "\n")


def inside(network: str) -> None:
    """The board's own ssh server; who hangs up ends nothing."""
    path = f"{network}/ssh"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - as the others
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        print("booted", flush=True)
        while True:
            caller, _ = door.accept()
            threading.Thread(target=session, args=(caller,), daemon=True).start()


def session(caller: socket.socket) -> None:
    with caller:
        order, streams, _, _ = socket.recv_fds(caller, 65536, 3)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": _HOME, "TMPDIR": "/tmp"}
        program = subprocess.Popen(
            json.loads(order),
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            env=environment,
            cwd=_HOME,
            start_new_session=True,
        )
        for stream in streams:
            os.close(stream)
        with contextlib.suppress(OSError):
            caller.sendall(str(program.wait() % 256).encode())


def ask(plug: str, order: dict[str, str]) -> int:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(plug)
        line.sendall(json.dumps(order).encode())
        answer = line.recv(1000).decode()
    if answer != "done":
        print(answer, file=sys.stderr)
    return 0 if answer == "done" else 1


def ssh(path: str, command: list[str]) -> int:
    """Its own pipes and not our streams, or what is left on the board would keep those open."""
    (their_in, to), (out, their_out), (error, their_error) = os.pipe(), os.pipe(), os.pipe()
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(path)
            theirs = [their_in, their_out, their_error]
            socket.send_fds(line, [json.dumps(command).encode()], theirs)
            for fd in theirs:
                os.close(fd)
            threading.Thread(target=pump, args=(0, to), daemon=True).start()
            said = [threading.Thread(target=pump, args=each) for each in ((out, 1), (error, 2))]
            for each in said:
                each.daemon = True
                each.start()
            answer = line.recv(1000)
            for each in said:
                each.join(0.2)  # the real one waits for ever, see docs/how-to/run-a-board-farm.md
        except OSError:
            answer = b""
    if not answer:
        print("ssh: the board closed the connection", file=sys.stderr)
        return 255
    return int(answer)


def pump(source: int, sink: int) -> None:
    with contextlib.suppress(OSError):
        while block := os.read(source, 65536):
            os.write(sink, block)
    if sink > 2:
        os.close(sink)  # the end of their standard input


def main(verb: str, directory: str, rest: list[str]) -> int:
    match verb:
        case "hardware":
            hardware = Hardware(Path(directory))
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            try:
                hardware.serve()
            finally:
                hardware.power_off()
        case "inside":
            inside(directory)
        case "ssh":
            return ssh(f"{directory}/network/ssh", rest)
        case "boot":
            return ask(f"{directory}/plug", {"verb": "boot", "variant": rest[0]})
        case "off":
            return ask(f"{directory}/plug", {"verb": "off"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
