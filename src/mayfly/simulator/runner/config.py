"""The JIT config: found wherever it was put, decoded, and removed from where a job could see it."""

# os.path, because an idle start must be fast and pathlib alone costs 10 ms.
# ruff: noqa: PTH108, PTH110, PTH118, PTH123
from __future__ import annotations

import base64
import json
import os
import sys
from contextlib import suppress

TYPE_CHECKING = False  # typing's own, without importing typing
if TYPE_CHECKING:
    from .wire import Json

INPUT = "ACTIONS_RUNNER_INPUT_"


class UnusableConfig(Exception):
    """The JIT config is missing or corrupt."""


def find_config(arguments: list[str]) -> dict[str, dict[str, Json]]:
    """The runner's files by name, from wherever they were put."""
    given = os.environ.pop(INPUT + "JITCONFIG", None)
    options = _options(arguments)
    if "--jitconfig-stdin" in options:
        return decode(sys.stdin.read())
    if "--jitconfig-file" in options:
        return decode(_take(options["--jitconfig-file"]))
    if "--jitconfig" in options:
        return decode(options["--jitconfig"])
    root = options.get("--root", ".")
    if os.path.exists(os.path.join(root, ".runner")):
        return _files(root)
    if given is None:
        raise UnusableConfig("no JIT config: give --jitconfig-stdin, a file, or the environment")
    return decode(given)


def _options(arguments: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    rest = iter(arguments)
    for word in rest:
        name, joined, value = word.partition("=")
        if name in {"--jitconfig-file", "--jitconfig", "--root"}:
            options[name] = value if joined else next(rest, "")
        else:
            # Words of the official program that change nothing here are let pass.
            options[name] = ""
    return options


def decode(blob: str) -> dict[str, dict[str, Json]]:
    """Unpack a JIT config."""
    try:
        outer = json.loads(base64.b64decode(blob.strip(), validate=True))
        return {name: json.loads(base64.b64decode(inner)) for name, inner in outer.items()}
    except (ValueError, AttributeError, TypeError):
        raise UnusableConfig("the JIT config is corrupt") from None


def _take(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            blob = file.read()
    except OSError as error:
        raise UnusableConfig(f"the JIT config file is unreadable: {error}") from None
    _unlink(path)
    return blob


def _files(root: str) -> dict[str, dict[str, Json]]:
    files = {}
    for name in (".runner", ".credentials"):
        path = os.path.join(root, name)
        try:
            with open(path, encoding="utf-8-sig") as file:
                files[name] = json.load(file)
        except (OSError, ValueError) as error:
            raise UnusableConfig(f"{path}: {error}") from None
    # The job runs beside these files and must not find a credential in them.
    for name in (".credentials", ".credentials_rsaparams"):
        _unlink(os.path.join(root, name))
    return files


def _unlink(path: str) -> None:
    # Somebody else's file, or a read-only place: then it is not ours to remove.
    with suppress(OSError):
        os.unlink(path)
