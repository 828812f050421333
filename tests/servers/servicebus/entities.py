"""What a namespace keeps: topics, their subscriptions, and the messages in them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from uuid import UUID, uuid4

Now = Callable[[], datetime]

LARGEST = 256 * 1024
"""Bytes of a message on the Standard tier."""
DUPLICATES_WINDOW = timedelta(minutes=10)
"""How long a message id is remembered; the service's default."""


class LockLost(Exception):
    """The message is not locked, or not by this token any more."""


@dataclass
class Stored:
    """One copy of a message in one queue."""

    encoded: bytes
    sequence: int
    subject: str | None
    enqueued_at: datetime
    expires_at: datetime
    deliveries: int = 0
    lock: UUID | None = None
    locked_until: datetime | None = None
    reason: str | None = None
    description: str | None = None


@dataclass
class Queue:
    """Messages in the order of their coming; a dead-letter queue is one, too."""

    now: Now
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    lock_time: timedelta = timedelta(seconds=60)
    time_to_live: timedelta | None = None
    most_deliveries: int | None = None
    dead: "Queue | None" = None
    messages: list[Stored] = field(default_factory=list)

    def put(self, message: Stored) -> None:
        self.messages.append(message)

    def acquired(self) -> Stored | None:
        """The next message nobody holds, locked by a new token."""
        self.tidy()
        for message in self.messages:
            if message.lock is None:
                message.lock = uuid4()
                message.locked_until = self.now() + self.lock_time
                return message
        return None

    def held(self, token: UUID) -> Stored:
        """What the token still holds; LockLost when it holds nothing."""
        self.tidy()
        for message in self.messages:
            if message.lock == token:
                return message
        raise LockLost

    def complete(self, token: UUID) -> None:
        message = self.held(token)
        self.messages.remove(message)

    def abandon(self, token: UUID) -> None:
        self._return(self.held(token))

    def release(self, token: UUID) -> None:
        """Back without having been delivered in vain: the count stays."""
        self.held(token).lock = None

    def bury(self, token: UUID, reason: str | None, description: str | None) -> None:
        self._bury(self.held(token), reason, description)

    def renew(self, token: UUID) -> datetime:
        message = self.held(token)
        message.locked_until = self.now() + self.lock_time
        return message.locked_until

    def peeked(self, sequence: int, most: int) -> list[Stored]:
        """From a sequence number on, locked ones too."""
        self.tidy()
        return [message for message in self.messages if message.sequence >= sequence][:most]

    def tidy(self) -> None:
        """What time alone does: locks end, and messages."""
        now = self.now()
        for message in list(self.messages):
            if message.locked_until and message.lock and message.locked_until <= now:
                self._return(message)
        if self.time_to_live is not None:
            self.messages = [one for one in self.messages if one.lock or one.expires_at > now]

    def _return(self, message: Stored) -> None:
        message.lock = None
        message.deliveries += 1
        if self.most_deliveries is not None and message.deliveries >= self.most_deliveries:
            self._bury(
                message,
                "MaxDeliveryCountExceeded",
                "Message could not be consumed after the maximum number of deliveries.",
            )

    def _bury(self, message: Stored, reason: str | None, description: str | None) -> None:
        assert self.dead is not None, "a dead-letter queue has no dead-letter queue"
        self.messages.remove(message)
        self.dead.put(
            replace(
                message,
                sequence=next(self.dead.numbers),
                lock=None,
                reason=reason,
                description=description,
            )
        )


@dataclass
class Subscription:
    """A queue behind rules; every one starts with `$Default`, which lets everything in."""

    queue: Queue
    rules: dict[str, str | None] = field(default_factory=lambda: {"$Default": None})
    """By name: the label a message must have, or None for any."""

    def takes(self, subject: str | None) -> bool:
        return any(label is None or label == subject for label in self.rules.values())


@dataclass
class Topic:
    """Copies a message into every subscription that takes it, and nowhere else."""

    now: Now
    detects_duplicates: bool = False
    time_to_live: timedelta = timedelta(days=14)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    seen: dict[str, datetime] = field(default_factory=dict)
    disabled: bool = False

    def subscribe(
        self,
        name: str,
        *,
        lock_time: timedelta = timedelta(seconds=60),
        most_deliveries: int = 10,
        time_to_live: timedelta = timedelta(days=14),
    ) -> Subscription:
        queue = Queue(
            self.now,
            lock_time=lock_time,
            most_deliveries=most_deliveries,
            time_to_live=time_to_live,
            dead=Queue(self.now, lock_time=lock_time),
        )
        return self.subscriptions.setdefault(name, Subscription(queue))

    def publish(
        self, encoded: bytes, subject: str | None, message_id: str | None, ttl: timedelta | None
    ) -> None:
        now = self.now()
        if self._is_duplicate(message_id, now):
            return
        for subscription in self.subscriptions.values():
            if subscription.takes(subject):
                queue = subscription.queue
                times = (ttl, self.time_to_live, queue.time_to_live)
                expires_at = now + min(time for time in times if time is not None)
                queue.put(Stored(encoded, next(queue.numbers), subject, now, expires_at))

    def _is_duplicate(self, message_id: str | None, now: datetime) -> bool:
        if not self.detects_duplicates or message_id is None:
            return False
        oldest = now - DUPLICATES_WINDOW
        self.seen = {key: at for key, at in self.seen.items() if at > oldest}
        is_known = message_id in self.seen
        self.seen.setdefault(message_id, now)
        return is_known


class Namespace:
    """Topics by name, and the clock of all of them."""

    def __init__(self, now: Now) -> None:
        self.now = now
        self.topics: dict[str, Topic] = {}

    def topic(self, name: str) -> Topic | None:
        return self.topics.get(name.lower())

    def make_topic(self, name: str, *, detects_duplicates: bool = False) -> Topic:
        made = Topic(self.now, detects_duplicates=detects_duplicates)
        return self.topics.setdefault(name.lower(), made)

    def queue(self, path: str) -> Queue | None:
        """`TOPIC/Subscriptions/NAME` or its `/$deadletterqueue`; None when there is none."""
        name, *rest = path.split("/")
        topic = self.topic(name)
        if topic is None or len(rest) < 2 or rest[0].lower() != "subscriptions":
            return None
        subscription = topic.subscriptions.get(rest[1])
        if subscription is None:
            return None
        match [part.lower() for part in rest[2:]]:
            case []:
                return subscription.queue
            case ["$deadletterqueue"]:
                return subscription.queue.dead
        return None
