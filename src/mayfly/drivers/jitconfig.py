"""The JIT config on its way to the runner, by the least exposed way its program accepts.

GitHub gives base64 of a JSON object {file name: base64 of the content}; never an argument.
"""

import asyncio
import base64
import binascii
import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from pathlib import Path

import msgspec

from mayfly.drivers.accounts import Account
from mayfly.model.errors import Permanent

FILES = (".runner", ".credentials", ".credentials_rsaparams")
PLACEHOLDER = "{jitconfig}"
VARIABLE = "ACTIONS_RUNNER_INPUT_JITCONFIG"
PASSED = ".jitconfig"
"""The name of the file that is passed."""
_KEY = ".credentials_rsaparams"
_LARGEST = 60 * 1024  # less than a pipe holds, so that writing it never waits for the runner
_FILE_SECONDS = 10.0
_IN_OPEN = 0x20
_WINDOW = 24


class JitDelivery(StrEnum):
    """How the runner gets its JIT config."""

    FILES = "files"
    """The three files it would have written itself, in its directory; its own user alone reads."""
    STDIN = "stdin"
    FILE = "file"
    """A file named by `{jitconfig}` in the command; gone when it was opened, or after 10 s."""
    ENVIRONMENT = "environment"
    """`ACTIONS_RUNNER_INPUT_JITCONFIG`: any process of the same user can read it in /proc."""


def unpacked(jit_config: str) -> dict[str, bytes]:
    """The files in a JIT config; Permanent for any other name, so that none can be a path."""
    files = _files(jit_config)
    if unknown := set(files) - set(FILES):
        raise Permanent(f"the JIT config holds {len(unknown)} file(s) that no runner has")
    return files


def _files(jit_config: str) -> dict[str, bytes]:
    try:
        packed = msgspec.json.decode(
            base64.b64decode(jit_config, validate=True), type=dict[str, str]
        )
        return {name: base64.b64decode(text, validate=True) for name, text in packed.items()}
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise Permanent("the JIT config is not base64 of a JSON object of files") from None


def checked(jit_config: str) -> str:
    """The JIT config; Permanent when it is too long to be one."""
    if not jit_config or len(jit_config) > _LARGEST:
        raise Permanent(f"the JIT config has {len(jit_config)} bytes, expected 1 to {_LARGEST}")
    return jit_config


def write_files(jit_config: str, place: Path, account: Account) -> None:
    """Write what the runner's own configuration would have left in its directory."""
    for name, content in unpacked(jit_config).items():
        _create(place, name, content, 0o600, account)


@contextmanager
def passing_file(
    jit_config: str, place: Path, account: Account, seconds: float = _FILE_SECONDS
) -> Iterator[Path]:
    """A file with the JIT config for one reader; it is removed as soon as it was opened.

    After `seconds` it is removed unread.
    """
    name = PASSED
    _create(place, name, jit_config.encode(), 0o400, account)
    path = place / name
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        stack.callback(path.unlink, missing_ok=True)
        watch = _watch_opening(path)
        stack.callback(os.close, watch)
        loop.add_reader(watch, lambda: path.unlink(missing_ok=True))
        stack.callback(loop.remove_reader, watch)
        late = loop.call_later(seconds, lambda: path.unlink(missing_ok=True))
        stack.callback(late.cancel)
        yield path


def withheld(lines: list[str], jit_config: str) -> list[str]:
    """The lines, without those that hold a piece of the JIT config or of a secret in it."""
    secrets = [jit_config]
    with suppress(Permanent):  # not the known shape: the text itself is all there is to look for
        files = _files(jit_config)
        # Of GitHub's three files one is secret; of another program's settings any may be.
        hidden = [_KEY] if set(files) <= set(FILES) else list(files)
        secrets += [files.get(name, b"").decode(errors="replace") for name in hidden]
    return without(lines, secrets)


def without(lines: list[str], secrets: Iterable[str]) -> list[str]:
    """The lines, without those that hold a piece of a secret: 24 characters, or the whole of it."""
    pieces: dict[int, set[str]] = {}
    for secret in filter(None, secrets):
        size = min(len(secret), _WINDOW)
        found = {secret[at : at + size] for at in range(len(secret) - size + 1)}
        pieces.setdefault(size, set()).update(found)
    return [line for line in lines if not any(_holds(line, *each) for each in pieces.items())]


def _holds(line: str, size: int, pieces: set[str]) -> bool:
    return any(line[at : at + size] in pieces for at in range(len(line) - size + 1))


def _create(place: Path, name: str, content: bytes, mode: int, account: Account) -> None:
    """A new file of `account`; relative to the open directory, so that no link can redirect it."""
    directory = os.open(place, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, mode, dir_fd=directory), "wb") as file:  # noqa: PTH123 - opens a descriptor, not a path
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if account.other:
                os.fchown(file.fileno(), account.uid, account.gid)
    except FileExistsError:
        raise Permanent(
            f"{name} exists in the fresh directory; use a template of a runner that was never "
            "configured"
        ) from None
    finally:
        os.close(directory)


def _watch_opening(path: Path) -> int:
    """A descriptor that becomes readable when `path` is opened, see inotify(7)."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(path), _IN_OPEN) < 0:
        raise Permanent(f"cannot watch {path}: {os.strerror(ctypes.get_errno())}")
    return watch
