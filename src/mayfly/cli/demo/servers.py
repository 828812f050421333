"""Where a demo keeps its ledger and its bus: files of its own, or names of its own on servers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

from mayfly.backends import DeclareBus, Elsewhere, RemoveBus
from mayfly.cli.backends import backend
from mayfly.cli.demo.endings import to_its_end
from mayfly.cli.demo.script import POOLS
from mayfly.cli.environment import variable
from mayfly.model.errors import InvalidSettings, MayflyError, Transient

STORES = ("sqlite", "postgres")
BUSES = ("sql", "sqlite", "postgres", "rabbitmq", "servicebus", "memory")
DEFAULTS = {
    "postgres": "postgresql://postgres@127.0.0.1:5432/postgres",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672/",
}
STORE_URL, BUS_URL = "MAYFLY_STORE_URL", "MAYFLY_BUS_URL"


class Own(NamedTuple):
    """What a demo makes on a server; to remove what is not there is no error."""

    shown: str
    make: Callable[[], Awaitable[object]]
    remove: Callable[[], Awaitable[object]]
    named_by: str
    """The variable with the server's url."""


class Place(NamedTuple):
    """Where the ledger or the bus is, as `[store]` or `[bus]` has it."""

    shown: str
    backend: str
    url: str | None
    """It may hold a password; None: the store's, or none."""
    own: Own | None = None


class Places(NamedTuple):
    """Both of one demo."""

    store: Place
    bus: Place


def checked(store: str, bus: str) -> None:
    """InvalidSettings for a word that is none of ours."""
    for word, option, known in ((store, "--store", STORES), (bus, "--bus", BUSES)):
        if word not in known:
            raise InvalidSettings(f"{option} {word!r} is unknown; choose {', '.join(known)}")


def chosen(
    store: str, bus: str, *, made: Path, name: str, environment: Mapping[str, str]
) -> Places:
    """`name` is what is the demo's own on every server; `made` is its work directory."""
    kept = _store(store, made, name, variable(STORE_URL, environment))
    return Places(kept, _bus(bus, store, made, name, variable(BUS_URL, environment)))


@asynccontextmanager
async def borrowed(place: Place, left: list[str]) -> AsyncIterator[None]:
    """What the demo needs is there, and is removed afterwards; `left` gets what could not be."""
    if place.own is None:
        yield
        return
    own = place.own
    with _advised(own):
        # Not there yet: the server answers, and lets us remove, before there is something to lose.
        await own.remove()
    try:
        with _advised(own):
            await own.make()
        yield
    finally:
        await to_its_end(_removed(own, left))


def _store(store: str, made: Path, name: str, url: str | None) -> Place:
    if store == "postgres":
        return _database(url or DEFAULTS["postgres"], name, STORE_URL)
    return Place("SQLite", "sql", f"sqlite:///{made}/mayfly.sqlite")


def _bus(bus: str, store: str, made: Path, name: str, url: str | None) -> Place:
    # Two of a kind are one database, as without any [bus], unless the bus is given its own server.
    if bus == "sql" or (bus == store and (bus == "sqlite" or url is None)):
        return Place("the same database", "sql", None)
    if bus == "memory":
        return Place("memory", "memory", None)
    if bus == "sqlite":
        return Place("SQLite", "sql", f"sqlite:///{made}/bus.sqlite")
    if bus == "postgres":
        return _database(url or DEFAULTS["postgres"], f"{name}_bus", BUS_URL)
    server = url or DEFAULTS.get(bus)
    if server is None:
        raise InvalidSettings(
            f"--bus {bus} needs the connection string of a namespace in {BUS_URL}, "
            "with a key that may manage"
        )
    return _entities(bus, server, name)


def _database(url: str, name: str, named_by: str) -> Place:
    try:
        from mayfly.database.creations import NewDatabase
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"PostgreSQL needs {error.name}; install mayfly-runners[postgres]"
        ) from error
    try:
        new = NewDatabase(url, name)
    except InvalidSettings as error:
        raise InvalidSettings(f"{named_by}: {error}") from error
    shown = f"PostgreSQL, database {new.place}"
    return Place(shown, "sql", new.url, Own(shown, new.create, new.drop, named_by))


def _entities(bus: str, url: str, name: str) -> Place:
    module = backend("buses", bus)
    declare: DeclareBus = module.declare
    remove: RemoveBus = module.remove
    try:
        there: Elsewhere = module.elsewhere(url, name)
    except InvalidSettings as error:
        raise InvalidSettings(f"{BUS_URL}: {error}") from error
    own = Own(
        there.shown,
        lambda: declare(there.url, POOLS),
        lambda: remove(there.url, POOLS),
        BUS_URL,
    )
    return Place(there.shown, bus, there.url, own)


@contextmanager
def _advised(own: Own) -> Iterator[None]:
    try:
        yield
    except MayflyError as error:
        act = "start it, or name" if isinstance(error, Transient) else "or name"
        raise type(error)(f"{error} ({act} another server in {own.named_by})") from error


async def _removed(own: Own, left: list[str]) -> None:
    try:
        await own.remove()
    except MayflyError as error:
        left.append(f"{own.shown}: {error}")
