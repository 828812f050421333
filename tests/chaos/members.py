"""Members: the processes of a run, each started again whenever it has ended."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.chaos.plans import EXECUTORS
from tests.e2e.programs import Program
from tests.e2e.stage import Stage

_PAUSES = (0.0, 0.0, 0.0, 1.0)
"""Seconds until a member is started again."""
_HASTY = 0.25
"""So many lives may end before they have really begun."""

Start = Callable[[bool], Awaitable[Program]]
"""Start a process; whether to wait until it is ready."""


class Member:
    """The control plane, or an executor in one of its lives."""

    def __init__(self, start: Start, random_: random.Random) -> None:
        self._start = start
        self._random = random_
        self.program: Program | None = None
        """None between two lives."""
        self.troubles: list[str] = []
        """Ends that nobody had wished for."""

    async def begin(self, *, ready: bool = True) -> Program:
        """One more life; it may be killed before it is ready, unless that is waited for."""
        self.program = await self._start(ready)
        return self.program

    async def live(self, over: asyncio.Event) -> None:
        """Until it is `over`; what runs then goes on."""
        while True:
            try:
                program = self.program or await self.begin(ready=self._random.random() > _HASTY)
            except AssertionError as never_ready:
                self.troubles.append(str(never_ready))
                return
            ending = asyncio.create_task(program.ended(None))
            waiting = asyncio.create_task(over.wait())
            await asyncio.wait({ending, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not ending.done():
                ending.cancel()
                return
            self.program = None
            if ending.result() != -signal.SIGKILL:
                self.troubles.append(f"{program.name} ended with {ending.result()}")
            await asyncio.sleep(self._random.choice(_PAUSES))


class Company:
    """One control plane and its executors."""

    def __init__(self, stage: Stage, random_: random.Random) -> None:
        self.plane = Member(lambda ready: stage.plane(ready=ready), random_)
        self.executors = [
            Member(lambda ready: stage.executor(ready=ready), random_) for _ in range(EXECUTORS)
        ]

    @asynccontextmanager
    async def restarting(self) -> AsyncIterator[None]:
        """Whoever ends is started again; afterwards all are up, and stay up."""
        over = asyncio.Event()
        members = [self.plane, *self.executors]
        await self.plane.begin()
        lives = [asyncio.create_task(member.live(over)) for member in members]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*lives)

    def troubles(self) -> list[str]:
        """Ends that nobody had wished for."""
        return [line for member in (self.plane, *self.executors) for line in member.troubles]
