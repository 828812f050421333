"""One client's connection: its links, and what goes over them."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Protocol, cast

from proton import (
    Collector,
    Condition,
    Connection,
    Data,
    Delivery,
    Described,
    Endpoint,
    Message,
    ProtonException,
    Transport,
)

from tests.servers.servicebus.entities import LARGEST, LockLost, Namespace, Queue
from tests.servers.servicebus.requests import answered, outgoing

CREDIT = 1000
DATA_SECTION = 0x75
DESCRIBED_SECTION = b"\x00\x53"
"""How every encoded message starts; the real thing tells a batch by its message format."""
LOCK_LOST = (
    "com.microsoft:message-lock-lost",
    "The lock supplied is invalid: it expired, or the message has already been removed.",
)


class Server(Protocol):
    """What a connection needs of the whole."""

    namespace: Namespace
    refusals: dict[str, str]
    peers: "list[Peer]"

    def flush(self) -> None: ...
    def knows(self, token: str) -> bool: ...


class Peer(asyncio.Protocol):
    """AMQP's state machine is proton's; this feeds it bytes and answers its events."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._engine = Transport(Transport.SERVER)
        self._collector = Collector()
        self._connection = Connection()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        self._connection.collect(self._collector)
        self._engine.sasl().allowed_mechs("ANONYMOUS")
        self._engine.bind(self._connection)
        self._server.peers.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.peers.remove(self)
        self.lost.set()

    def abort(self) -> None:
        """Gone, in the middle of whatever it was doing."""
        self._wire.abort()

    def data_received(self, data: bytes) -> None:
        while data and not self._wire.is_closing():
            room = self._capacity()
            if room <= 0:
                break
            self._engine.push(data[:room])
            data = data[room:]
            self._work()
        self._server.flush()

    def deliver(self) -> None:
        """Give messages to links with credit, and write what is to be written."""
        if self.lost.is_set() or self._wire.is_closing():
            return
        for link in self._links():
            queue = self._server.namespace.queue(_path(link))
            if link.is_sender and queue is not None:
                self._fill(link, queue)
        self._work()

    def _fill(self, link: Any, queue: Queue) -> None:
        while link.credit > 0 and (stored := queue.acquired()):
            assert stored.lock is not None
            delivery = link.delivery(stored.lock.bytes_le)
            delivery.lock = stored.lock
            link.stream(outgoing(stored))
            link.advance()
        if link.drain_mode:
            link.drained()

    def _work(self) -> None:
        while event := self._collector.peek():
            if answer := getattr(self, event.type.method, None):
                answer(event)
            self._collector.pop()
        try:
            while (pending := self._engine.pending()) > 0:
                self._wire.write(self._engine.peek(pending) or b"")
                self._engine.pop(pending)
        except ProtonException:
            self._wire.close()

    def _capacity(self) -> int:
        try:
            return int(self._engine.capacity())
        except ProtonException:
            return 0

    def _links(self) -> Iterator[Any]:
        both = Endpoint.LOCAL_ACTIVE | Endpoint.REMOTE_ACTIVE
        link = self._connection.link_head(both)
        while link:
            yield link
            link = link.next(both)

    def on_connection_remote_open(self, event: Any) -> None:
        event.connection.container = "servicebus"
        event.connection.open()

    def on_connection_remote_close(self, event: Any) -> None:
        event.connection.close()

    def on_session_remote_open(self, event: Any) -> None:
        event.session.open()

    def on_session_remote_close(self, event: Any) -> None:
        event.session.close()

    def on_link_remote_open(self, event: Any) -> None:
        link = event.link
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.snd_settle_mode = link.remote_snd_settle_mode
        link.rcv_settle_mode = link.remote_rcv_settle_mode
        if link.is_receiver:
            link.max_message_size = LARGEST
        link.open()
        path = _path(link)
        if not self._exists(path, is_topic=link.is_receiver):
            link.condition = _condition(
                "amqp:not-found", f"The messaging entity '{path}' could not be found."
            )
            link.close()
        elif link.is_receiver:
            link.flow(CREDIT)

    def _exists(self, path: str, *, is_topic: bool) -> bool:
        names = self._server.namespace
        if path == "$cbs":
            return True
        if path.endswith("/$management"):
            owner = path.removesuffix("/$management")
            return names.queue(owner) is not None or names.topic(owner) is not None
        return (names.topic(path) if is_topic else names.queue(path)) is not None

    def on_link_remote_close(self, event: Any) -> None:
        event.link.close()

    def on_link_remote_detach(self, event: Any) -> None:
        event.link.detach()

    def on_delivery(self, event: Any) -> None:
        if event.link.is_receiver:
            self._arrived(event.link, event.delivery)
        elif event.delivery.remote_state or event.delivery.settled:
            self._settled(event.link, event.delivery)

    def _arrived(self, link: Any, delivery: Delivery) -> None:
        if delivery.partial or not delivery.readable:
            return
        encoded = link.recv(delivery.pending)
        link.advance()
        link.flow(1)
        refusal = self._taken(link, encoded)
        if refusal is None:
            delivery.update(Delivery.ACCEPTED)
        else:
            delivery.local.condition = _condition(*refusal)
            delivery.update(Delivery.REJECTED)
        delivery.settle()

    def _taken(self, link: Any, encoded: bytes) -> tuple[str, str] | None:
        """What a client sent; why it was rejected, if it was."""
        path = _path(link)
        if path == "$cbs" or path.endswith("/$management"):
            self._answer(path, encoded)
            return None
        if condition := self._server.refusals.get(path):
            return condition, "as the test wants it"
        if len(encoded) > LARGEST:
            return "amqp:link:message-size-exceeded", f"more than {LARGEST} bytes"
        topic = self._server.namespace.topic(path)
        if topic is None:
            return "amqp:not-found", f"The messaging entity '{path}' could not be found."
        for part in _parts(encoded):
            message = Message()
            message.decode(part)
            ttl = timedelta(seconds=message.ttl) if message.ttl else None
            topic.publish(part, message.subject, str(message.id), ttl)
        return None

    def _answer(self, path: str, encoded: bytes) -> None:
        request = Message()
        request.decode(encoded)
        answer = answered(self._server, path, request)
        for link in self._links():
            if link.is_sender and _path(link) == path:
                delivery = link.delivery(str(request.id))
                link.stream(answer.encode())
                link.advance()
                delivery.settle()

    def _settled(self, link: Any, delivery: Any) -> None:
        queue = self._server.namespace.queue(_path(link))
        state = delivery.remote_state
        if queue is not None and state and hasattr(delivery, "lock"):
            try:
                _apply(queue, delivery, state)
                delivery.update(state)
            except LockLost:
                delivery.local.condition = _condition(*LOCK_LOST)
                delivery.update(Delivery.REJECTED)
        delivery.settle()


def _apply(queue: Queue, delivery: Any, state: int) -> None:
    if state == Delivery.ACCEPTED:
        queue.complete(delivery.lock)
    elif state == Delivery.RELEASED:
        queue.release(delivery.lock)
    elif state == Delivery.MODIFIED:
        queue.abandon(delivery.lock)
    elif state == Delivery.REJECTED:
        told = delivery.remote.condition.info or {}
        queue.bury(
            delivery.lock, told.get("DeadLetterReason"), told.get("DeadLetterErrorDescription")
        )


def _path(link: Any) -> str:
    """The entity of a link, whose address may be a whole url."""
    terminus = link.remote_source if link.is_sender else link.remote_target
    address = str(terminus.address)
    return address.split("/", 3)[3] if "://" in address else address


def _condition(name: str, description: str) -> Condition:
    # proton leaves out a trailing null, and azure-servicebus reads the third field all the same
    return Condition(name, description, {"stand-in": "yes"})


def _parts(encoded: bytes) -> list[bytes]:
    """The messages of a batch, which travel as the data sections of one; else the message."""
    bodies = [
        bytes(cast("bytes", one.value))
        for one in _sections(encoded)
        if one.descriptor == DATA_SECTION
    ]
    is_batch = bodies and all(body.startswith(DESCRIBED_SECTION) for body in bodies)
    return bodies if is_batch else [encoded]


def _sections(encoded: bytes) -> Iterator[Described]:
    while encoded:
        data = Data()
        used = data.decode(encoded)
        data.rewind()
        data.next()
        yield data.get_py_described()
        encoded = encoded[used:]
