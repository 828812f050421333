"""A stand-in for an Azure Cosmos DB account, on this machine; what it keeps is gone with it."""

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from azure.cosmos import PartitionKey
from azure.cosmos.aio import CosmosClient

from tests.servers.absent import absent

PROGRAM = Path(sys.prefix, "cosmos/node_modules/@vercel/cosmosdb-server/lib/cli.js")
KEY = "bm90IGEgc2VjcmV0LCBvZiBhIHN0YW5kLWluIA=="
CONTAINERS = ("AllowOwner", "AllowRepository")


class Cosmos:
    """The account: it can be killed, and started again at the same address, empty."""

    def __init__(self) -> None:
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """It answers once this returns."""
        command = ["node", str(PROGRAM), "-p", str(self._port), "--host", "127.0.0.1", "--no-ssl"]
        if shutil.which("setpriv"):  # so that it ends with us, even when we are killed
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert "Ready" in said, f"the stand-in said {said!r}"
        self._port = int(said.rpartition(":")[2])

    def kill(self) -> None:
        """Gone at once, without a word."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            with process:
                pass

    @asynccontextmanager
    async def client(self) -> AsyncIterator[CosmosClient]:
        options: dict[str, Any] = {"enable_endpoint_discovery": False, "retry_total": 0}
        async with CosmosClient(self.url, KEY, **options) as client:
            yield client

    async def create(
        self, database: str, containers: tuple[str, ...] = CONTAINERS, key: str = "/owner"
    ) -> None:
        """A database with empty containers, partitioned by `key`."""
        async with self.client() as client:
            await client.create_database_if_not_exists(database)
            made = client.get_database_client(database)
            for container in containers:
                await made.create_container(container, partition_key=PartitionKey(key))

    async def put(self, database: str, container: str, **document: Any) -> None:
        """A document, as its owners' own tools would put it there."""
        async with self.client() as client:
            made = client.get_database_client(database).get_container_client(container)
            await made.create_item(document, enable_automatic_id_generation=True)

    async def documents(self, database: str, container: str) -> list[dict[str, Any]]:
        """All of a container, without the account's own fields."""
        async with self.client() as client:
            made = client.get_database_client(database).get_container_client(container)
            return [
                {name: value for name, value in found.items() if not name.startswith("_")}
                async for found in made.query_items("SELECT * FROM c")
            ]


@contextmanager
def running() -> Iterator[Cosmos]:
    """An account that answers; skips where it cannot be started, and fails there in CI."""
    if not shutil.which("node") or not PROGRAM.exists():
        absent(f"Cosmos DB's stand-in needs node and {PROGRAM}; make .venv/.installed")
    account = Cosmos()
    try:
        account.start()
        yield account
    finally:
        account.kill()
