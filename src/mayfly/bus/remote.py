"""The bus behind a control plane: leased over HTTPS, without a credential of the bus itself."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlunsplit

import msgspec

from mayfly.calls import Calls, checked_ca_file, checked_server, expected, open_calls, read
from mayfly.model.errors import InvalidSettings
from mayfly.model.protocol import (
    LARGEST_RING,
    Counted,
    Leased,
    LeaseOrder,
    RingOrder,
    SettleOrder,
)
from mayfly.model.requests import Dead, Lease, Message, RunnerRequest, Waiting, sized
from mayfly.model.urls import QUOTE, parts_of
from mayfly.ports import Clock

LONGEST_POLL = timedelta(seconds=25)
"""The control plane ends a long poll after 30 s, proxies in between after about a minute."""
MARGIN = timedelta(seconds=10)
"""For the answer to a long poll, when its time is over."""
PAUSE = timedelta(seconds=1)
"""After a long poll that did not wait: who is in between must not be flooded."""
LARGEST_LOOK = 1000
_PATIENT_SECONDS = 120.0
"""For verbs that may have thousands of messages to move."""


class Address(NamedTuple):
    """A control plane, and how it is called; the token is a secret."""

    server: str
    token: str
    ca_file: Path | None

    def __repr__(self) -> str:
        return f"Address(server={self.server!r}, token=…)"


class Named(msgspec.Struct, frozen=True):
    """A pool, as far as a bus needs it."""

    name: str


@asynccontextmanager
async def open_bus(
    url: str, clock: Clock, subjects: Sequence[str], *, declares: bool = True
) -> AsyncIterator["RemoteBus"]:
    """The bus of the control plane at `https://:TOKEN@HOST`; its pools are the subjects.

    An executor's token leases, completes and abandons for its pools; an operator's does the rest.
    """
    del clock, subjects, declares
    where = parsed(url)
    async with open_calls(
        where.server, where.token, caller="client", ca_file=where.ca_file
    ) as calls:
        yield RemoteBus(calls)


async def declare(url: str, subjects: Sequence[str]) -> list[str]:
    """The control plane sees to it."""
    del subjects
    return [f"the control plane at {parsed(url).server} keeps the bus; declare it there"]


def with_token(url: str, token: str) -> str:
    """The URL for `open_bus` of a control plane's plain one."""
    parts = _split(url)
    if "@" in parts.netloc:
        raise InvalidSettings("the server's URL holds a user name or password; use the token")
    return urlunsplit(parts._replace(netloc=f":{quote(token, safe='')}@{parts.netloc}"))


def parsed(url: str) -> Address:
    """The address in `https://:TOKEN@HOST?ca_file=FILE&plain_http=true`."""
    parts = _split(url)
    user, _, host = parts.netloc.rpartition("@")
    server = urlunsplit(parts._replace(netloc=host, query="", fragment=""))
    options = parse_qs(parts.query)
    if unknown := sorted(options.keys() - {"ca_file", "plain_http"}):
        raise InvalidSettings(f"{server}: {', '.join(unknown)} is no option of a remote bus")
    checked_server(server, plain_http=options.get("plain_http") == ["true"])
    token = unquote(user.partition(":")[2])
    if not (token and token.isascii() and token.isprintable()):
        raise InvalidSettings(
            f"{server}: the url of a remote bus holds a token, as in https://:TOKEN@host"
        )
    ca_file = options.get("ca_file")
    return Address(server, token, checked_ca_file(Path(ca_file[-1]) if ca_file else None))


class RemoteBus:
    """Each verb is one request; a wait is as many long polls as it needs."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def publish(self, messages: Sequence[Message]) -> None:
        sized(messages)
        for subject, times in Counter(message.subject for message in messages).items():
            for done in range(0, times, LARGEST_RING):
                order = RingOrder(times=min(times - done, LARGEST_RING))
                await self._calls.post(_path(subject, "ring"), order)

    async def lease(self, subject: str, wait: timedelta) -> Lease | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait.total_seconds()
        while True:
            asked_at = loop.time()
            poll = min(max(0.0, deadline - asked_at), LONGEST_POLL.total_seconds())
            if lease := await self._poll(subject, poll):
                return lease
            left = deadline - loop.time()
            if left <= 0:
                return None
            if loop.time() - asked_at < poll / 2:
                await asyncio.sleep(min(left, PAUSE.total_seconds()))

    async def complete(self, lease_id: str) -> None:
        await self._calls.post("/v1/leases/complete", SettleOrder(lease=lease_id))

    async def abandon(self, lease_id: str) -> None:
        await self._calls.post("/v1/leases/abandon", SettleOrder(lease=lease_id))

    async def depth(self, subject: str) -> int:
        return (await self._calls.get(_path(subject, "depth"), Counted)).count

    async def peek(self, subject: str, limit: int) -> list[Waiting]:
        return await self._calls.get(_look(subject, "peek", limit), list[Waiting])

    async def drain(self, subject: str) -> int:
        return await self._counted(subject, "drain")

    async def dead(self, subject: str, limit: int) -> list[Dead]:
        return await self._calls.get(_look(subject, "dead", limit), list[Dead])

    async def requeue(self, subject: str) -> int:
        return await self._counted(subject, "requeue")

    async def subjects(self) -> list[str]:
        """The pools of the control plane."""
        return [pool.name for pool in await self._calls.get("/v1/pools", list[Named])]

    async def _poll(self, subject: str, seconds: float) -> Lease | None:
        body = await self._calls.post(
            _path(subject, "lease"),
            LeaseOrder(wait_seconds=seconds),
            seconds + MARGIN.total_seconds(),
        )
        leased = read(body, Leased)
        return Lease(leased.lease, RunnerRequest(pool=subject)) if leased is not None else None

    async def _counted(self, subject: str, verb: str) -> int:
        body = await self._calls.post(_path(subject, verb), seconds=_PATIENT_SECONDS)
        return expected(read(body, Counted)).count


def _split(url: str) -> SplitResult:
    parts = parts_of(url)
    if parts is None or not parts.hostname or parts.scheme not in {"http", "https"}:
        raise InvalidSettings(f"the url of a remote bus is not like https://:TOKEN@host; {QUOTE}")
    return parts


def _path(subject: str, verb: str) -> str:
    return f"/v1/pools/{quote(subject, safe='')}/{verb}"


def _look(subject: str, verb: str, limit: int) -> str:
    return f"{_path(subject, verb)}?limit={min(limit, LARGEST_LOOK)}"
