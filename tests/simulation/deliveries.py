"""Deliveries: webhooks on a bad road, and GitHub's log of what it tried."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import count

from mayfly.model.deliveries import Attempt
from mayfly.model.jobs import JobState, WorkflowJobEvent
from tests.simulation.accounts import Owner
from tests.simulation.clocks import SimulatedClock
from tests.simulation.faults import Faults
from tests.simulation.jobs import Job, Jobs
from tests.simulation.processes import Process

KEPT_SECONDS = 3 * 24 * 3600.0
DELAYED = (5.0, 300.0)
"""Seconds a delayed delivery takes: long enough for its successors to overtake it."""

Receive = Callable[[WorkflowJobEvent], Awaitable[int]]
"""The receiver's end: the status it answers, 0 when it does not."""


class Deliveries:
    """Each event is tried once, as GitHub does; it is tried again only when asked for."""

    def __init__(self, jobs: Jobs, clock: SimulatedClock, faults: Faults) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs = jobs
        self._clock = clock
        self._faults = faults
        self.receive: Receive = _nobody
        self.untold: dict[Job, None] = {}
        """Jobs of which something was neither delivered nor logged: only a sweep can find it."""
        self._dice = faults.dice("delivery")
        self._ids = count(1)
        self._guids = count(1)
        self._log: list[tuple[Attempt, float]] = []
        self._events: dict[int, WorkflowJobEvent] = {}
        self._github = Process()
        jobs.on_event = self.send

    def send(self, job: Job, action: JobState) -> None:
        """What GitHub does when a job changes; not when nobody has the App installed."""
        if not job.repository.owner.reachable:
            self.untold[job] = None
            return
        event = self._jobs.event(job, action, f"guid-{next(self._guids)}")
        if self._faults.strikes("delivery lost, never logged", job, action.word):
            self.untold[job] = None
            return
        self._try(event)
        if self._faults.strikes("delivery doubled", job, action.word):
            self._try(event)

    def tell_back(self, owner: Owner, action: str = "unsuspend") -> None:
        """A delivery about the App itself; here it never arrives, and stands in the log alone."""
        told = Attempt(
            id=next(self._ids),
            guid=f"guid-{next(self._guids)}",
            delivered_at=self._clock.now(),
            event="installation",
            action=action,
            status_code=502,
            installation=owner.installation,
        )
        self._log.append((told, self._clock.seconds()))

    def newest_first(self) -> Iterator[Attempt]:
        """As the log is now; what is logged meanwhile does not show."""
        oldest = self._clock.seconds() - KEPT_SECONDS
        for attempt, at in reversed(self._log):
            if at < oldest:
                return
            yield attempt

    def event(self, attempt: int) -> WorkflowJobEvent | None:
        return self._events.get(attempt)

    def redeliver(self, attempt: int) -> None:
        self._try(self._events[attempt])

    def _try(self, event: WorkflowJobEvent) -> None:
        delay = self._dice.uniform(0.1, 1.5)
        if self._faults.strikes("delivery delayed", _said(event)):
            delay = self._dice.uniform(*DELAYED)
        self._loop.call_later(delay, self._start, event)

    def _start(self, event: WorkflowJobEvent) -> None:
        self._github.spawn(self._deliver(event))

    async def _deliver(self, event: WorkflowJobEvent) -> None:
        lost = self._faults.strikes("delivery lost", _said(event))
        status = 502 if lost else await self.receive(event)
        attempt = Attempt(
            id=next(self._ids),
            guid=event.delivery,
            delivered_at=self._clock.now(),
            event="workflow_job",
            action=event.state.word,
            status_code=status,
            installation=event.installation,
        )
        self._log.append((attempt, self._clock.seconds()))
        self._events[attempt.id] = event


async def _nobody(event: WorkflowJobEvent) -> int:
    del event
    return 0


def _said(event: WorkflowJobEvent) -> str:
    return f"{event.key.id}.{event.key.attempt} {event.state.word}"
