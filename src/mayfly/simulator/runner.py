#!/usr/bin/env python3
"""Runs one workflow job of the simulated GitHub and exits, as the official runner would.

It stands alone: one file, the standard library, any Python from 3.8 on, any directory.
Imports that only a job needs come with the job, because an idle start should cost nothing.
"""

# Late imports and os.path, because an idle start must be fast and pathlib alone costs 10 ms.
# ruff: noqa: PLC0415, PTH108, PTH110, PTH113, PTH118, PTH123
from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial

TYPE_CHECKING = False  # typing's own, without importing typing
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Json: TypeAlias = Any
    Reply: TypeAlias = tuple[int, Json]

INPUT = "ACTIONS_RUNNER_INPUT_"
FLUSH_SECONDS = 0.15
KILL_SECONDS = 2.0
GIVE_UP_SECONDS = 60.0
LINE_LIMIT = 16_384
BATCH = 500


class UnusableConfig(Exception):
    """The JIT config is missing or corrupt."""


class Stopped(Exception):
    """Told to stop while idle."""


class Gone(Exception):
    """GitHub does not know this runner or job any more."""


class Signals:
    """Remembers SIGTERM; an idle runner stops at once, a busy one when its loop looks."""

    def __init__(self) -> None:
        self.stop = False
        self.idle = True
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)

    def _heard(self, _number: int, _frame: object) -> None:
        self.stop = True
        self.check()

    def check(self) -> None:
        """Raise Stopped when that was asked, and nothing is at stake."""
        if self.stop and self.idle:
            raise Stopped


class Server:
    """HTTP by hand: http.client would double the time to start."""

    def __init__(self, url: str, token: str) -> None:
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        host, _, port = authority.partition(":")
        self.secure = scheme == "https"
        self.address = (host, int(port or (443 if self.secure else 80)))
        self.authority = authority
        self.path = "/" + path.rstrip("/")
        self.token = token

    def call(self, method: str, path: str, body: object = None, timeout: float = 15.0) -> Reply:
        """(status, JSON); raises OSError when there is no whole answer."""
        payload = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {self.path}{path} HTTP/1.1\r\nHost: {self.authority}\r\n"
            f"Authorization: Bearer {self.token}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        with socket.create_connection(self.address, timeout=timeout) as raw:
            stream = self._secured(raw) if self.secure else raw
            stream.sendall(head.encode() + payload)
            return _answer(_read_all(stream))

    def _secured(self, raw: socket.socket) -> socket.socket:
        import ssl

        context = ssl.create_default_context()
        return context.wrap_socket(raw, server_hostname=self.address[0])


def _read_all(stream: socket.socket) -> bytes:
    parts: list[bytes] = []
    while True:
        part = stream.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _answer(raw: bytes) -> Reply:
    head, found, body = raw.partition(b"\r\n\r\n")
    if not found:
        raise OSError("the connection closed without an answer")
    status = int(head.split(b" ", 2)[1])
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(body) < int(value):
            raise OSError("the connection closed within an answer")
    try:
        return status, json.loads(body) if body else None
    except ValueError:
        return status, None


# The configuration


def find_config(arguments: list[str]) -> dict[str, dict[str, Json]]:
    """The runner's files by name, from wherever they were put."""
    given = os.environ.pop(INPUT + "JITCONFIG", None)
    options = _options(arguments)
    if "--jitconfig-stdin" in options:
        return decode(sys.stdin.read())
    if "--jitconfig-file" in options:
        return decode(_take(options["--jitconfig-file"]))
    if "--jitconfig" in options:
        return decode(options["--jitconfig"])
    root = options.get("--root", ".")
    if os.path.exists(os.path.join(root, ".runner")):
        return _files(root)
    if given is None:
        raise UnusableConfig("no JIT config: give --jitconfig-stdin, a file, or the environment")
    return decode(given)


def _options(arguments: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    rest = iter(arguments)
    for word in rest:
        name, joined, value = word.partition("=")
        if name in {"--jitconfig-file", "--jitconfig", "--root"}:
            options[name] = value if joined else next(rest, "")
        else:
            # Words of the official program that change nothing here are let pass.
            options[name] = ""
    return options


def decode(blob: str) -> dict[str, dict[str, Json]]:
    """Unpack a JIT config."""
    try:
        outer = json.loads(base64.b64decode(blob.strip(), validate=True))
        return {name: json.loads(base64.b64decode(inner)) for name, inner in outer.items()}
    except (ValueError, AttributeError, TypeError):
        raise UnusableConfig("the JIT config is corrupt") from None


def _take(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            blob = file.read()
    except OSError as error:
        raise UnusableConfig(f"the JIT config file is unreadable: {error}") from None
    _unlink(path)
    return blob


def _files(root: str) -> dict[str, dict[str, Json]]:
    files = {}
    for name in (".runner", ".credentials"):
        path = os.path.join(root, name)
        try:
            with open(path, encoding="utf-8-sig") as file:
                files[name] = json.load(file)
        except (OSError, ValueError) as error:
            raise UnusableConfig(f"{path}: {error}") from None
    # The job runs beside these files and must not find a credential in them.
    for name in (".credentials", ".credentials_rsaparams"):
        _unlink(os.path.join(root, name))
    return files


def _unlink(path: str) -> None:
    # Somebody else's file, or a read-only place: then it is not ours to remove.
    with suppress(OSError):
        os.unlink(path)


def say(text: str) -> None:
    # When nobody listens the job goes on.
    with suppress(OSError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


# One life


def main(arguments: list[str]) -> int:
    signals = Signals()
    server = None
    try:
        files = find_config(arguments)
        settings = files[".runner"]
        server = Server(str(settings["ServerUrl"]), str(files[".credentials"]["Data"]["Token"]))
        root = str(settings.get("WorkFolder") or "_work")
        name = str(settings["AgentName"])
        renew_seconds = open_session(server, signals)
        if renew_seconds is None:
            return 1
        say(f"Connected to GitHub\nListening for Jobs as {name}")
        return live(server, signals, name, root, renew_seconds)
    except Stopped:
        return leave(server)
    except OSError as error:
        say(f"GitHub cannot be reached: {error}")
        return 2
    except (UnusableConfig, KeyError, TypeError, ValueError, AttributeError) as error:
        say(f"The runner configuration cannot be used: {error!r}")
        return 1


def open_session(server: Server, signals: Signals) -> float | None:
    """Use the JIT config up; None when GitHub refuses it."""

    def attempt() -> Reply:
        # A signal waits for the answer: only with its token can the session be closed again.
        signals.idle = False
        try:
            status, reply = server.call("POST", "/session")
            if status == 201:
                server.token = reply["session"]
            return status, reply
        finally:
            signals.idle = True
            signals.check()

    status, reply = patiently(attempt)
    if status != 201:
        message = (reply or {}).get("message", "")
        say(f"GitHub refused the runner: {status} {message}")
        return None
    return float(reply["renew_seconds"])


def live(server: Server, signals: Signals, name: str, root: str, seconds: float) -> int:
    """Wait for one job and run it."""
    while True:
        status, reply = patiently(lambda: server.call("GET", "/message", timeout=90))
        if status == 404:
            say("The runner registration has been deleted from GitHub")
            return 0
        if status == 200 and run_job(server, signals, name, root, f"/jobs/{reply['job']}", seconds):
            return 0


def run_job(
    server: Server, signals: Signals, name: str, root: str, path: str, seconds: float
) -> bool:
    """Run the job at `path`; False when GitHub has given it to another in the meantime."""
    # From here on a signal must not lose the job: it is run, or reported as cancelled.
    signals.idle = False
    status, message = patiently(partial(server.call, "POST", path + "/acquire"))
    if status == 200:
        Job(server, signals, name, root, path, message, seconds).run()
        return True
    signals.idle = True
    signals.check()
    return False


def leave(server: Server | None) -> int:
    # Unheard, GitHub finds out by the silence.
    with suppress(OSError):
        if server is not None:
            server.call("DELETE", "/session", timeout=3)
    say("Exiting...")
    return 0


def patiently(call: Callable[[], Reply]) -> Reply:
    """Repeat a call while GitHub cannot answer, for a minute at most."""
    deadline, pause = time.monotonic() + GIVE_UP_SECONDS, 0.1
    while True:
        try:
            status, reply = call()
            if status < 500:
                return status, reply
            problem = OSError(f"GitHub answered {status}")
        except OSError as error:
            problem = error
        if time.monotonic() + pause > deadline:
            raise problem
        time.sleep(pause)
        pause = min(2.0, pause * 2)


# One job


class Job:
    """The job in hand: its steps, and what GitHub has to hear of them."""

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
        import subprocess

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
        import select

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


class Place:
    """Where a job runs: its directories, environment and scripts."""

    def __init__(self, root: str, message: dict[str, Json], runner: str) -> None:
        import platform
        import shutil
        from pathlib import Path

        context: dict[str, str] = dict(message["context"])
        work = Path.cwd() / root
        name = context["GITHUB_REPOSITORY"].rpartition("/")[2]
        self.temp = work / "_temp"
        self.workspace = work / name / name
        for directory in (self.temp, self.workspace):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
        self.bash = shutil.which("bash")
        event = self.temp / "event.json"
        event.write_text(json.dumps(message["event"]))
        self.files = {
            key: self.temp / key.lower()
            for key in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")
        }
        machine = {"x86_64": "X64", "aarch64": "ARM64"}.get(platform.machine(), platform.machine())
        self.env = {
            # What configures the runner is no business of the job's.
            **{k: v for k, v in os.environ.items() if not k.startswith(INPUT)},
            **message["env"],
            **context,
            **{key: str(path) for key, path in self.files.items()},
            "CI": "true",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_ARCH": machine,
            "RUNNER_NAME": runner,
            "RUNNER_OS": "Linux",
            "RUNNER_TEMP": str(self.temp),
        }
        self.absorb()

    def command(self, step: dict[str, Json]) -> list[str] | str:
        """The command of a step, or a sentence on why there is none."""
        hook = step.get("hook")
        if hook is not None:
            if not os.path.isfile(str(hook)):
                return f"##[error]File doesn't exist: {hook}"
            return [self.bash or "sh", "-e", str(hook)]
        if step.get("run") is None:
            return f"{step['name']}: nothing to do in a simulation"
        script = self.temp / f"{time.time_ns()}.sh"
        script.write_text(str(step["run"]))
        return self._shell(step.get("shell"), str(script))

    def _shell(self, shell: object, script: str) -> list[str]:
        if shell is None:
            return [self.bash or "sh", "-e", script]
        if shell == "bash":
            return ["bash", "--noprofile", "--norc", "-eo", "pipefail", script]
        if shell == "sh":
            return ["sh", "-e", script]
        if shell == "python":
            return [sys.executable, script]
        return [word.replace("{0}", script) for word in str(shell).split()]

    def directory(self, step: dict[str, Json]) -> str:
        return str(self.workspace / str(step.get("working_directory") or "."))

    def environment(self, step: dict[str, Json]) -> dict[str, str]:
        own: dict[str, str] = step.get("env") or {}
        return {**self.env, **own}

    def absorb(self) -> None:
        """Take over what a step wrote into its command files, and empty them."""
        for key, path in self.files.items():
            text = path.read_text() if path.exists() else ""
            if key == "GITHUB_ENV":
                self.env.update(assignments(text))
            if key == "GITHUB_PATH" and text.strip():
                found = [line for line in reversed(text.splitlines()) if line]
                self.env["PATH"] = os.pathsep.join([*found, self.env.get("PATH", "")])
            path.write_text("")


def assignments(text: str) -> dict[str, str]:
    """The NAME=value and NAME<<END lines of an environment file."""
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, heredoc, end = line.partition("<<")
        if heredoc and "=" not in name:
            value = []
            for following in lines:
                if following == end:
                    break
                value.append(following)
            found[name] = "\n".join(value)
        elif "=" in line:
            name, _, single = line.partition("=")
            found[name] = single
    return found


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
