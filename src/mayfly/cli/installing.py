"""Installing GitHub's runner from a terminal: which release, how far, and what is left offline."""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mayfly.calls import Calls, checked_ca_file, checked_server, open_calls
from mayfly.cli.environment import ENVIRONMENT, read_secret, variable
from mayfly.executor import Token, default_state_dir
from mayfly.model.errors import InvalidSettings, Transient
from mayfly.model.releases import Offer
from mayfly.releases import cache
from mayfly.releases.installs import Installed, install

_PATH = "/v1/releases"
_SAID_EVERY_SECONDS = 5.0
_REDRAWN_EVERY_SECONDS = 0.1


class InstalledRelease(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `mayfly runner list`."""

    release: str
    directory: str
    newest: bool


async def asked(calls: Calls) -> Sequence[Offer]:
    """The control plane's word on what GitHub offers."""
    return await calls.get(_PATH, list[Offer])


def install_newest(
    *,
    url: str,
    token_file: Path | None,
    state_dir: Path | None,
    ca_file: Path | None,
    plain_http: bool,
) -> None:
    """Until it is there. Offline, with a release in the cache: says so, and that is all."""
    checked_server(url, plain_http=plain_http)
    checked_ca_file(ca_file)
    secret = read_secret(token_file, "the executor's token") if token_file else None
    secret = secret or variable("MAYFLY_TOKEN")
    if not secret:
        raise InvalidSettings(
            "there is no token to ask the control plane with; give --token-file or MAYFLY_TOKEN, "
            "the executor's"
        )
    directory = _cache(state_dir)
    try:
        found = asyncio.run(_installed(url, Token(secret), directory, ca_file))
    except cache.Busy:
        raise
    except Transient as error:
        there = cache.installed(directory)
        if not there:
            raise
        _say(f"offline ({error}); release {there[0]} is in {directory} and goes on working")
        return
    verb = "is installed" if found.fresh else "was installed already"
    _say(f"release {found.version} of GitHub's runner {verb} in {directory}")


def installed_releases(state_dir: Path | None) -> list[InstalledRelease]:
    """What the cache has, newest first."""
    directory = _cache(state_dir)
    return [
        InstalledRelease(
            release=str(version), directory=str(directory / str(version)), newest=not place
        )
        for place, version in enumerate(cache.installed(directory))
    ]


async def _installed(url: str, token: Token, directory: Path, ca_file: Path | None) -> Installed:
    async with open_calls(url, token.reveal(), caller="executor", ca_file=ca_file) as calls:
        offers = await asked(calls)
    return await install(directory, offers, progress=Progress(), ca_file=ca_file)


class Progress:
    """A line that is redrawn on a terminal; elsewhere a new one every few seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, have: int, total: int | None) -> None:
        """Show how far it is, not too often."""
        now, whole = time.monotonic(), have == total
        if now < self._next and not whole:
            return
        self._next = now + (_REDRAWN_EVERY_SECONDS if self._terminal else _SAID_EVERY_SECONDS)
        of = f" of {_mib(total)} MiB, {100 * have // max(total, 1)} %" if total else " MiB"
        end = "\n" if whole or not self._terminal else ""
        start = "\r" if self._terminal else ""
        sys.stderr.write(f"{start}downloaded {_mib(have)}{of}{end}")
        sys.stderr.flush()


def _cache(state_dir: Path | None) -> Path:
    return cache.in_state_dir(state_dir or default_state_dir(ENVIRONMENT))


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"


def _say(sentence: str) -> None:
    print(sentence)  # noqa: T201 - a command's answer
