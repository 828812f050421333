"""An operator's own program, run once for each order; no shell sees any of it."""

import asyncio
import os
import pwd
import shutil
import signal
from contextlib import suppress
from datetime import timedelta
from typing import cast

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
        talk = await self._talked(order)
        if talk.answer.cut:
            raise Permanent(f"{self._command[0]} answered with more than {self._largest} bytes")
        if talk.exit_code == 0:
            return bytes(talk.answer.kept)
        kind = Transient if talk.exit_code == TRY_AGAIN else Permanent
        said = withheld(talk.said.kept.decode(errors="replace"), ticket)
        raise kind(f"{self._command[0]}: {said or f'exit code {talk.exit_code}, and no word why'}")

    async def _talked(self, order: bytes) -> "_Talk":
        """To its end. Transient when that takes too long; then its whole process group is dead."""
        talk, transport = await self._begun()
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                talk.tell(order)
                await talk.over.wait()
        except TimeoutError:
            raise Transient(
                f"{self._command[0]} was killed: after {self._patience.total_seconds():g} s it, or "
                "what it had started, still had its output open"
            ) from None
        finally:
            if not talk.over.is_set():
                with suppress(ProcessLookupError):
                    os.killpg(transport.get_pid(), signal.SIGKILL)
            transport.close()  # whoever has left the group may still hold the other ends
            await talk.over.wait()
        return talk

    async def _begun(self) -> tuple["_Talk", asyncio.SubprocessTransport]:
        loop = asyncio.get_running_loop()
        try:
            transport, talk = await loop.subprocess_exec(
                lambda: _Talk(self._largest),
                *self._command,
                env=self._environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise Permanent(f"{self._command[0]} cannot be run: {error.strerror}") from error
        return talk, transport


class _Kept:
    """The first bytes of an output; the rest is read, so that nobody waits for us."""

    def __init__(self, largest: int) -> None:
        self.kept = bytearray()
        self.cut = False
        self._largest = largest

    def take(self, piece: bytes) -> None:
        room = self._largest - len(self.kept)
        self.kept += piece[:room]
        self.cut = self.cut or len(piece) > room


class _Talk(asyncio.SubprocessProtocol):
    """One order, and what came back; over once it has ended and nobody holds its outputs open."""

    def __init__(self, largest: int) -> None:
        self.answer = _Kept(largest)
        self.said = _Kept(_LARGEST_SENTENCE)
        self.exit_code: int | None = None
        self.over = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def tell(self, order: bytes) -> None:
        """It need not read what it does not want to know."""
        pipe = self._transport.get_pipe_transport(0) if self._transport else None
        if pipe is not None:
            given = cast("asyncio.WriteTransport", pipe)
            given.write(order)
            given.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        (self.answer if fd == 1 else self.said).take(data)

    def process_exited(self) -> None:
        self.exit_code = self._transport.get_returncode() if self._transport else None

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.over.set()


def check(command: tuple[str, ...]) -> None:
    """InvalidSettings when there is no such program."""
    if shutil.which(command[0], path=_SEARCH_PATH) is None:
        raise InvalidSettings(
            f"there is no program {command[0]!r} that we may run; give its whole path in command"
        )
