"""The job in hand: its steps, and what GitHub has to hear of them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress

from .place import Place
from .process import say
from .wire import patiently

TYPE_CHECKING = False  # typing's own, without importing typing
if TYPE_CHECKING:
    from .process import Signals
    from .wire import Json, Server

FLUSH_SECONDS = 0.15
KILL_SECONDS = 2.0
LINE_LIMIT = 16_384
BATCH = 500


class Gone(Exception):
    """GitHub does not know this runner or job any more."""


class Job:
    """Runs the steps in turn and reports on them."""

    def __init__(
        self,
        server: Server,
        signals: Signals,
        runner: str,
        root: str,
        path: str,
        message: dict[str, Json],
        renew_seconds: float,
    ) -> None:
        self.server = server
        self.signals = signals
        self.path = path
        self.message = message
        self.renew_seconds = renew_seconds
        self.lines: list[str] = []
        self.reports: list[dict[str, Json]] = []
        self.renewed_at = time.monotonic()
        self.cancelled = False
        self.failed = False
        self.groups: list[int] = []
        self.place = Place(root, message, runner)

    def run(self) -> None:
        say(f"Running job: {self.message['name']}")
        steps = self._plan()
        titles = ["Set up job"] + [str(step["name"]) for step in steps] + ["Complete job"]
        self.reports = [
            {"number": n, "name": title, "status": "queued"} for n, title in enumerate(titles, 1)
        ]
        try:
            self._report(0, "success")
            for index, step in enumerate(steps, 1):
                self._step(index, step)
            self._report(len(steps) + 1, "success")
            self._complete()
        except Gone:
            say("GitHub has taken the job away")
        finally:
            for group in self.groups:
                _signal(group, signal.SIGKILL)

    def _plan(self) -> list[dict[str, Json]]:
        """The steps with the operator's hooks around them, as the official runner names these."""
        started = os.environ.get("ACTIONS_RUNNER_HOOK_JOB_STARTED")
        completed = os.environ.get("ACTIONS_RUNNER_HOOK_JOB_COMPLETED")
        steps: list[dict[str, Json]] = list(self.message["steps"])
        if started:
            steps.insert(0, {"name": "Set up runner", "hook": started})
        if completed:
            steps.append({"name": "Complete runner", "hook": completed, "always": True})
        return steps

    def _step(self, index: int, step: dict[str, Json]) -> None:
        self._look_for_signals()
        if (self.failed or self.cancelled) and not step.get("always"):
            self._report(index, "skipped")
            return
        self._begin(index)
        command = self.place.command(step)
        if isinstance(command, str):
            self.lines.append(command)
            conclusion = "failure" if step.get("hook") else "success"
        else:
            conclusion = self._execute(command, step)
        self.place.absorb()
        if conclusion == "failure" and not step.get("continue_on_error"):
            self.failed = True
        self._report(index, conclusion)

    def _execute(self, command: list[str], step: dict[str, Json]) -> str:
        already = self.cancelled
        try:
            process = subprocess.Popen(  # noqa: S603 - running what the workflow says is the point
                command,
                cwd=self.place.directory(step),
                env=self.place.environment(step),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self.lines.append(f"##[error]{error}")
            return "failure"
        self.groups.append(process.pid)
        self._follow(process, already)
        if self.cancelled and not already:
            return "cancelled"
        if process.returncode:
            self.lines.append(f"##[error]Process completed with exit code {process.returncode}.")
            return "failure"
        return "success"

    def _follow(self, process: subprocess.Popen[bytes], already: bool) -> None:  # noqa: FBT001 - inside only
        """Stream what it writes until it ends; stop it when GitHub or a signal says so."""
        output = process.stdout
        if output is None:
            return
        os.set_blocking(output.fileno(), False)
        rest, kill_at = b"", None
        while True:
            ended = process.poll() is not None
            ready, _, _ = select.select([output], [], [], 0 if ended else 0.05)
            chunk = output.read(65536) if ready else None
            if chunk:
                rest = self._split(rest + chunk)
            elif ended:
                break
            elif chunk == b"":
                # It closed its output and lives on.
                time.sleep(0.02)
            self._renew_when_due()
            self._look_for_signals()
            if self.cancelled and not already:
                kill_at = self._kill(process.pid, kill_at)
        if rest:
            self.lines.append(_text(rest))
        output.close()

    def _split(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        self.lines.extend(_text(line) for line in lines[:-1])
        # A line without an end must not grow for ever.
        if len(lines[-1]) > LINE_LIMIT:
            self.lines.append(_text(lines.pop()))
            return b""
        return lines[-1]

    def _kill(self, group: int, kill_at: float | None) -> float:
        now = time.monotonic()
        if kill_at is None:
            _signal(group, signal.SIGTERM)
            return now + KILL_SECONDS
        if now > kill_at:
            _signal(group, signal.SIGKILL)
        return kill_at

    def _look_for_signals(self) -> None:
        self.cancelled = self.cancelled or self.signals.stop

    def _renew_when_due(self) -> None:
        due = self.renewed_at + (FLUSH_SECONDS if self.lines else self.renew_seconds)
        if time.monotonic() >= due:
            self._renew()

    def _renew(self) -> None:
        self.renewed_at = time.monotonic()
        lines = self.lines[:BATCH]
        body = {"lines": lines, "steps": self.reports}
        try:
            status, reply = self.server.call("POST", self.path + "/renew", body)
        except OSError:
            return  # The next one may get through; GitHub gives up by itself.
        if status == 404:
            raise Gone
        if status < 300:
            del self.lines[: len(lines)]
            self.cancelled = self.cancelled or bool(reply["cancel"])

    def _begin(self, index: int) -> None:
        self.reports[index].update(status="in_progress", started=time.time())
        self._renew_when_due()

    def _report(self, index: int, conclusion: str) -> None:
        now = time.time()
        report = self.reports[index]
        report.setdefault("started", now)
        report.update(status="completed", conclusion=conclusion, completed=now)

    def _complete(self) -> None:
        conclusion = "failure" if self.failed else "success"
        if self.cancelled:
            conclusion = "cancelled"
        while len(self.lines) > BATCH:
            before = len(self.lines)
            self._renew()
            if len(self.lines) == before:
                break
        body = {"conclusion": conclusion, "lines": self.lines, "steps": self.reports}
        try:
            patiently(lambda: self.server.call("POST", self.path + "/complete", body))
        except OSError as error:
            say(f"GitHub did not hear of the end: {error}")
        say(f"Job {self.message['name']} completed with result: {conclusion}")


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
