"""Runner programs that misbehave, as shell scripts; they leave traces in the directory $TRACES."""

import asyncio
import base64
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mayfly.model.protocol import Granted, StartedAnswer

KEY = json.dumps({"d": "PRIVATE-KEY-OF-THE-RUNNER-0123456789-abcdefghij"})
FILES = {".runner": '{"AgentName":"m"}', ".credentials": "{}", ".credentials_rsaparams": KEY}


def jit_config(files: dict[str, str] | None = None) -> str:
    packed = {
        name: base64.b64encode(text.encode()).decode() for name, text in (files or FILES).items()
    }
    return base64.b64encode(json.dumps(packed).encode()).decode()


SCRIPTS = {
    "ends": "exit 0",
    "fails": "echo 'the registration is gone' >&2; exit 3",
    "tells": "cat .credentials_rsaparams; echo; cat; echo ordinary; exit 3",
    "hangs": "echo $$ >$TRACES/pid; exec sleep 300",
    # Its worker must outlive the signal, or there would be nobody left to report the job.
    "polite": "sleep 300 & w=$!; trap 'kill -0 $w && echo bye >$TRACES/bye; exit 5' TERM\n"
    "echo $$ >$TRACES/pid; wait; exit 6",
    "slow": "trap 'sleep 0.3; echo bye >$TRACES/bye; exit 5' TERM\n"
    "echo $$ >$TRACES/pid; while :; do sleep 0.05; done",
    # Nothing in /proc ties it to the directory it was started in.
    "hides": "cd /; exec env -i /bin/sh -c \"trap '' TERM; echo \\$\\$ >$TRACES/pid\n"
    'while :; do /bin/sleep 0.05; done"',
    "stubborn": "trap '' TERM INT HUP; echo $$ >$TRACES/pid; while :; do sleep 0.05; done",
    # Forked twice, in sessions of their own, deaf to SIGTERM: nothing ties them to the runner.
    "daemons": "for i in 1 2 3; do\n"
    "  (trap '' TERM; setsid setsid sh -c 'echo $$ >$TRACES/daemon.'$i'; exec sleep 300' "
    "</dev/null >/dev/null 2>&1 &) &\n"
    "done; for i in 1 2 3; do while [ ! -s $TRACES/daemon.$i ]; do sleep 0.02; done; done; $THEN",
    # Each generation lives for a moment and is replaced by another one; 400 at most.
    "runaway": 'n=${1:-0}; [ "$n" -gt 400 ] && exit; echo $$ >$TRACES/pid\n'
    "trap '' TERM; sleep 0.02; setsid sh \"$0\" $((n+1)) & [ $n -gt 0 ] && exit; exec sleep 300",
    "probes": "env | sort >$TRACES/env; pwd >$TRACES/pwd; id -u >$TRACES/uid; id -G >$TRACES/gids\n"
    "ls -l /proc/self/fd >$TRACES/fds; tr '\\0' ' ' </proc/$$/cmdline >$TRACES/cmdline\n"
    "cat /proc/self/status >$TRACES/status; ls -la . >$TRACES/ls; cat >$TRACES/stdin\n"
    "tail -n 3 .runner .credentials .credentials_rsaparams >$TRACES/files 2>/dev/null\n"
    'if [ -n "$1" ]; then cat "$1" >$TRACES/passed; ls -l "$1" >/dev/null 2>&1 &&\n'
    "echo still there >$TRACES/lingers; fi; exit 0",
    "litters": "mkdir -p a/b; echo x >a/b/c; chmod 0 a/b; chmod 500 a; ln -s / root\n"
    "touch -- '-rf' '*' \"$(printf 'new\\nline')\" \"$(printf '\\377')\"; chmod 500 .; exit 0",
    "deep": "i=0; while [ $i -lt 1500 ]; do mkdir d; cd d; i=$((i+1)); done; exit 0",
    # What the one before left; then leaves the same for the next.
    "neighbours": "{ for at in $HOME $TMPDIR /tmp /dev/shm; do\n"
    "[ -e $at/left-$MARK ] && case $at in $HOME) echo home;; *) echo $at;; esac; done\n"
    "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q lef[t]-$MARK && echo processes\n"
    'echo "${LEFT-}"; } >$TRACES/found; readlink /proc/self/ns/net >$TRACES/network\n'
    "touch $HOME/left-$MARK $TMPDIR/left-$MARK /tmp/left-$MARK /dev/shm/left-$MARK\n"
    "export LEFT=environment; setsid sh -c \": left-$MARK; trap '' TERM; sleep 300\" &\nexit 0",
    "fills": "head -c 64M /dev/zero >big 2>$TRACES/said; echo $? >$TRACES/code; exit 0",
    # A shell that may not fork ends; this one begins anew in its place, for as long as it lives.
    "bomb": "trap 'exec /bin/sh \"$0\"' EXIT; while :; do sleep 300 & done 2>/dev/null",
    # One attempt after another, each with its own end; those that succeed are named.
    "tries": 'cd "${0%/*}"; until [ -e plants ]; do sleep 0.01; done; . ./plants\n'
    "for each in attempts/*; do\n"
    'timeout -s KILL 5 sh -eu "$each" >/dev/null 2>&1 && echo "${each##*/}" >>$TRACES/escaped\n'
    "done; echo >$TRACES/done; exit 0",
    "job": "export GITHUB_REPOSITORY=${REPO:-octo/demo} GITHUB_RUN_ID=77 GITHUB_RUN_ATTEMPT=2\n"
    'bash -e "$ACTIONS_RUNNER_HOOK_JOB_STARTED" >$TRACES/said 2>&1\n'
    "echo $? >$TRACES/code.new; mv $TRACES/code.new $TRACES/code; $THEN",
}


class Stage(NamedTuple):
    """Directories that an unprivileged runner can reach."""

    home: Path
    traces: Path
    programs: Path

    def program(self, name: str, mode: int = 0o755) -> str:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{SCRIPTS[name]}\n")
        path.chmod(mode)
        return str(path)

    def trace(self, name: str) -> str:
        return (self.traces / name).read_text(errors="replace").strip()

    async def traced(self, name: str, seconds: float = 20.0) -> str:
        await until(lambda: (self.traces / name).exists() and self.trace(name) != "", seconds)
        return self.trace(name)


@contextmanager
def stage() -> Iterator[Stage]:
    """Not below pytest's own directory, which is closed to other users."""
    root = Path(tempfile.mkdtemp(prefix="mayfly-test-"))
    made = Stage(root / "slots" / "0", root / "traces", root / "programs")
    try:
        for directory in made:
            directory.mkdir(parents=True)
        root.chmod(0o711)
        made.home.chmod(0o711)
        made.traces.chmod(0o777)
        yield made
    finally:
        shutil.rmtree(root)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other processes ring no event of ours
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def processes_with(text: str) -> list[int]:
    """Processes whose environment or arguments hold `text`."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        for file in ("environ", "cmdline"):
            try:
                content = Path(entry.path, file).read_bytes()
            except OSError:
                continue
            if text.encode() in content:
                found.append(int(entry.name))
    return found


def outside(pid: int, text: str) -> int:
    """The id, here, of the process with `text` that calls itself `pid` in its own namespace."""
    for found in processes_with(text):
        try:
            status = Path(f"/proc/{found}/status").read_text()
        except OSError:
            continue  # it has ended meanwhile
        if int(status.partition("NSpid:")[2].partition("\n")[0].split()[-1]) == pid:
            return found
    raise AssertionError(f"no process calls itself {pid}")


def claim(*, guard: bool = False, name: str = "c1") -> Granted:
    return Granted(
        claim=name,
        pool="linux",
        variant=None,
        labels=("self-hosted", "linux"),
        scope="repos/octo/demo",
        guard=guard,
        heartbeat_seconds=10.0,
    )


class Admission:
    """The control plane's answer to a job-start guard: allowed, refused, or silence."""

    def __init__(self, answer: StartedAnswer | None) -> None:
        self.answer = answer
        self.questions: list[tuple[str, int, int]] = []

    async def __call__(self, *, repository: str, run_id: int, run_attempt: int) -> StartedAnswer:
        self.questions.append((repository, run_id, run_attempt))
        if self.answer is None:
            await asyncio.Event().wait()
            raise AssertionError
        return self.answer


ALLOWED = StartedAnswer(allowed=True)
REFUSED = StartedAnswer(allowed=False, reason="octo/demo is not admitted\n::set-env name=X::y")
