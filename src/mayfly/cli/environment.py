"""Files and environment variables: the only place that reads either; imports stay light."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from mayfly.model.errors import InvalidSettings

T = TypeVar("T")

_REFERENCE = "@Microsoft.KeyVault("

_LARGEST = 1e12
"""The largest fraction: as seconds it is more than anybody waits."""

ENVIRONMENT: Mapping[str, str] = os.environ


def variable(name: str, environment: Mapping[str, str] = ENVIRONMENT) -> str | None:
    """An environment variable, None when unset or empty.

    InvalidSettings for a reference to Azure Key Vault that the platform has not resolved: it would
    be taken for the secret, and everybody may know it.
    """
    value = environment.get(name) or None
    if value is not None and value.startswith(_REFERENCE):
        raise InvalidSettings(
            f"{name} is a Key Vault reference that was not resolved; look at the app's environment "
            "variables in the Azure portal, which say why"
        )
    return value


def taken(name: str) -> str | None:
    """An environment variable that nothing started from here shall have; None as above."""
    return os.environ.pop(name, None) or None


def read_secret(path: Path, what: str) -> str:
    """The text of a secret's file, without the white space around it."""
    try:
        secret = path.read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise InvalidSettings(f"{path} is not text; put {what} there") from None
    except OSError as error:
        raise InvalidSettings(f"cannot read {what} from {path}: {error.strerror}") from error
    if not secret:
        raise InvalidSettings(f"{path} is empty; put {what} there")
    return secret


def decoded(path: Path, kind: type[T], hint: str) -> T:
    """A TOML file as `kind`; InvalidSettings says which word is wrong, or gives the `hint`."""
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidSettings(f"there is no {path}; {hint}") from error
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from error
    try:
        told = msgspec.toml.decode(text)
        if (place := next(_senseless(told), None)) is not None:
            raise InvalidSettings(f"{path}: {place}")
        return msgspec.toml.decode(text, type=kind, dec_hook=path_hook)
    except msgspec.ValidationError as error:
        raise InvalidSettings(f"{path}: {_located(str(error))}") from error
    except ValueError as error:
        raise InvalidSettings(f"{path} is not valid TOML: {error}") from error


def path_hook(kind: type, value: object) -> object:
    """msgspec's hook for types TOML does not have."""
    if kind is Path:
        if isinstance(value, str):
            return Path(value)
        raise ValueError("Expected `str`, a path")
    raise NotImplementedError(f"{kind} is not a type of a settings file")


def _senseless(told: object, place: str = "") -> Iterator[str]:
    """What TOML allows, and what no setting can mean, wherever it stands."""
    if isinstance(told, dict):
        for name, value in told.items():
            yield from _senseless(value, f"{place}.{name}".lstrip("."))
    elif isinstance(told, list):
        for number, value in enumerate(told):
            yield from _senseless(value, f"{place}[{number}]")
    elif isinstance(told, float) and not abs(told) <= _LARGEST:
        yield f"{place}: {told} is not a number of use here"
    elif isinstance(told, str) and "\0" in told:
        yield f"{place}: the text holds a NUL"


def _located(message: str) -> str:
    """msgspec's "REASON - at `$.pools[0].max`" with the place first."""
    reason, _, place = message.partition(" - at `$")
    return f"{place.rstrip('`').lstrip('.')}: {reason}" if place else reason
