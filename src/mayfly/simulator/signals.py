"""Waiting for a state to come about, without polling."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")


class Bells:
    """One bell per topic; whoever waits is woken by a ring and looks for itself."""

    def __init__(self) -> None:
        self._waiting: defaultdict[Hashable, set[asyncio.Event]] = defaultdict(set)

    def ring(self, *topics: Hashable) -> None:
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()

    def ring_all(self) -> None:
        self.ring(*self._waiting)

    async def until(
        self, topic: Hashable, look: Callable[[], T | None], timeout: float
    ) -> T | None:
        """What `look` finds, or None when `timeout` seconds pass and it never found a thing."""
        heard = asyncio.Event()
        self._waiting[topic].add(heard)
        try:
            async with asyncio.timeout(timeout):
                while (found := look()) is None:
                    await heard.wait()
                    heard.clear()
                return found
        except TimeoutError:
            return None
        finally:
            self._waiting[topic].discard(heard)
            if not self._waiting[topic]:
                del self._waiting[topic]
