"""Launchers as mayfly.toml declares them, each with the settings its backend asks for."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from mayfly.backends import OpenLauncher
from mayfly.cli.backends import backend
from mayfly.cli.environment import path_hook
from mayfly.cli.settings import Settings
from mayfly.engine.clock import SystemClock
from mayfly.model.errors import InvalidSettings
from mayfly.model.pools import Pool
from mayfly.ports import Clock, Launcher


class Configured(NamedTuple):
    """A backend, and what it was told."""

    open_launcher: OpenLauncher
    settings: object


def configured(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Configured]:
    """The launchers of `[launchers.NAME]`; InvalidSettings says which word is wrong."""
    return {name: _configured(name, dict(table)) for name, table in tables.items()}


async def check(settings: Settings) -> None:
    """Open every launcher as `serve` would; InvalidSettings when one can never work."""
    file = settings.file
    configured(file.launchers)  # those that no pool names, too
    async with open_launchers(file.launchers, settings.pools, file.server.url, SystemClock()):
        pass  # no platform is asked for anything


@asynccontextmanager
async def open_launchers(
    tables: Mapping[str, Mapping[str, Any]], pools: Iterable[Pool], server: str | None, clock: Clock
) -> AsyncIterator[dict[str, Launcher]]:
    """The launcher of each elastic pool, by the pool's name."""
    users: dict[str, list[str]] = {}
    for pool in pools:
        if pool.launcher is not None:
            users.setdefault(pool.launcher, []).append(pool.name)
    known, opened = configured(tables), dict[str, Launcher]()
    async with AsyncExitStack() as stack:
        for name, served in users.items():
            launcher = await stack.enter_async_context(
                known[name].open_launcher(
                    known[name].settings, server=server or "", pools=served, clock=clock
                )
            )
            opened |= dict.fromkeys(served, launcher)
        yield opened


def _configured(name: str, table: dict[str, Any]) -> Configured:
    module = backend("launchers", table.pop("backend"))
    try:
        settings = msgspec.convert(table, module.Settings, dec_hook=path_hook)
    except msgspec.ValidationError as error:
        raise InvalidSettings(f"[launchers.{name}] {error}") from error
    return Configured(module.open_launcher, settings)
