"""Being told to rest or to end, by an operator or by signals: the first drains, another stops."""

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
    """`hold`: take no claim. `drain`: the same, and end. `stop`: give the job back now, and end."""

    def __init__(self) -> None:
        self.hold = asyncio.Event()
        self.serve = asyncio.Event()
        """Nothing is to be waited for: either it may serve, or it is to end."""
        self.drain = asyncio.Event()
        self.stop = asyncio.Event()
        self._signalled = False
        self.serve.set()

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
        """What one signal does; an operator's word is not the first of two."""
        if self._signalled:
            self.stop.set()
            log.warning(line("executor.stopping"))
        else:
            self._signalled = True
            self.end("a signal")

    def rest(self) -> None:
        """A job that runs is finished."""
        if not self.drain.is_set():
            self.hold.set()
            self.serve.clear()

    def resume(self) -> None:
        """Take claims again, unless it is to end."""
        if not self.drain.is_set():
            self.hold.clear()
            self.serve.set()

    def end(self, who: str) -> None:
        """Drain, told by `who`."""
        log.info(line("executor.draining", told_by=who))
        self.drain.set()
        self.hold.set()
        self.serve.set()


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
