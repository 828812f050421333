"""Where a measured control plane keeps its ledger and its runner requests: servers of its own."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from tests.servers import postgres, rabbitmq


class Place(NamedTuple):
    """What is measured: a name for people, the store, and the bus."""

    name: str
    store: str
    bus: str

    def settings(self, file: str, servers: "Servers") -> str:
        """The tables of mayfly.toml, for a fresh ledger."""
        store = servers.database() if self.store == "postgres" else f"sqlite:///{file}"
        bus = servers.queue() if self.bus == "rabbitmq" else store
        kind = "rabbitmq" if self.bus == "rabbitmq" else "sql"
        return f'[store]\nurl = "{store}"\n[bus]\nbackend = "{kind}"\nurl = "{bus}"\n'


SQLITE = Place("SQLite", "sqlite", "sql")
POSTGRES = Place("PostgreSQL", "postgres", "sql")
SQLITE_RABBITMQ = Place("SQLite + RabbitMQ", "sqlite", "rabbitmq")
POSTGRES_RABBITMQ = Place("PostgreSQL + RabbitMQ", "postgres", "rabbitmq")


class Servers:
    """Started when first asked for; durable, as an operator would run them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._postgres: postgres.PostgresServer | None = None
        self._rabbitmq: rabbitmq.RabbitMQServer | None = None

    def database(self) -> str:
        """The url of an empty database."""
        if self._postgres is None:
            self._postgres = postgres.PostgresServer(fsync=True)
            self._stack.callback(self._postgres.remove)
            self._postgres.start()
        return self._postgres.created()

    def queue(self) -> str:
        """The url of the server, without queues; they are declared by who opens them."""
        if self._rabbitmq is None:
            self._rabbitmq = rabbitmq.RabbitMQServer()
            self._stack.callback(self._rabbitmq.remove)
            self._rabbitmq.start()
        server = self._rabbitmq
        with ThreadPoolExecutor(1) as beside:
            beside.submit(lambda: asyncio.run(server.clear("linux"))).result()
        return server.url()


@contextmanager
def servers() -> Iterator[Servers]:
    """Gone afterwards."""
    with ExitStack() as stack:
        yield Servers(stack)
