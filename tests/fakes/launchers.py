"""A platform in memory that starts executors when it is told to, and misbehaves as a test says."""

import asyncio
from collections.abc import AsyncIterator

from mayfly.model.errors import Permanent, Transient
from mayfly.model.launches import Launch, Launched, LaunchId, LaunchState, Ticket


class FakePlatform:
    """ports.Launcher. What it was asked for is in `tickets`; nothing runs by itself."""

    def __init__(self) -> None:
        self.tickets: dict[LaunchId, list[str]] = {}
        """Of each launch that really started, every ticket it was asked with."""
        self.pools: dict[LaunchId, str] = {}
        self.states: dict[LaunchId, LaunchState] = {}
        self.asked = 0
        """Calls of any kind."""
        self.failures: list[Exception] = []
        """Of the next starts, before they take effect."""
        self.lost = 0
        """So many of the next starts take effect, and their answer gets lost."""
        self.away = False
        self.deaf = False
        """Whether it refuses to end anything."""
        self.hangs: asyncio.Event | None = None
        """What every answer waits for."""
        self.stopped: list[LaunchId] = []

    async def start(self, launch: Launch, ticket: Ticket) -> None:
        if self.failures:
            self.asked += 1
            raise self.failures.pop(0)
        await self._asked()
        known = launch.id in self.tickets
        if not known:
            self.tickets[launch.id] = [ticket.reveal()]
            self.pools[launch.id] = launch.pool
            self.states[launch.id] = LaunchState.RUNNING
        if self.lost:
            self.lost -= 1
            raise Transient("the answer got lost")

    async def launched(self, pool: str) -> list[Launched]:
        await self._asked()
        return [
            Launched(id_, state, "")
            for id_, state in sorted(self.states.items())
            if self.pools[id_] == pool
        ]

    async def stop(self, pool: str, launch: LaunchId) -> None:
        await self._asked()
        if self.deaf:
            raise Permanent("there is no right to end executors")
        self.stopped.append(launch)
        if self.pools.get(launch) == pool:
            self.states[launch] = LaunchState.ENDED

    @property
    def running(self) -> list[LaunchId]:
        """Executors there are now."""
        return [id_ for id_, state in self.states.items() if state is LaunchState.RUNNING]

    async def _asked(self) -> None:
        self.asked += 1
        if self.hangs is not None:
            await self.hangs.wait()
        if self.away:
            raise Transient("the platform is away")


class RingingPlatform(FakePlatform):
    """ports.WatchedLauncher."""

    def __init__(self) -> None:
        super().__init__()
        self.lists = 0
        self.listened = 0
        """How often somebody began to listen."""
        self.listeners: set[asyncio.Queue[None]] = set()
        self.unwatched: Exception | None = None
        """What whoever wants to listen is told."""

    async def launched(self, pool: str) -> list[Launched]:
        self.lists += 1
        return await super().launched(pool)

    async def changes(self, pool: str) -> AsyncIterator[None]:
        self.listened += 1
        if self.unwatched:
            raise self.unwatched
        rings: asyncio.Queue[None] = asyncio.Queue()
        self.listeners.add(rings)
        try:
            yield
            while True:
                await rings.get()
                yield
        finally:
            self.listeners.discard(rings)

    def ring(self) -> None:
        """For whoever listens."""
        for rings in self.listeners:
            rings.put_nowait(None)
