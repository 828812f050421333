"""The job-start hook: a job began on this runner, and may it run? (ledger rules R9, R12)

The runner calls a script (`ACTIONS_RUNNER_HOOK_JOB_STARTED`) that the job cannot write to. It asks
over one FIFO and gets the answer over another, and needs a shell and coreutils only. With a guard
no answer means no; without one it only tells, and the job begins at once. The runner's own user can
speak for it, so the first line decides, and the control plane stops by heartbeat what it sees at
work without having been asked.
"""

import asyncio
import contextlib
import logging
import os
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from mayfly.model.errors import MayflyError
from mayfly.model.protocol import StartedAnswer

log = logging.getLogger(__name__)

VARIABLE = "ACTIONS_RUNNER_HOOK_JOB_STARTED"
_PREFIX = "guard-"
_LONGEST_REASON = 300
_QUESTION = re.compile(
    rb"([A-Za-z0-9_-]{1,100}/[A-Za-z0-9._-]{1,100}) ([0-9]{1,18}) ([0-9]{1,9})", re.ASCII
)
_SCRIPT = """\
#!/bin/sh
# Asks whether this job was admitted, before its first step. No answer means no.
PATH=/usr/bin:/bin
LC_ALL=C
export PATH LC_ALL
if printf '%s %s %s\\n' "$GITHUB_REPOSITORY" "$GITHUB_RUN_ID" "$GITHUB_RUN_ATTEMPT" |
  timeout 10 tee {ask} >/dev/null; then
  answer=$(timeout {seconds} head -n 1 {answer}) || answer=
else
  answer=
fi
if [ "$answer" = allowed ]; then
  exit 0
fi
printf 'Mayfly: this job may not run here: %s\\n' "${{answer:-the control plane did not answer}}"
exit 1
"""


_TELLING = """\
#!/bin/sh
# Tells that this job began, so that a lost webhook is no loss. Holds nothing up.
PATH=/usr/bin:/bin
LC_ALL=C
export PATH LC_ALL
printf '%s %s %s\\n' "$GITHUB_REPOSITORY" "$GITHUB_RUN_ID" "$GITHUB_RUN_ATTEMPT" |
  timeout 10 tee {ask} >/dev/null
exit 0
"""


class Started(Protocol):
    """Asks the control plane whether the job that began was admitted."""

    async def __call__(self, *, repository: str, run_id: int, run_attempt: int) -> StartedAnswer:
        """Its answer; may take as long as the control plane is silent. MayflyError means no."""


class Question(NamedTuple):
    """The job that began, as the runner told its hook; checked, because strangers name things."""

    repository: str
    run_id: int
    run_attempt: int


def question_in(line: bytes) -> Question | None:
    """The question in one line of the hook, or None when it is not one."""
    found = _QUESTION.fullmatch(line)
    if found is None:
        return None
    repository, run, attempt = found.groups()
    return Question(repository.decode(), int(run), int(attempt))


class Guard:
    """One hook script, its two FIFOs and the one question they carry."""

    def __init__(
        self, directory: Path, started: Started, seconds: float, *, asks: bool = True
    ) -> None:
        self._directory = directory
        self._asks = asks
        self._started = started
        self._seconds = seconds
        self._ask, self._answer = directory / "ask", directory / "answer"
        self._asked = self._answered = -1
        self._line = b""
        self._answering: asyncio.Task[None] | None = None
        self.on_refusal: Callable[[], object] = lambda: None
        self.hook = directory / "job-started.sh"
        self.question: Question | None = None
        """The job that began on this runner."""
        self.refusal: str | None = None
        """Why it may not run."""

    @classmethod
    def opened(cls, home: Path, started: Started, seconds: float, *, asks: bool = True) -> Self:
        """A guard that listens; its directory is ours, the runner's user may only pass through.

        One that does not ask lets every job begin, and tells the control plane that it did.
        """
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
        guard = cls(directory, started, seconds, asks=asks)
        guard._write()
        guard._listen()
        return guard

    def close(self) -> None:
        """Stop listening; a hook that still waits reads the end of the file, which means no."""
        loop = asyncio.get_running_loop()
        if self._answering is not None:
            self._answering.cancel()
        for fd in (self._asked, self._answered):
            if fd >= 0:
                loop.remove_reader(fd)
                os.close(fd)
        self._asked = self._answered = -1

    def _write(self) -> None:
        os.mkfifo(self._ask)
        os.mkfifo(self._answer)
        script = (_SCRIPT if self._asks else _TELLING).format(
            ask=shlex.quote(str(self._ask)),
            answer=shlex.quote(str(self._answer)),
            seconds=max(1, round(self._seconds + 5)),  # ours speaks first, with a reason
        )
        self.hook.write_text(script)
        for path, mode in (
            (self.hook, 0o555),
            (self._ask, 0o622),
            (self._answer, 0o644),
            (self._directory, 0o711),
        ):
            path.chmod(mode)

    def _listen(self) -> None:
        # Both ends of both FIFOs are held: opening never blocks, and a line waits for its reader.
        self._asked = os.open(self._ask, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._answered = os.open(self._answer, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._asked, self._read)

    def _read(self) -> None:
        self._line += os.read(self._asked, 4096)
        line, ended, _ = self._line.partition(b"\n")
        if not ended and len(line) < 4096:
            return
        asyncio.get_running_loop().remove_reader(self._asked)
        self._answering = asyncio.create_task(self._decide(line))

    async def _decide(self, line: bytes) -> None:
        self.question = question_in(line)
        answer = await self._asked_for(self.question)
        if not self._asks:
            if not answer.allowed:
                log.warning("job.untold question=%s reason=%r", self.question, answer.reason)
            return
        if answer.allowed:
            os.write(self._answered, b"allowed\n")
            return
        self.refusal = harmless(answer.reason) or "it was not admitted"
        log.warning("job.refused question=%s reason=%r", self.question, self.refusal)
        os.write(self._answered, self.refusal.encode() + b"\n")
        self.on_refusal()

    async def _asked_for(self, question: Question | None) -> StartedAnswer:
        if question is None:
            return StartedAnswer(allowed=False, reason="the runner did not say which job began")
        with contextlib.suppress(TimeoutError):
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._started(**question._asdict())
            except MayflyError as error:
                return StartedAnswer(allowed=False, reason=str(error))
        return StartedAnswer(
            allowed=False, reason=f"the control plane did not answer within {self._seconds:.0f} s"
        )


def left(home: Path) -> list[Path]:
    """Directories of this and of earlier guards."""
    return sorted(home.glob(f"{_PREFIX}*"))


def harmless(reason: str) -> str:
    """A reason as one line for the job's log, where `::` and `##[` would be commands."""
    text = "".join(each if each.isascii() and each.isprintable() else " " for each in reason)
    text = re.sub(r"(?<=:):|(?<=#)#", " ", text).strip()
    return text[:_LONGEST_REASON] if text != "allowed" else "it was not admitted"
