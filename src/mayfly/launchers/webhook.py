"""Executors on any other platform: a program of the operator, or a URL, knows how.

What both are told and answer is in docs/reference/launcher-protocol.md.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec

from mayfly.launchers import programs, signed
from mayfly.launchers.errands import checked_variables, withheld
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.launches import Launch, Launched, LaunchId, LaunchState, Ticket
from mayfly.ports import Clock, Launcher

LARGEST_ANSWER = 1_000_000
"""Bytes; ten thousand launches have a tenth of that to say."""

LONGEST_TIMEOUT = 60.0
"""Seconds; the scaler waits for so long."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either a program or a URL."""

    command: tuple[str, ...] = ()
    """The program and its arguments: a list of words, never a line for a shell."""
    url: str | None = None
    """Where orders are posted, instead of a program."""
    secret_file: Path | None = None
    """The key orders to a URL are signed with, `whsec_` and base64; required with `url`."""
    ca_file: Path | None = None
    """Certificates to trust instead of the usual ones."""
    plain_http: bool = False
    """Allow http:// to another host, where tickets could be read on the way."""
    timeout_seconds: float = 30.0
    """For one answer, at most 60. The program is killed then, with its process group."""
    environment: dict[str, str] = {}
    """Variables of the program, beside PATH, HOME and LANG."""


class Asks(Protocol):
    """A program or a URL: it is given an order, and its answer is bytes of JSON, or nothing."""

    async def __call__(self, order: bytes, key: str, ticket: Ticket | None = None) -> bytes: ...


class _Told(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-z]{1,64}\Z")]
    state: LaunchState
    detail: str = ""


class _Answer(msgspec.Struct):
    launches: list[_Told]


@asynccontextmanager
async def open_launcher(
    settings: Settings, *, server: str, pools: Sequence[str], clock: Clock
) -> AsyncIterator[Launcher]:
    """The program is run, or the URL asked, once for each verb."""
    del pools
    _check(settings)
    patience = timedelta(seconds=settings.timeout_seconds)
    if settings.url is None:
        program = programs.Program(settings.command, settings.environment, patience, LARGEST_ANSWER)
        yield WebhookLauncher(program, server)
        return
    async with signed.open_url(
        settings.url,
        secret_file=settings.secret_file,
        ca_file=settings.ca_file,
        plain_http=settings.plain_http,
        patience=patience,
        largest=LARGEST_ANSWER,
        clock=clock,
    ) as url:
        yield WebhookLauncher(url, server)


class WebhookLauncher:
    """Says what is wanted; doing it once for each launch is the other's part."""

    def __init__(self, asks: Asks, server: str) -> None:
        self._asks = asks
        self._server = server

    async def start(self, launch: Launch, ticket: Ticket) -> None:
        order = {
            "verb": "start",
            "pool": launch.pool,
            "launch": launch.id,
            "server": self._server,
            "ticket": ticket.reveal(),
        }
        await self._told(order, f"start-{launch.id}", ticket)

    async def launched(self, pool: str) -> list[Launched]:
        body = await self._told({"verb": "list", "pool": pool}, f"list-{pool}")
        try:
            known = msgspec.json.decode(body, type=_Answer).launches
        except msgspec.DecodeError as error:
            raise Permanent(
                f"the answer to list is not as docs/reference/launcher-protocol.md says: {error}"
            ) from error
        return sorted(
            Launched(LaunchId(each.id), each.state, withheld(each.detail)) for each in known
        )

    async def stop(self, pool: str, launch: LaunchId) -> None:
        await self._told({"verb": "stop", "pool": pool, "launch": launch}, f"stop-{launch}")

    async def _told(self, order: dict[str, Any], key: str, ticket: Ticket | None = None) -> bytes:
        return await self._asks(msgspec.json.encode(order), key, ticket)


def _check(settings: Settings) -> None:
    if bool(settings.command) == (settings.url is not None):
        raise InvalidSettings("set either command or url")
    if not 0 < settings.timeout_seconds <= LONGEST_TIMEOUT:
        raise InvalidSettings(
            f"timeout_seconds is {settings.timeout_seconds}; it must be positive and at most "
            f"{LONGEST_TIMEOUT:g}, because nobody waits any longer"
        )
    checked_variables(settings.environment, ours=())
    if settings.url is None:
        programs.check(settings.command)
