"""What there is in RabbitMQ for the pools: two exchanges, and two queues for each pool."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from mayfly.bus.rabbitmq.connections import within
from mayfly.bus.rabbitmq.names import Names
from mayfly.model.errors import InvalidSettings
from mayfly.model.requests import KEPT_FOR, LARGEST_DELIVERIES

_MILLISECONDS: Final = int(KEPT_FOR.total_seconds() * 1000)
_KEPT: Final[dict[str, Any]] = {"x-queue-type": "quorum", "x-message-ttl": _MILLISECONDS}
_WAITING: Final[dict[str, Any]] = {
    **_KEPT,
    # The server counts what comes back, and so one less than what is handed out.
    "x-delivery-limit": LARGEST_DELIVERIES - 1,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


def check_names(names: Names, subjects: Sequence[str]) -> None:
    """InvalidSettings for a pool that cannot be a routing key, or would be a pattern."""
    for subject in subjects:
        if len(subject.encode()) > names.longest_subject:
            raise InvalidSettings(
                f"pool {subject[:100]!r}… has too long a name for RabbitMQ: "
                f"more than {names.longest_subject} bytes"
            )
        if {"*", "#"} & set(subject.split(".")):
            raise InvalidSettings(
                f"pool {subject!r} cannot be on RabbitMQ, where `*` and `#` between dots stand "
                "for any word: give it another name"
            )


async def make(channel: AbstractChannel, names: Names, subjects: Sequence[str]) -> list[str]:
    """Everything, where it is not there already; a line for each queue."""
    with _made_otherwise():
        exchange = await _exchange(channel, names.exchange)
        dead_exchange = await _exchange(channel, names.dead_exchange)
        return [
            line
            for subject in subjects
            for line in (
                await _queue(channel, dead_exchange, names.dead_queue(subject), subject, _KEPT),
                await _queue(channel, exchange, names.queue(subject), subject, _waiting(names)),
            )
        ]


async def check(
    connection: AbstractConnection, names: Names, subjects: Sequence[str], remedy: str
) -> None:
    """InvalidSettings when a queue or an exchange is missing, or made otherwise."""
    try:
        async with connection.channel() as channel:
            await _look(channel, names, subjects, passive=True)
    except ChannelNotFoundEntity as error:
        raise InvalidSettings(f"RabbitMQ lacks what the pools need: {error}; {remedy}") from error
    # To declare what is there compares it; only a user that may make it is answered.
    with suppress(ChannelAccessRefused):
        async with connection.channel() as channel:
            with _made_otherwise():
                await _look(channel, names, subjects, passive=False)


async def make_or_check(
    connection: AbstractConnection, names: Names, subjects: Sequence[str]
) -> None:
    """Made where this user may configure, else looked at."""
    try:
        async with connection.channel() as channel:
            await make(channel, names, subjects)
    except ChannelAccessRefused:
        await check(
            connection,
            names,
            subjects,
            "run `mayfly bus declare` with the url of a user that may make it",
        )


async def remove(channel: AbstractChannel, names: Names, subjects: Sequence[str]) -> None:
    """What `make` has made, with all that waits there; nothing is wrong when it is gone."""
    for subject in subjects:
        for name in (names.queue(subject), names.dead_queue(subject)):
            await channel.queue_delete(name)
    for name in (names.exchange, names.dead_exchange):
        await channel.exchange_delete(name)


async def _look(
    channel: AbstractChannel, names: Names, subjects: Sequence[str], *, passive: bool
) -> None:
    for name in (names.exchange, names.dead_exchange):
        exchange = channel.declare_exchange(name, ExchangeType.TOPIC, durable=True, passive=passive)
        await within(exchange)
    for subject in subjects:
        for name, arguments in (
            (names.queue(subject), _waiting(names)),
            (names.dead_queue(subject), _KEPT),
        ):
            found = channel.declare_queue(name, durable=True, passive=passive, arguments=arguments)
            await within(found)


def _waiting(names: Names) -> dict[str, Any]:
    return {**_WAITING, "x-dead-letter-exchange": names.dead_exchange}


@contextmanager
def _made_otherwise() -> Iterator[None]:
    try:
        yield
    except ChannelPreconditionFailed as error:
        raise InvalidSettings(
            f"RabbitMQ has a queue or an exchange of that name already, made otherwise: {error}; "
            "let its messages be leased or move them away, remove it "
            "(`rabbitmqctl delete_queue NAME`), then run `mayfly bus declare`"
        ) from error


async def _exchange(channel: AbstractChannel, name: str) -> AbstractExchange:
    return await within(channel.declare_exchange(name, ExchangeType.TOPIC, durable=True))


async def _queue(
    channel: AbstractChannel,
    exchange: AbstractExchange,
    name: str,
    subject: str,
    arguments: dict[str, Any],
) -> str:
    made = await within(channel.declare_queue(name, durable=True, arguments=arguments))
    await within(made.bind(exchange, subject))
    return f"queue {name}, bound to exchange {exchange.name} by {subject}"
