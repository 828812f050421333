"""Long polls: a call is held until there is an answer, or nobody listens any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from mayfly.simulator.asking import Asked
from mayfly.simulator.runners import Session

T = TypeVar("T")


async def held(request: Asked, session: Session, answer: Coroutine[Any, Any, T]) -> T | None:
    """What `answer` comes to; None when the caller hangs up before.

    As long as the call is held, the session counts as alive.
    """
    session.polls += 1
    waiting = asyncio.create_task(answer)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        session.polls -= 1
        session.seen = time.monotonic()
        waiting.cancel()
        leaving.cancel()
        # Waited for, so that no cancelled task outlives its request.
        await asyncio.gather(waiting, leaving, return_exceptions=True)


async def _disconnected(request: Asked) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
