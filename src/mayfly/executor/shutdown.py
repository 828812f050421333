"""Being told to shut down: the first signal drains, the second stops."""

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mayfly.executor.logs import line

log = logging.getLogger(__name__)

T = TypeVar("T")


class Shutdown:
    """`drain`: finish the job, take no other. `stop`: give the job back now."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.stop = asyncio.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGTERM and SIGINT are ours meanwhile."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.asked)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def asked(self) -> None:
        """What one signal does."""
        if self.drain.is_set():
            self.stop.set()
            log.warning(line("executor.stopping"))
        else:
            self.drain.set()
            log.info(line("executor.draining"))


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T], grace: float = 0) -> T | None:
    """What `work` gives; None when the event came, and `grace` seconds more were not enough."""
    doing = asyncio.create_task(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done() and grace:
            await asyncio.wait({doing}, timeout=grace)
        return doing.result() if doing.done() else None
    finally:
        await cancelled(doing, waiting)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """The tasks have ended, whatever they made of it."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
