"""Real processes of an end-to-end test: started, watched through their logs, ended."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from mayfly.drivers.keeper import descendants, started_at

T = TypeVar("T")
START_SECONDS = 60.0
STOP_SECONDS = 60.0
"""Generous: a busy machine takes its time, and a failure is none the better for being early."""
LOOK_SECONDS = 0.03


async def until(
    look: Callable[[], Awaitable[T | None]] | Callable[[], T | None], what: str, seconds: float = 20
) -> T:
    """The first thing `look` finds that is not None or False; AssertionError says `what` else."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found: Any = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found  # type: ignore[no-any-return]  # either kind of `look` gives a T
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(LOOK_SECONDS)


class Ran(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return msgspec.json.decode(self.out)


async def command(*arguments: str, environment: Mapping[str, str], cwd: Path | None = None) -> Ran:
    """Run `mayfly` to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mayfly", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        cwd=cwd,
    )
    async with asyncio.timeout(STOP_SECONDS):
        out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


class Program:
    """A `mayfly` process that stays, and everything it ever started."""

    def __init__(self, name: str, log: Path, process: Process) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._family: set[tuple[int, int]] = set()
        self._told = False

    @classmethod
    async def started(
        cls, name: str, log: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> "Program":
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mayfly", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.environ["PATH"], **(environment or {})},
            )
        return cls(name, log, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()

    async def logged(self, text: str, *, times: int = 1, seconds: float = START_SECONDS) -> str:
        """The line of the log that holds `text` for the `times`th time."""

        def look() -> str | None:
            found = [line for line in self.lines() if text in line]
            if len(found) < times:
                assert self.running, f"{self.name} ended with {self._process.returncode}"
                return None
            return found[times - 1]

        return await until(look, f"{text!r} in the log of {self.name}", seconds)

    def children(self) -> list[int]:
        """Processes it started that are still below it."""
        found = descendants(self.pid)
        self._family.update(found)
        return sorted(pid for pid, _ in found)

    def survivors(self) -> list[str]:
        """Processes it was seen to have, itself included, that are still there."""
        return [
            f"{pid} {arguments_of(pid)}"
            for pid, started in self._family
            if started_at(pid) == started and not _is_zombie(pid)
        ]

    def send(self, number: int) -> None:
        self.children()
        if (started := started_at(self.pid)) is not None:
            self._family.add((self.pid, started))
        self._told = True
        self._process.send_signal(number)

    async def ended(self, seconds: float | None = STOP_SECONDS) -> int:
        """Its exit code; None waits for ever."""
        async with asyncio.timeout(seconds):
            return await self._process.wait()

    async def killed(self) -> None:
        """Gone at once, without a word."""
        self.send(signal.SIGKILL)
        await self.ended()

    async def stopped(self) -> int:
        """Ended politely, however often it is told; the exit code."""
        if self.running and not self._told:
            self.send(signal.SIGTERM)
        try:
            return await self.ended()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise AssertionError(f"{self.name} did not end by SIGTERM") from None


def arguments_of(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def named_after(directory: Path) -> list[str]:
    """Processes that work in `directory`, or have its name in arguments or environment."""
    wanted, found = os.fsencode(directory), []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        pid = int(entry.name)
        texts = (_read(pid, "cmdline"), _read(pid, "environ"), _link(pid, "cwd"))
        if any(wanted in text for text in texts):
            found.append(f"{pid} {arguments_of(pid)}")
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _link(pid: int, name: str) -> bytes:
    try:
        return os.fsencode(Path(f"/proc/{pid}/{name}").readlink())
    except OSError:
        return b""


def _is_zombie(pid: int) -> bool:
    return _read(pid, "stat").rpartition(b")")[2].split()[:1] in ([], [b"Z"])
