"""Secrets of a whole run, and the places where they must not be."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tests.e2e.stage import PRIVATE_KEY, Stage

SAMPLE_SECONDS = 0.04
_WINDOW = 48


def planted(stage: Stage) -> dict[str, list[bytes]]:
    """What each secret looks like, in whole or in a piece that is long enough to be used."""
    jit_configs = stage.github.watched.jit_configs
    return {
        "App key": [line.encode() for line in PRIVATE_KEY.splitlines() if len(line) == 64],
        "webhook secret": [stage.webhook_secret.encode()],
        "executor token": [stage.executor_token.encode()],
        "operator token": [stage.operator_token.encode()],
        "installation token": [token.encode() for token in stage.github.watched.tokens],
        "JIT config": [piece for config in jit_configs for piece in _pieces(config)],
        "runner's credential": [piece for config in jit_configs for piece in _inside(config)],
    }


def found_in(secrets: dict[str, list[bytes]], text: bytes) -> list[str]:
    """The names of the secrets that are in `text`."""
    assert all(secrets.values()), "every kind of secret was in play"
    return [name for name, pieces in secrets.items() if any(piece in text for piece in pieces)]


class Processes:
    """Arguments and environments of every process on the machine, as long as it is watched."""

    def __init__(self) -> None:
        self.arguments: set[bytes] = set()
        self.environments: set[bytes] = set()

    def look(self) -> None:
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                self.arguments.add(_content(Path(entry.path, "cmdline")))
                self.environments.add(_content(Path(entry.path, "environ")))


@asynccontextmanager
async def watched_processes() -> AsyncIterator[Processes]:
    """Looked at many times a second."""
    seen = Processes()

    async def watch() -> None:
        while True:
            seen.look()
            await asyncio.sleep(SAMPLE_SECONDS)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def contents(paths: Iterable[Path]) -> bytes:
    return b"\n".join(_content(path) for path in paths)


def _pieces(config: str) -> list[bytes]:
    """Pieces of its private key: what stands before it looks alike in every JIT config."""
    clear = base64.b64decode(config)
    before = clear.index(b".credentials_rsaparams") + len('.credentials_rsaparams": "')
    starts = range(before * 4 // 3 + 4, len(config) - _WINDOW, 4 * _WINDOW)
    return [config[start : start + _WINDOW].encode() for start in starts]


def _inside(config: str) -> list[bytes]:
    """The secrets in a JIT config, in clear and as they are packed."""
    packed = msgspec.json.decode(base64.b64decode(config), type=dict[str, str])
    credential = msgspec.json.decode(base64.b64decode(packed[".credentials"]))["Data"]["Token"]
    key = msgspec.json.decode(base64.b64decode(packed[".credentials_rsaparams"]))["d"]
    return [credential.encode(), key.encode(), packed[".credentials_rsaparams"][100:200].encode()]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
