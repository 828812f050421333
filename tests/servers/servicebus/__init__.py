"""A small Azure Service Bus: AMQP 1.0 for the real SDK, and a clock only the test moves.

Followed, with the document of learn.microsoft.com/azure/service-bus-messaging it is from:

* topics, subscriptions, rules, `$Default`, silent drop without a subscription (topic-filters);
* peek-lock, delivery counts, `MaxDeliveryCountExceeded` (message-transfers-locks-settlement,
  service-bus-dead-letter-queues): a count grows when a message is abandoned or its lock ends;
* a lock belongs to its token and not to its link, so a closed link does not end it;
* peeking shows locked messages and may not show expired ones (message-browsing);
* duplicate detection by message id in a window of ten minutes (duplicate-detection);
* time to live as the least of message, topic and subscription, none in a dead-letter queue
  (message-expiration);
* `$cbs`, `$management` (`peek-message`, `renew-lock`, `update-disposition`) and the error
  conditions (service-bus-amqp-request-response, service-bus-amqp-protocol-guide,
  service-bus-amqp-troubleshoot): the names are what azure-servicebus maps to its exceptions.

Guessed: a *released* message keeps its count, as AMQP has it; a dead message keeps the time of its
coming. Left out: sessions, transactions, scheduling, deferral, partitions, TLS, SQL filters,
per-claim rights, quotas that count, geography. It is one event loop with the test that uses it.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

from tests.servers.servicebus.entities import Namespace
from tests.servers.servicebus.links import Peer

KEY_NAME = "RootManageSharedAccessKey"
KEY = "a-key-nobody-may-see=="


class ServiceBusStandIn:
    """A namespace on a port of its own; `stop` and `start` keep what is in it."""

    def __init__(self, time: datetime) -> None:
        self.time = time
        self.namespace = Namespace(lambda: self.time)
        self.refusals: dict[str, str] = {}
        """An entity's path to the error condition every message sent to it is rejected with."""
        self.port = 0
        self.peers: list[Peer] = []
        self._server: asyncio.Server | None = None

    def url(self, key: str = KEY) -> str:
        """The connection string, in the form the SDK speaks plain TCP for."""
        return (
            f"Endpoint=sb://127.0.0.1:{self.port};SharedAccessKeyName={KEY_NAME};"
            f"SharedAccessKey={key};UseDevelopmentEmulator=true;"
        )

    def advance(self, seconds: float) -> None:
        """So much time goes by for every message."""
        self.time += timedelta(seconds=seconds)
        self.flush()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Peer(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Nobody is told: every connection breaks."""
        if self._server is not None:
            self._server.close()
        broken = list(self.peers)
        for peer in broken:
            peer.abort()
        await asyncio.gather(*(peer.lost.wait() for peer in broken))
        self._server = None

    def flush(self) -> None:
        """Hand every message that can be handed to somebody, and write it all out."""
        for peer in list(self.peers):
            peer.deliver()

    def knows(self, token: str) -> bool:
        """Whether a SharedAccessSignature is signed with our key."""
        fields = dict(
            part.partition("=")[::2]
            for part in token.removeprefix("SharedAccessSignature ").split("&")
        )
        signed = f"{fields.get('sr')}\n{fields.get('se')}".encode()
        expected = hmac.new(KEY.encode(), signed, hashlib.sha256).digest()
        return unquote(fields.get("sig", "")) == base64.b64encode(expected).decode()


@asynccontextmanager
async def opened_service_bus() -> AsyncIterator[ServiceBusStandIn]:
    """An empty namespace; its time is the machine's at the start, because the SDK compares."""
    now = datetime.now(UTC)
    stand_in = ServiceBusStandIn(now.replace(microsecond=now.microsecond // 1000 * 1000))
    await stand_in.start()
    try:
        yield stand_in
    finally:
        await stand_in.stop()
