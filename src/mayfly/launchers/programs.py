"""An operator's own program, run once for each order; no shell sees any of it."""

import asyncio
import os
import pwd
import shutil
import signal
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from datetime import timedelta

from mayfly.launchers.errands import withheld
from mayfly.model.errors import InvalidSettings, Permanent, Transient
from mayfly.model.launches import Ticket

TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h: it may work later."""
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LARGEST_SENTENCE = 4000


class Program:
    """Finds an order on its standard input; its standard output is the answer."""

    def __init__(
        self,
        command: tuple[str, ...],
        environment: dict[str, str],
        patience: timedelta,
        largest: int,
    ) -> None:
        self._command = command
        home = pwd.getpwuid(os.geteuid()).pw_dir
        # Nothing of our own environment: it may hold secrets.
        self._environment = {
            "PATH": _SEARCH_PATH,
            "HOME": home,
            "LANG": "C.UTF-8",
        } | environment
        self._patience = patience
        self._largest = largest

    async def __call__(self, order: bytes, key: str, ticket: Ticket | None = None) -> bytes:
        """Transient for TRY_AGAIN or a time-out, Permanent for any other exit code but 0."""
        del key
        process, code = await self._spawned(), None
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                answer, said = await self._talk(process, order)
                code = await process.wait()
        except TimeoutError:
            raise Transient(
                f"{self._command[0]} was killed: after {self._patience.total_seconds():g} s it, or "
                "what it had started, still had its output open"
            ) from None
        finally:
            if code is None:
                await _killed(process)
        if code == 0:
            return answer
        kind = Transient if code == TRY_AGAIN else Permanent
        words = (
            withheld(said.decode(errors="replace"), ticket) or f"exit code {code}, and no word why"
        )
        raise kind(f"{self._command[0]}: {words}")

    async def _spawned(self) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=self._environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise Permanent(f"{self._command[0]} cannot be run: {error.strerror}") from error

    async def _talk(self, process: Process, order: bytes) -> tuple[bytes, bytes]:
        given, out, err = process.stdin, process.stdout, process.stderr
        if given is None or out is None or err is None:
            raise RuntimeError("asyncio gave a program no pipes")
        reading = asyncio.gather(_read(out, self._largest), _read(err, _LARGEST_SENTENCE))
        with suppress(ConnectionError):  # it need not read what it does not want to know
            given.write(order)
            await given.drain()
        given.close()
        (answer, whole), (said, _) = await reading
        if not whole:
            raise Permanent(f"{self._command[0]} answered with more than {self._largest} bytes")
        return answer, said


def check(command: tuple[str, ...]) -> None:
    """InvalidSettings when there is no such program."""
    if shutil.which(command[0], path=_SEARCH_PATH) is None:
        raise InvalidSettings(
            f"there is no program {command[0]!r} that we may run; give its whole path in command"
        )


async def _read(stream: asyncio.StreamReader, largest: int) -> tuple[bytes, bool]:
    """Its first bytes, and whether these are all; the rest is read, so that nobody waits for us."""
    kept = bytearray()
    whole = True
    while piece := await stream.read(65_536):
        room = largest - len(kept)
        kept += piece[:room]
        whole = whole and len(piece) <= room
    return bytes(kept), whole


async def _killed(process: Process) -> None:
    """The program has ended, and whatever of its process group still holds on to it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
