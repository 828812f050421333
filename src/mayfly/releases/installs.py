"""Installing: the newest release for this machine, into its cache, by one process at a time."""

import asyncio
import ctypes
import os
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx

from mayfly.model.errors import Permanent
from mayfly.model.releases import Offer, Version
from mayfly.releases import archives, cache
from mayfly.releases.downloads import Download, Patience, Progress, no_space

LOCK_SECONDS = 3600.0
"""As long as a download may take: the other one does our work."""
_CONNECT_SECONDS = 10.0


class Installed(NamedTuple):
    """A release that is there."""

    version: Version
    fresh: bool
    """It was not there before."""


def silent(_have: int, _total: int | None) -> None:
    """Progress that nobody looks at."""


def offered(offers: Sequence[Offer]) -> tuple[Version, Offer]:
    """The newest offer for this machine. Permanent: there is none."""
    system, architecture = cache.kind_of_machine()
    fitting = [
        (version, offer)
        for offer in offers
        if (offer.os, offer.architecture) == (system, architecture)
        and (version := offer.version) is not None
    ]
    if not fitting:
        raise Permanent(
            f"GitHub offers no runner for {system} on {architecture}; "
            "name an unpacked one with [runner] template"
        )
    return max(fitting, key=lambda one: one[0])


async def install(
    directory: Path,
    offers: Sequence[Offer],
    *,
    progress: Progress = silent,
    patience: Patience | None = None,
    wait: float = LOCK_SECONDS,
    ca_file: Path | None = None,
) -> Installed:
    """The newest of the offers is in the cache afterwards. Idempotent.

    Transient: try again, what came is kept. Permanent: a person has to act, nothing is kept.
    A job's own copy is not touched.
    """
    version, offer = offered(offers)
    if version in cache.installed(directory):
        return Installed(version, fresh=False)
    patience = patience or Patience()
    async with cache.locked(directory, wait=wait):
        if version in cache.installed(directory):
            return Installed(version, fresh=False)  # the one we waited for did it
        try:
            downloads = directory / "download"
            downloads.mkdir(exist_ok=True)
            verify = ssl.create_default_context(cafile=ca_file) if ca_file else True
            timeout = httpx.Timeout(patience.silence, connect=_CONNECT_SECONDS)
            async with httpx.AsyncClient(
                timeout=timeout, follow_redirects=True, verify=verify
            ) as http:
                download = Download(http, offer, downloads, progress=progress, patience=patience)
                archive = await download.fetched()
            await _to_its_end(_unpacked, archive, directory, version)
            cache.emptied(downloads)
            cache.prune(directory)
        except OSError as error:
            raise no_space(directory, error) from error
    return Installed(version, fresh=True)


async def _to_its_end(work: Callable[..., None], *arguments: object) -> None:
    """In a thread, and not left alone when we are cancelled: it needs the lock."""
    working = asyncio.create_task(asyncio.to_thread(work, *arguments))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise


def _unpacked(archive: Path, directory: Path, version: Version) -> None:
    """The whole release appears at once, after the disk has it; or nothing does."""
    unpacking = directory / "unpacking"
    cache.emptied(unpacking)
    try:
        archives.unpack(archive, unpacking)
        _check_program(unpacking, version)
        # A crash of the machine must not leave a release of empty files.
        _written_out(unpacking)
        unpacking.rename(directory / str(version))
    except BaseException:
        with suppress(OSError):
            cache.emptied(unpacking)
            cache.emptied(archive.parent)
        raise


def _check_program(unpacked: Path, version: Version) -> None:
    if not (unpacked / cache.PROGRAM).is_file():
        raise archives.Untrusted(
            f"the archive of release {version} has no {cache.PROGRAM}; it is not kept"
        )


def _written_out(directory: Path) -> None:
    """Wait until its file system has everything."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)
