"""How long to wait for what, and asking again until there is an answer (ledger rule R16)."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from mayfly.executor.logs import line
from mayfly.model.errors import Transient

log = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_REQUEST_SECONDS = 300.0  # a control plane that asks for more is asked again all the same


class Timing(NamedTuple):
    """The executor's own clockwork, in seconds; tests wind it faster."""

    lease_wait: float = 25.0
    attend_wait: float = 25.0
    unrung: float = 120.0
    """Ask for a claim this often although nobody rang (R1)."""
    claim_tries: int = 3
    shortest: float = 0.2
    longest: float = 10.0
    farewell: float = 10.0
    """For a last word to the control plane after a second signal."""


def pauses(timing: Timing) -> Iterator[float]:
    """Doubling, between half and all of it at random, so that executors do not come in step."""
    pause = timing.shortest
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, timing.longest)


async def answered(
    ask: Callable[[], Awaitable[T]], what: str, timing: Timing, *, tries: int | None = None
) -> T:
    """The first answer, asked for again while the control plane is silent; at most `tries` times.

    Other errors are answers too: they pass.
    """
    for count, pause in enumerate(pauses(timing), start=1):
        try:
            answer = await ask()
        except Transient as error:
            if count == tries:
                raise
            _say_silent(count, what, error)
            await asyncio.sleep(max(pause, _requested(error)))
        else:
            if count > 1:
                log.info(line("server.answered", to=what, tries=count))
            return answer
    raise AssertionError  # pauses never end


def _say_silent(count: int, what: str, error: Transient) -> None:
    """Once per silence, then once every few minutes: a log full of it helps nobody."""
    if count == 1 or count % 30 == 0:
        log.warning(line("server.silent", to=what, tries=count, reason=str(error)))


def _requested(error: Transient) -> float:
    if error.retry_at is None:
        return 0.0
    return min((error.retry_at - datetime.now(UTC)).total_seconds(), _LONGEST_REQUEST_SECONDS)
