"""What RabbitMQ and its library say, as our errors; no url and no password in any of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLCertVerificationError
from typing import Final

from aio_pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    ProbableAuthenticationError,
)
from aiormq.exceptions import (
    ChannelAccessRefused,
    ConnectionNotAllowed,
    InvalidFrameError,
    PublishError,
)

from mayfly.model.errors import InvalidSettings, MayflyError, Permanent, Transient
from mayfly.model.urls import QUOTE, parts_of

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
ANSWER_WITHIN: Final = 5.0
"""Seconds a call may take; a webhook's doorbell and a claim's answer wait no longer."""

_SENTENCES: Final[tuple[tuple[type[Exception], type[MayflyError], str], ...]] = (
    (ProbableAuthenticationError, InvalidSettings, "refuses the user or the password of the url"),
    (AuthenticationError, InvalidSettings, "does not take a user and a password"),
    (
        # The library drops the server's reason; nothing else is answered with this at that point.
        InvalidFrameError,
        InvalidSettings,
        "does not let the user into the virtual host of the url, if there is such a host at all",
    ),
    (ConnectionNotAllowed, InvalidSettings, "does not let the user into the virtual host"),
    (SSLCertVerificationError, InvalidSettings, "shows a certificate that is not trusted: {0}"),
    (FileNotFoundError, InvalidSettings, "cannot be trusted, because a file of the url is missing"),
    (
        ChannelAccessRefused,
        Permanent,
        "refuses a permission: {0}; docs/how-to/use-rabbitmq.md says which the user needs",
    ),
    (
        ChannelNotFoundEntity,
        Permanent,
        "lacks what `mayfly bus declare` makes: {0}",
    ),
    (ChannelPreconditionFailed, Permanent, "cannot do that: {0}"),
    (DeliveryError, Transient, "did not take a message: {0}"),
    (TimeoutError, Transient, f"did not answer within {ANSWER_WITHIN:.0f} s"),
    (AMQPError, Transient, "cannot be reached: {0}"),
    (OSError, Transient, "cannot be reached: {0}"),
    (RuntimeError, Transient, "cannot be reached: the connection is closed"),
)
"""The first that fits. A closed channel or connection is a RuntimeError of the library."""


@contextmanager
def as_ours(place: str) -> Iterator[None]:
    """Errors of the library become ours, with the server named as `place`."""
    try:
        yield
    except PublishError as error:
        raise unroutable(_routing_key(error)) from error
    except (AMQPError, OSError, RuntimeError) as error:
        for kind, ours, sentence in _SENTENCES:
            if isinstance(error, kind) or isinstance(error.__cause__, kind):
                said = str(error) or type(error).__name__
                raise ours(f"RabbitMQ at {place} {sentence.format(said)}") from error
        raise


def unroutable(subject: str) -> Permanent:
    """No queue takes what is published for the pool."""
    return Permanent(
        f"nothing on the bus receives pool {subject[:100]!r}: no queue is bound for it; "
        "`mayfly bus declare` makes the queues of every pool in mayfly.toml"
    )


def placed(url: str) -> str:
    """HOST:PORT of the url, to be shown; InvalidSettings when it is not one of RabbitMQ."""
    parts = parts_of(url)
    if parts is None or not parts.hostname or parts.scheme not in _PORTS:
        raise InvalidSettings(
            "the url of the bus is not amqp://USER:PASSWORD@HOST:PORT/VIRTUAL-HOST or amqps://…; "
            + QUOTE
        )
    return f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"


def _routing_key(error: PublishError) -> str:
    delivery = error.message.delivery if error.message else None
    return str(getattr(delivery, "routing_key", ""))
