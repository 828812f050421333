"""Links to Azure Service Bus: an address, the SDK's handles around it, and its errors as ours."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import NamedTuple, TypeVar

from azure.core.exceptions import AzureError
from azure.identity.aio import DefaultAzureCredential
from azure.servicebus import exceptions as sdk
from azure.servicebus import parse_connection_string
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender

from mayfly.model.errors import InvalidSettings, MayflyError, Permanent, Transient

TOPIC = "mayfly"
_ATTEMPT_SECONDS = 4.0
"""To open a link or to be answered on it, once."""
ANSWER_TIME = timedelta(seconds=10)
"""Two attempts and what lies between; then a verb raises Transient."""
CLOSE_TIME = timedelta(seconds=5)
DECLARE = "run `mayfly bus declare`"

_ADDRESS = re.compile(r"sb://(?P<namespace>[A-Za-z0-9.-]+)(?:/(?P<topic>[^/?#]+))?/?")
_NAMESPACE = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")
"""As errors show it."""
_BROKEN = (sdk.ServiceBusConnectionError, sdk.ServiceBusCommunicationError)
"""What a link says that was closed because nobody used it for ten minutes; the next one works."""
_RIGHTS = "it needs the roles Azure Service Bus Data Sender and Azure Service Bus Data Receiver"
_OURS: tuple[tuple[type[Exception], type[MayflyError], str], ...] = (
    (sdk.MessagingEntityNotFoundError, Permanent, f"there is no such thing; {DECLARE}"),
    (sdk.MessagingEntityDisabledError, Permanent, "it is disabled; enable it in the portal"),
    (sdk.ServiceBusAuthenticationError, Permanent, f"our credential is not accepted; {_RIGHTS}"),
    (sdk.ServiceBusAuthorizationError, Permanent, f"we are not allowed to use it; {_RIGHTS}"),
    (sdk.MessageSizeExceededError, Permanent, "a message is larger than it takes"),
    (sdk.ServiceBusQuotaExceededError, Transient, "it is full, or has too many connections"),
    (sdk.ServiceBusServerBusyError, Transient, "it is busy"),
    (sdk.OperationTimeoutError, Transient, "no answer in time"),
    (sdk.ServiceBusConnectionError, Transient, "it cannot be reached"),
    (sdk.ServiceBusCommunicationError, Transient, "it cannot be reached"),
    (AzureError, Transient, "it failed"),
)
"""The first line that fits. None of the SDK's texts is kept: they are long, and not ours to vet."""

# Whatever goes wrong is raised as one of our errors; the frames in these logs hold tokens.
for _name in ("azure.servicebus", "azure.identity"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

T = TypeVar("T")


class Address(NamedTuple):
    """Which topic of which namespace."""

    namespace: str
    topic: str
    connection_string: str | None
    """A secret; None: the managed identity is used."""


def parsed(url: str) -> Address:
    """The address in `[bus] url`; InvalidSettings without the secrets that are in it."""
    if match := _ADDRESS.fullmatch(url):
        return Address(match["namespace"], match["topic"] or TOPIC, None)
    try:
        found = parse_connection_string(url)
    except ValueError:
        raise _not_an_address() from None  # the SDK's text may quote it
    if not _NAMESPACE.fullmatch(found.fully_qualified_namespace):
        raise _not_an_address()
    return Address(found.fully_qualified_namespace, found.entity_path or TOPIC, url)


def renamed(url: str, topic: str) -> str:
    """The url for another topic of the same namespace."""
    address = parsed(url)
    if address.connection_string is None:
        return f"sb://{address.namespace}/{topic}"
    kept = [part for part in url.split(";") if part and not part.lower().startswith("entitypath=")]
    return ";".join([*kept, f"EntityPath={topic}"])


def _not_an_address() -> InvalidSettings:
    return InvalidSettings(
        "[bus] url is not an address of Service Bus; use "
        "sb://NAMESPACE.servicebus.windows.net/TOPIC for a managed identity, or "
        "Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=… for a key"
    )


@asynccontextmanager
async def opened_client(address: Address) -> AsyncIterator[ServiceBusClient]:
    """Links are made of it; it connects to nothing by itself, and retries nothing."""
    async with AsyncExitStack() as stack:
        # Retries are Link's: the SDK's would open one link twice when two calls find it broken.
        if address.connection_string is None:
            credential = await stack.enter_async_context(DefaultAzureCredential())
            client = ServiceBusClient(
                address.namespace, credential, retry_total=0, try_timeout=_ATTEMPT_SECONDS
            )
        else:
            client = ServiceBusClient.from_connection_string(
                address.connection_string, retry_total=0, try_timeout=_ATTEMPT_SECONDS
            )
        yield client


def ours(error: Exception, what: str) -> MayflyError:
    """The SDK's error as one of ours."""
    for theirs, kind, sentence in _OURS:
        if isinstance(error, theirs):
            return kind(f"Service Bus, {what}: {sentence}")
    return Transient(f"Service Bus, {what}: {type(error).__name__}")


class Link:
    """One handle of the SDK, kept open: to open one takes half a second."""

    def __init__(self, handle: ServiceBusReceiver | ServiceBusSender, what: str) -> None:
        self._handle = handle
        self._what = what
        self._opening = asyncio.Lock()
        self._calls: set[asyncio.Task[object]] = set()

    async def open(self) -> None:
        """Nothing is done when it is open."""
        await self.call(_nothing)

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` answers; Transient after ANSWER_TIME.

        A call goes on when its caller is cancelled, because the SDK loses its place in the
        stream of bytes when it is cancelled itself.
        """
        task = asyncio.create_task(self._called(work))
        self._calls.add(task)
        task.add_done_callback(self._forget)
        try:
            async with asyncio.timeout(ANSWER_TIME.total_seconds()):
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise ours(sdk.OperationTimeoutError(), self._what) from error

    async def close(self) -> None:
        """Idempotent; messages on their way to us are given back."""
        with contextlib.suppress(TimeoutError, AzureError, OSError):
            async with asyncio.timeout(CLOSE_TIME.total_seconds()):
                await asyncio.gather(*self._calls, return_exceptions=True)
                await self._handle.close()
        for call in self._calls:
            call.cancel()

    async def _called(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._tried(work)
        except _BROKEN:
            pass
        except (AzureError, ValueError) as error:
            raise ours(error, self._what) from error
        try:
            return await self._tried(work)
        except (AzureError, ValueError) as error:
            raise ours(error, self._what) from error

    async def _tried(self, work: Callable[[], Awaitable[T]]) -> T:
        async with self._opening:
            await self._handle.__aenter__()
        return await work()

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be there any more to hear of it


async def _nothing() -> None:
    pass
