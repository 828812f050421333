"""Which bus a command works on: the one mayfly.toml names, or a control plane's from afar."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from mayfly.backends import DeclareBus, OpenBus
from mayfly.bus import remote
from mayfly.cli import calls
from mayfly.cli.backends import backend
from mayfly.cli.settings import Settings, load
from mayfly.engine.clock import SystemClock
from mayfly.model.errors import NotFound
from mayfly.ports import OperableBus

_DEFAULT = Path("mayfly.toml")


class Choice(NamedTuple):
    """What a command was told, by its options."""

    config: Path | None
    url: str | None
    pools: tuple[str, ...]


class Opened(NamedTuple):
    """A bus, and the pools a command is about."""

    bus: OperableBus
    pools: list[str]


@asynccontextmanager
async def opened(choice: Choice) -> AsyncIterator[Opened]:
    """The bus itself, with its own credentials; or with a URL the control plane's.

    A bus in memory is in the control plane's process, so that one is asked, too.
    """
    settings = _settings(choice)
    if settings is None or settings.file.bus.backend == "memory":
        url = remote.with_token(choice.url or calls.url(), calls.token())
        async with remote.open_bus(url, SystemClock(), ()) as afar:
            yield Opened(afar, _chosen(await afar.subjects(), choice.pools))
        return
    known = settings.subjects
    open_bus: OpenBus = backend("buses", settings.file.bus.backend).open_bus
    async with open_bus(settings.bus_url.reveal(), SystemClock(), known) as bus:
        yield Opened(bus, _chosen(known, choice.pools))


async def declared(config: Path) -> list[str]:
    """Everything the pools of a file need on the bus it names is there; what that is."""
    settings = load(config)
    declare: DeclareBus = backend("buses", settings.file.bus.backend).declare
    return await declare(settings.bus_url.reveal(), settings.subjects)


def _settings(choice: Choice) -> Settings | None:
    """None when a control plane is to be asked; a file that is named comes before any URL."""
    if choice.config is None and choice.url is not None:
        return None
    return load(choice.config or _DEFAULT)


def _chosen(known: Sequence[str], wanted: tuple[str, ...]) -> list[str]:
    names = {name.lower(): name for name in known}
    for name in wanted:
        if name.lower() not in names:
            raise NotFound(f"there is no pool {name!r}; known pools: {', '.join(known)}")
    return [names[name.lower()] for name in wanted] or list(known)
