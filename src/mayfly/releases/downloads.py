"""Downloading an archive: interrupted ones are resumed, and only what has the checksum is kept."""

import asyncio
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from mayfly.model.errors import Permanent, Transient
from mayfly.model.releases import Offer

Progress = Callable[[int, int | None], None]
"""Called with the bytes there are and, where the server told it, the bytes there will be."""


class Patience(NamedTuple):
    """How long a download may take, in seconds; tests wind it faster."""

    silence: float = 30.0
    """Without a byte, until the connection is taken for dead."""
    altogether: float = 3600.0
    pause: float = 2.0
    """Before an interrupted download is resumed."""
    tries: int = 5
    """Interruptions in a row that brought no byte."""


class _Interrupted(Transient):
    """The rest is still to come."""


class NoSpace(Permanent):
    """There is no space, and nothing was left half-written."""


class BadChecksum(Permanent):
    """What came is not what was announced; it is not kept."""


class Download:
    """One archive, into a directory where nobody else downloads."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        offer: Offer,
        directory: Path,
        *,
        progress: Progress,
        patience: Patience,
    ) -> None:
        self._http = http
        self._offer = offer
        self._sha256 = checked(offer)
        self._progress = progress
        self._patience = patience
        # Named by its checksum: what is there belongs to this archive or to none.
        self._part = directory / f"{self._sha256}.part"
        self._etag = directory / f"{self._sha256}.etag"

    async def fetched(self) -> Path:
        """The whole archive, checked. Transient, BadChecksum, NoSpace or Permanent."""
        try:
            async with asyncio.timeout(self._patience.altogether):
                return await self._resumed()
        except TimeoutError:
            raise Transient(
                f"{self._offer.filename} was not downloaded within "
                f"{self._patience.altogether:.0f} s; the next install goes on from there"
            ) from None
        except OSError as error:
            self.forget()
            raise no_space(self._part.parent, error) from error

    def forget(self) -> None:
        """Remove what there is of it."""
        self._part.unlink(missing_ok=True)
        self._etag.unlink(missing_ok=True)

    async def _resumed(self) -> Path:
        fruitless = 0
        while True:
            before = self._size()
            try:
                await self._continued()
            except _Interrupted as error:
                fruitless = 0 if self._size() > before else fruitless + 1
                if fruitless >= self._patience.tries:
                    raise Transient(f"{error}; the next install goes on from there") from error
                await asyncio.sleep(self._patience.pause)
                continue
            if await asyncio.to_thread(_sha256_of, self._part) == self._sha256:
                return self._part
            self.forget()
            if not before:
                raise BadChecksum(
                    f"{self._offer.filename} from {_host(self._offer)} does not have the SHA-256 "
                    f"GitHub announced ({self._sha256}); it is not kept. Try again; when it "
                    "stays so, something on the way changes it"
                )
            # Its beginning was from an earlier time and may be what was wrong.

    async def _continued(self) -> None:
        """Ask for what is missing, until the server says that this was the end."""
        have, etag = self._size(), self._known_etag()
        if etag is None:
            have = 0  # nobody could say whether the rest belongs to it
        elif await asyncio.to_thread(_sha256_of, self._part) == self._sha256:
            return  # all of it came, and nobody lived to see it
        headers = {"Accept-Encoding": "identity"}
        if self._offer.token is not None:
            headers["Authorization"] = f"Bearer {self._offer.token}"
        if have and etag is not None:
            headers |= {"Range": f"bytes={have}-", "If-Range": etag}
        try:
            async with self._http.stream("GET", self._offer.url, headers=headers) as response:
                await self._taken(response, have)
        except httpx.RequestError as error:
            said = str(error) or type(error).__name__
            raise _Interrupted(
                f"the download of {self._offer.filename} from {_host(self._offer)} was "
                f"interrupted: {said}"
            ) from error

    async def _taken(self, response: httpx.Response, have: int) -> None:
        if response.status_code == 416:
            self.forget()
            raise _Interrupted(f"{_host(self._offer)} has no such part of {self._offer.filename}")
        if response.status_code not in {200, 206}:
            raise self._refused(response.status_code)
        if response.status_code == 200 or not _continues(response, have):
            have = 0
        coming = _length(response)
        total = None if coming is None else have + coming
        self._check_space(coming or 0)
        if not have:
            self.forget()
        if etag := _strong_etag(response):
            self._etag.write_text(etag)
        self._progress(have, total)
        with self._part.open("ab") as part:
            # As they come: what a larger chunk would wait for is lost with the connection.
            async for chunk in response.aiter_raw():
                part.write(chunk)
                have += len(chunk)
                self._progress(have, total)

    def _refused(self, status: int) -> Exception:
        sentence = f"{_host(self._offer)} answers {status} for {self._offer.filename}"
        if status >= 500 or status in {408, 429}:
            return _Interrupted(sentence)
        return Permanent(f"{sentence}; try again, and check the way there when it stays so")

    def _check_space(self, coming: int) -> None:
        free = shutil.disk_usage(self._part.parent).free
        if coming > free:
            self.forget()
            raise NoSpace(
                f"{self._part.parent} has {_mib(free)} left and {self._offer.filename} needs "
                f"{_mib(coming)}, and several times that unpacked; free some, or choose another "
                "--state-dir. Nothing was left half-written"
            )

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _known_etag(self) -> str | None:
        if not (self._part.exists() and self._etag.exists()):
            return None
        return self._etag.read_text() or None


def checked(offer: Offer) -> str:
    """The checksum; Permanent when the offer has none or its address is none."""
    digest = (offer.sha256 or "").lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise Permanent(
            f"GitHub announces no SHA-256 for {offer.filename}, so it cannot be checked and is not "
            "installed; unpack it by hand and name it with [runner] template"
        )
    if urlsplit(offer.url).scheme not in {"http", "https"} or not urlsplit(offer.url).hostname:
        raise Permanent(f"GitHub's address of {offer.filename} is none; update this server")
    return digest


def no_space(directory: Path, error: OSError) -> Permanent:
    """The sentence for what a file system refuses."""
    return NoSpace(
        f"cannot write to {directory}: {error.strerror or error}; free some space or see who may "
        "write there, or choose another --state-dir. Nothing was left half-written"
    )


def _sha256_of(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _continues(response: httpx.Response, have: int) -> bool:
    """Whether a 206 begins where we ended."""
    return str(response.headers.get("content-range", "")).startswith(f"bytes {have}-")


def _length(response: httpx.Response) -> int | None:
    text = str(response.headers.get("content-length", ""))
    return int(text) if text.isdecimal() else None


def _strong_etag(response: httpx.Response) -> str | None:
    """A weak one says that two answers mean the same, not that their bytes are the same."""
    etag = str(response.headers.get("etag", ""))
    return etag if etag.startswith('"') and etag.isprintable() else None


def _host(offer: Offer) -> str:
    return urlsplit(offer.url).hostname or ""


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
