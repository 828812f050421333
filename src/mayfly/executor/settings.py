"""What an executor has to be told."""

from pathlib import Path
from typing import Self

import msgspec

from mayfly.calls import checked_ca_file, checked_server
from mayfly.model.errors import InvalidSettings
from mayfly.model.launches import Ticket


class Token:
    """The executor's bearer token; only `reveal` shows it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        if not self._text or not self._text.isascii() or not self._text.isprintable():
            raise InvalidSettings("the executor's token is empty or not one line of plain text")

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The token in a file; InvalidSettings when there is none."""
        try:
            return cls(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSettings(f"cannot read the token file {path}: {error}") from None

    def reveal(self) -> str:
        """The token itself."""
        return self._text

    def __repr__(self) -> str:
        return "Token(…)"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One executor. How its runner runs is in the settings of its driver."""

    server: str
    """The control plane, as in https://mayfly.example.org."""
    pool: str
    """The pool it serves; its token must be bound to it."""
    token: Token | Ticket
    """Its own; or what a launched executor gets one with, once."""
    state_dir: Path
    """Slots, fresh directories and locks; see `default_state_dir`."""
    machine: str | None = None
    """What the control plane calls this machine; the slot is appended. Default: the host name."""
    variants: tuple[str, ...] = ()
    """Variants this machine serves; empty: any."""
    once: bool = False
    """One job, then exit."""
    idle_seconds: float | None = None
    """Exit with 0 when nothing came for so long; unset: wait for ever. For machines that cost."""
    prepare_timeout_seconds: float = 900.0
    """From the claim to the registration; 15 min, so that a board can boot and a silent control
    plane restart meanwhile."""
    ca_file: Path | None = None
    """Certificates to trust instead of the usual ones."""
    plain_http: bool = False
    """Allow http:// to another host, where the token could be read on the way."""


def checked(settings: Settings) -> Settings:
    """The settings; InvalidSettings with a sentence when they cannot be used."""
    url = checked_server(settings.server, plain_http=settings.plain_http)
    if url.username or url.password:
        raise InvalidSettings("the server's URL holds a user name or password; use the token")
    if not settings.pool or "/" in settings.pool:
        raise InvalidSettings(f"pool {settings.pool!r} is not the name of a pool")
    checked_ca_file(settings.ca_file)
    return settings
