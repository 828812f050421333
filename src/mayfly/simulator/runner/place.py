"""Where a job runs: its directories, environment and scripts."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path

from .config import INPUT

TYPE_CHECKING = False  # typing's own, without importing typing
if TYPE_CHECKING:
    from .wire import Json


class Place:
    """A fresh work directory, and the environment as the steps change it."""

    def __init__(self, root: str, message: dict[str, Json], runner: str) -> None:
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
            if not os.path.isfile(str(hook)):  # noqa: PTH113 - Path raises when it may not look
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
