"""A database of an Azure Cosmos DB account: asked with a deadline, its errors made ours."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError
from azure.cosmos.partition_key import NonePartitionKeyValue, NullPartitionKeyValue

from mayfly.model.errors import InvalidSettings, MayflyError, Permanent, Transient

PATIENCE = timedelta(seconds=20)
"""For one question; no webhook waits for it, and a slow account is better than none."""
SESSION_BEHIND = 1002
"""Substatus of a 404 that only means: this replica has not seen our last write yet."""
_RIGHTS = (
    "give Mayfly's identity the built-in data role Cosmos DB Built-in Data Reader, or "
    "Contributor to grant and revoke"
)

Document = dict[str, Any]


class Denied(Transient):
    """The account will not have us as we are: somebody has to act, and it may work afterwards."""


class Missing(Permanent):
    """There is no such database or container."""


class Account:
    """Documents of the containers of one database."""

    def __init__(self, client: CosmosClient, host: str, database: str) -> None:
        self._client = client
        self._database = database
        self._place = f"database {database} of Cosmos DB account {host}"
        self._connected = False
        self._connecting = asyncio.Lock()

    async def query(self, container: str, text: str, **parameters: str) -> list[Document]:
        """Every document the query finds, in all partitions. Missing: no such container."""
        given: list[dict[str, object]] = [
            {"name": f"@{name}", "value": value} for name, value in parameters.items()
        ]
        async with self._asked(container) as proxy:
            return [found async for found in proxy.query_items(text, parameters=given)]

    async def create(self, container: str, document: Document) -> None:
        """Idempotent by the document's id."""
        async with self._asked(container) as proxy:
            try:
                await proxy.create_item(document)
            except ResourceExistsError:
                return

    async def delete(self, container: str, document: Document) -> None:
        """Idempotent; the whole document, because its partition key may be anything in it."""
        async with self._asked(container) as proxy:
            properties = await proxy.read()
            values = [_at(document, path) for path in properties["partitionKey"]["paths"]]
            try:
                await proxy.delete_item(
                    document["id"], partition_key=values if len(values) > 1 else values[0]
                )
            except ResourceNotFoundError:
                return

    @asynccontextmanager
    async def _asked(self, container: str) -> AsyncIterator[ContainerProxy]:
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await self._connect()
                database = self._client.get_database_client(self._database)
                yield database.get_container_client(container)
        except (AzureError, TimeoutError) as error:
            raise _ours(error, container, self._place) from error

    async def _connect(self) -> None:
        """The SDK asks the account about itself first, so this fails while that is away."""
        async with self._connecting:
            if not self._connected:
                await self._client.__aenter__()
                self._connected = True


@asynccontextmanager
async def open_account(url: str, database: str, key: str | None) -> AsyncIterator[Account]:
    """The account at `url`, by its key or the managed identity; nothing is asked of it yet."""
    host, local = _address(url)
    async with AsyncExitStack() as stack:
        credential: Any = _checked(key) if key else await stack.enter_async_context(_identity())
        client = CosmosClient(
            url,
            credential,
            retry_total=0,  # whoever asks asks again, and none of it takes longer than PATIENCE
            retry_throttle_total=0,
            connection_timeout=PATIENCE.total_seconds(),
            enable_endpoint_discovery=not local,  # what runs here knows no other regions
        )
        stack.push_async_callback(client.close)
        yield Account(client, host, database)


def _identity() -> Any:  # noqa: ANN401 - the SDK's type, and it is imported only where it is used
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 - half a second

    return DefaultAzureCredential()


def _address(url: str) -> tuple[str, bool]:
    """The host, and whether it is this machine."""
    try:
        parts = urlsplit(url)
        host, plain = parts.hostname or "", parts.scheme == "http"
        known = parts.scheme in {"http", "https"} and host and parts.username is None
        local = known and (host == "localhost" or _is_loopback(host))
    except ValueError:
        known = local = plain = False
    if not known or (plain and not local):
        raise InvalidSettings(
            "[access_rules] url must be the account's endpoint, as in "
            "https://ACCOUNT.documents.azure.com; http:// goes only to this machine"
        )
    return host, bool(local)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(key: str) -> str:
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSettings(
            "the Cosmos DB account's key is not base64; copy it again: "
            "az cosmosdb keys list --name ACCOUNT --resource-group GROUP"
        ) from None
    return key


def _ours(error: Exception, container: str, place: str) -> MayflyError:
    """The one table from the SDK's errors to ours; their own texts may be a page long."""
    where = f"container {container} in {place}"
    match error:
        case TimeoutError():
            ours: MayflyError = Transient(
                f"{place} did not answer within {PATIENCE.total_seconds():.0f} s"
            )
        case CosmosHttpResponseError(status_code=401):
            ours = Denied(
                f"{place} does not accept the key; put the account's present one into "
                "[access_rules] key_file or MAYFLY_COSMOS_KEY"
            )
        case CosmosHttpResponseError(status_code=403) if "firewall" in str(error).lower():
            ours = Transient(
                f"the firewall of {place} keeps this machine out; add its address there, or "
                "reach the account through a private endpoint"
            )
        case CosmosHttpResponseError(status_code=403):
            ours = Denied(f"no right to {where}; {_RIGHTS}")
        case CosmosHttpResponseError(status_code=404) if error.sub_status != SESSION_BEHIND:
            ours = Missing(
                f"there is no {where}; create it, with any partition key: az cosmosdb sql "
                f"container create --name {container} --partition-key-path /owner …"
            )
        case CosmosHttpResponseError():
            ours = Transient(f"{place} answered HTTP {error.status_code}")
        case ClientAuthenticationError():
            ours = Denied(
                f"no managed identity for {place}; give this machine one, or set "
                "[access_rules] key_file or MAYFLY_COSMOS_KEY"
            )
        case _:
            ours = Transient(f"{place} cannot be reached ({type(error).__name__})")

    return ours


def _at(document: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - a partition key is any JSON value
    """The value at a partition key's path, as the SDK wants it."""
    found: Any = document
    for name in path.strip("/").split("/"):
        inside = name.strip('"')
        if not isinstance(found, dict) or inside not in found:
            return NonePartitionKeyValue
        found = found[inside]
    return NullPartitionKeyValue if found is None else found
