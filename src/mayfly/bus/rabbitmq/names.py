"""What exchanges and queues are called: `mayfly…`, or as `?prefix=` of the url says."""

import re
from typing import Final, NamedTuple

from yarl import URL

from mayfly.model.errors import InvalidSettings

PREFIX: Final = "prefix"
"""The word of the url."""
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(?<!-dead)")
"""`NAME-dead` is what the dead messages of `NAME` have."""
_LONGEST: Final = 240
_LONGEST_NAME: Final = 255
"""Bytes; of a routing key, an exchange or a queue."""


class Names(NamedTuple):
    """The names of one Mayfly, which several in one virtual host must not share."""

    exchange: str = "mayfly"

    @property
    def dead_exchange(self) -> str:
        """What leads to the dead queues."""
        return f"{self.exchange}-dead"

    def queue(self, subject: str) -> str:
        """Where the pool's messages wait."""
        return f"{self.exchange}.{subject}"

    def dead_queue(self, subject: str) -> str:
        """Where the pool's dead messages are."""
        return f"{self.dead_exchange}.{subject}"

    @property
    def longest_subject(self) -> int:
        """Bytes of a pool's name."""
        return min(_LONGEST, _LONGEST_NAME - len(self.dead_queue("")))


def renamed(url: str, prefix: str) -> str:
    """The url for other names on the same server."""
    return str(URL(url).update_query({PREFIX: prefix}))


def names_of(url: URL) -> tuple[Names, URL]:
    """The names, and the url without the word that the client library does not know."""
    prefix = url.query.get(PREFIX)
    if prefix is None:
        return Names(), url
    if not _PREFIX.fullmatch(prefix):
        raise InvalidSettings(
            f"the url of the bus has prefix={prefix[:70]!r}; use 1 to 64 letters, digits, '-' "
            "and '_', with another end than '-dead'"
        )
    return Names(prefix), url.without_query_params(PREFIX)
