"""The executor's end of the line to a keeper."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import Self

import msgspec

from mayfly.drivers import keeper
from mayfly.model.errors import Permanent

log = logging.getLogger(__name__)

_LINES = 100
_LINE_LENGTH = 500
_MARGIN_SECONDS = 35.0  # beyond the grace: the keeper kills for 30 s before it gives up


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Who the runner runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a keeper is told, as one JSON line on its stdin; may hold the JIT config."""

    command: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    user: User | None
    input: str | None
    no_new_privileges: bool
    grace_seconds: float
    wrappers: int = 0
    """How many generations below the command the runner is that will be asked to end."""
    descriptors: dict[int, bytes] = {}
    """Files the command finds open, by their numbers; 100 and above, so that none is taken."""
    cgroups: tuple[str, ...] = ()
    """Directories of cgroups the command starts in."""
    network: str | None = None
    """The file of a network namespace the command starts in; None: the executor's own."""

    def __repr__(self) -> str:
        return f"Order(command={self.command!r}, …)"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a keeper says, as one JSON line on its stdout."""

    started: int | None = None
    refused: str | None = None
    exit_code: int | None = None
    left: int = 0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Which keeper works in a slot, for the executor that comes after a crash."""

    pid: int
    started: int


class Kept:
    """One keeper process: ordered once, stopped by closing its stdin."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ordered = False
        self._grace = 0.0
        self._output: deque[str] = deque(maxlen=_LINES)
        self._reports = asyncio.create_task(self._read_reports())
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def ready(cls, spare: Self | None) -> Self:
        """`spare` while it waits for its order, or a new one. It takes a while to start."""
        if spare is not None and spare.waiting:
            return spare
        if spare is not None:
            await spare.stop()
        return await cls.spawned()

    @classmethod
    async def spawned(cls) -> Self:
        """A keeper that waits for its order; Permanent when none can be started."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-X", "utf8", keeper.__file__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={},
                cwd="/",
                start_new_session=True,  # Ctrl-C in a terminal is for the executor alone
            )
        except OSError as error:
            raise Permanent(f"cannot start a keeper with {sys.executable}: {error}") from error
        return cls(process)

    @property
    def pid(self) -> int:
        """The keeper's process."""
        return self._process.pid

    @property
    def waiting(self) -> bool:
        """Whether it is alive and has no order."""
        return self._process.returncode is None and not self._ordered

    def record(self, path: Path) -> None:
        """Leave word of this keeper to the executor that comes after a crash."""
        if (started := keeper.started_at(self.pid)) is not None:
            path.write_bytes(msgspec.json.encode(Record(pid=self.pid, started=started)))

    def order(self, order: Order) -> None:
        """Start the runner."""
        self._ordered = True
        self._grace = order.grace_seconds
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(msgspec.json.encode(order) + b"\n")

    async def ended(self) -> Report | None:
        """How the runner ended, when every process of it is gone; None: the keeper vanished."""
        await asyncio.wait({self._reports})
        # A process that escaped could hold the pipe of the output open for ever.
        await asyncio.wait({self._listening}, timeout=1.0)
        return self._reports.result()

    def hang_up(self) -> None:
        """Tell the keeper to end everything; returns at once."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def stop(self) -> None:
        """Everything the keeper started is gone, or logged as an error. Idempotent."""
        self.hang_up()
        if self.waiting:
            self._kill()  # it has started nothing, and may still be importing
        try:
            async with asyncio.timeout(self._grace + _MARGIN_SECONDS):
                await asyncio.wait({self._reports})
                await self._process.wait()
        except TimeoutError:
            log.error("keeper.stuck pid=%d", self._process.pid)  # noqa: TRY400 - a trace says nothing
            self._kill()
            await self._process.wait()
        for reading in (self._reports, self._listening):
            reading.cancel()
        await asyncio.gather(self._reports, self._listening, return_exceptions=True)

    @property
    def orderly(self) -> bool:
        """Whether the keeper has said that every process is gone, or never started one."""
        report = None if self._reports.cancelled() else self._reports.result()
        return not self._ordered or (report is not None and report.left == 0)

    def output(self) -> list[str]:
        """The last lines the runner wrote."""
        return list(self._output)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _read_reports(self) -> Report | None:
        """The last report; None when the keeper went without one."""
        stdout = self._process.stdout
        while stdout is not None and (line := await stdout.readline()).endswith(b"\n"):
            report = msgspec.json.decode(line, type=Report)
            if report.started is None:
                return report
            log.info("runner.started pid=%d", report.started)
        return None

    async def _listen(self) -> None:
        stderr = self._process.stderr
        line = b""
        while stderr is not None and (chunk := await stderr.read(65536)):
            *lines, line = (line + chunk).split(b"\n")
            self._output.extend(_readable(each) for each in lines)
            line = line[:_LINE_LENGTH]
        if line:
            self._output.append(_readable(line))


async def end_predecessor(record: Path, within: float) -> None:
    """Wait for the keeper a crashed executor left to end by itself, else kill it and its tree."""
    left = _read(record)
    if left is None or keeper.started_at(left.pid) != left.started:
        return
    log.warning("keeper.found pid=%d", left.pid)
    if not await _exited(left.pid, within + _MARGIN_SECONDS):
        for pid, started in [*keeper.descendants(left.pid), (left.pid, left.started)]:
            keeper.send(pid, started, signal.SIGKILL)


async def _exited(pid: int, within: float) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(handle, gone.set)
    try:
        async with asyncio.timeout(within):
            await gone.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return True


def _read(record: Path) -> Record | None:
    try:
        return msgspec.json.decode(record.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def _readable(line: bytes) -> str:
    text = line[:_LINE_LENGTH].decode(errors="replace").rstrip()
    return "".join(each if each.isprintable() else "·" for each in text)
