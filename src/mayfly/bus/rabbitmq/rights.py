"""What the user of the url may do with what is declared, found out without doing it.

RabbitMQ has no question for that, but it looks at the right before anything else.
So each is asked for by something it refuses in any case, to a user that has the right as well: a
message whose time to live is no number, a consumer whose priority is none. No message comes or
moves; the server's log has a line for each.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq import spec
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused

from mayfly.bus.rabbitmq.connections import Link, within
from mayfly.bus.rabbitmq.polls import closed
from mayfly.model.errors import InvalidSettings

_NO_NUMBER: Final = "none"
_MOST_NAMED: Final = 6


async def check(link: Link, subjects: Sequence[str], user: str) -> None:
    """InvalidSettings that names every right that is missing; `user` says whose and where."""
    names = link.names
    asked = [
        right
        for subject in subjects
        for right in (
            *(
                _write(link, exchange, subject)
                for exchange in (names.exchange, names.dead_exchange)
            ),
            *(_read(link, name) for name in (names.queue(subject), names.dead_queue(subject))),
        )
    ]
    missing = list(dict.fromkeys(filter(None, await asyncio.gather(*asked))))
    if missing:
        more = len(missing) - _MOST_NAMED
        named = ", ".join(missing[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        raise InvalidSettings(
            f"{user} lacks rights: {named}; grant them with `rabbitmqctl set_permissions`, "
            "as docs/how-to/use-rabbitmq.md has it"
        )


async def _write(link: Link, exchange: str, subject: str) -> str | None:
    """With the subject, because a right may depend on the routing key, too."""
    channel = await link.confirming_channel()
    refused = await _is_refused(channel, _offer(channel, exchange, subject))
    return f"write on exchange {exchange!r}" if refused else None


async def _read(link: Link, name: str) -> str | None:
    channel = await link.fresh_channel()
    refused = await _is_refused(channel, _ask(channel, name))
    return f"read on queue {name!r}" if refused else None


async def _is_refused(channel: AbstractChannel, asking: Awaitable[object]) -> bool:
    try:
        await within(asking)
    except ChannelAccessRefused:
        return True
    except ChannelPreconditionFailed:
        return False
    finally:
        await closed(channel)
    return False


async def _offer(channel: AbstractChannel, exchange: str, subject: str) -> None:
    underlay = await channel.get_underlay_channel()
    properties = spec.Basic.Properties(expiration=_NO_NUMBER)
    await underlay.basic_publish(
        b"", exchange=exchange, routing_key=subject, properties=properties, mandatory=True
    )


async def _ask(channel: AbstractChannel, name: str) -> None:
    underlay = await channel.get_underlay_channel()
    await underlay.basic_consume(name, _nobody, arguments={"x-priority": _NO_NUMBER})


async def _nobody(_: DeliveredMessage) -> None:
    """Never given anything."""
