"""The runner's archives as GitHub offers them; what is inside is the simulated runner."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path

from mayfly.simulator.program import runner_program

ARCHITECTURES = ("x64", "arm64")
PREFIX = "actions-runner-linux-"


def filename(architecture: str, version: str) -> str:
    return f"{PREFIX}{architecture}-{version}.tar.gz"


def named(name: str) -> tuple[str, str] | None:
    """(architecture, version) of an archive's name; None when it is none of ours."""
    middle = name.removeprefix(PREFIX).removesuffix(".tar.gz")
    architecture, _, version = middle.partition("-")
    if architecture not in ARCHITECTURES or filename(architecture, version) != name:
        return None
    return architecture, version


@lru_cache(maxsize=8)
def archive(architecture: str, version: str, size: int) -> bytes:
    """A tar.gz of somewhat more than `size` bytes; the same bytes every time."""
    with tempfile.TemporaryDirectory() as directory:
        program = runner_program(Path(directory)).read_bytes()
    filling = random.Random(f"{architecture} {version}").randbytes(size)  # noqa: S311 - repeatable on purpose
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=1) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        _add(tar, "./bin/Runner.Listener", program, 0o755)
        _add(tar, "./run.sh", b'#!/bin/sh\nexec "$(dirname "$0")/bin/Runner.Listener" run\n', 0o755)
        _add(tar, "./externals/node/lib/npm-cli.js", f"// {version}\n".encode(), 0o644)
        # The real one has such links, too.
        link = tarfile.TarInfo("./externals/node/bin/npm")
        link.type, link.linkname = tarfile.SYMTYPE, "../lib/npm-cli.js"
        tar.addfile(link)
        _add(tar, "./externals/filling", filling, 0o644)
    return packed.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
