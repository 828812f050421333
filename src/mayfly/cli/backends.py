"""Backends, found by their entry points."""

from importlib.metadata import entry_points
from types import ModuleType
from typing import cast

from mayfly.model.errors import InvalidSettings, not_installed

EXTRAS = {
    "container_apps": "azure",
    "cosmos": "azure",
    "podman": "container",
    "servicebus": "azure",
}
"""The extra that installs a backend, where it is not called like it."""


def backend(kind: str, name: str) -> ModuleType:
    """The module of a backend, by its entry point (`mayfly.KIND`)."""
    known = {point.name: point for point in entry_points(group=f"mayfly.{kind}")}
    if name not in known:
        choice = ", ".join(sorted(known))
        raise InvalidSettings(f"there is no backend {name!r} among mayfly.{kind}; known: {choice}")
    try:
        return cast("ModuleType", known[name].load())
    except ImportError as error:
        raise not_installed(f"backend {name!r}", EXTRAS.get(name, name), error) from error
