"""Reflected events are recorded and then completed; what goes wrong in between loses none."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from structlog.testing import capture_logs

from mayfly.bus.memory import MemoryBus
from mayfly.engine.reflections import Reflections
from mayfly.model.errors import Transient
from mayfly.model.jobs import JobState, WorkflowJobEvent
from mayfly.model.requests import (
    EVENTS,
    LARGEST_DELIVERIES,
    LEASE_TIME,
    ReflectedEvent,
    RunnerRequest,
    encoded,
)
from mayfly.telemetry import Telemetry
from tests.fakes.clocks import ManualClock
from tests.fakes.web import job_event

NOW = timedelta(0)
SOON = timedelta(milliseconds=1)
EVENT = job_event()


class Records:
    """A ledger as the consumer knows it: it takes events, or does with them what a test says."""

    def __init__(self, trouble: Callable[[WorkflowJobEvent], None] | None = None) -> None:
        self.events: list[WorkflowJobEvent] = []
        self.tries = 0
        self.trouble = trouble
        self.held: asyncio.Event | None = None

    async def submit(self, event: WorkflowJobEvent) -> None:
        self.tries += 1
        if self.held is not None:
            await self.held.wait()
        if self.trouble is not None:
            self.trouble(event)
        self.events.append(event)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if done():
                return
            await asyncio.sleep(0)


@asynccontextmanager
async def consuming(
    bus: MemoryBus, records: Records, patience: timedelta = timedelta(seconds=5)
) -> AsyncIterator[Telemetry]:
    telemetry = Telemetry(["linux"])
    reflections = Reflections(
        bus, records.submit, telemetry, patience=patience, first_pause=SOON, wait=SOON
    )
    async with reflections.open():
        yield telemetry


async def published(*events: WorkflowJobEvent) -> tuple[MemoryBus, ManualClock]:
    clock = ManualClock()
    bus = MemoryBus(clock)
    await bus.publish([ReflectedEvent(event=event) for event in events])
    return bus, clock


async def emptied(bus: MemoryBus, clock: ManualClock) -> bool:
    """Nothing waits, and nothing comes back when every lease is over."""
    clock.advance(2 * LEASE_TIME.total_seconds())
    return await bus.depth(EVENTS) == 0 and await bus.dead(EVENTS, 10) == []


async def test_events_are_recorded_and_completed():
    events = [job_event(state) for state in JobState] * 5
    bus, clock = await published(*events)
    records = Records()
    async with consuming(bus, records):
        await until(lambda: len(records.events) == len(events))
    assert await emptied(bus, clock)


async def test_two_control_planes_share_the_events():
    events = [job_event(job_id=number) for number in range(1, 41)]
    bus, clock = await published(*events)
    one, two = Records(), Records()
    async with consuming(bus, one), consuming(bus, two):
        await until(lambda: len(one.events) + len(two.events) == 40)
    assert sorted(event.key for event in one.events + two.events) == [e.key for e in events]
    assert one.events
    assert two.events
    assert await emptied(bus, clock)


async def test_a_ledger_that_is_away_for_long_costs_no_event():
    bus, clock = await published(EVENT)

    def away(event: WorkflowJobEvent) -> None:
        if records.tries <= 3 * LARGEST_DELIVERIES:
            raise Transient("the database is away")

    records = Records(away)
    with capture_logs() as logs:
        async with consuming(bus, records):
            await until(lambda: bool(records.events))
    assert records.events == [EVENT]
    assert {entry["event"] for entry in logs} == {"reflection.delayed"}
    assert await emptied(bus, clock)


async def test_a_ledger_that_does_not_answer_is_not_waited_for_longer_than_a_lease():
    bus, clock = await published(EVENT)
    records = Records()
    records.held = asyncio.Event()
    with capture_logs() as logs:
        async with consuming(bus, records, patience=SOON):
            await until(lambda: records.tries > 1)
            records.held.set()
            await until(lambda: bool(records.events))
    assert "does not answer" in logs[0]["reason"]
    assert await emptied(bus, clock)


async def test_an_event_nobody_can_record_is_dead_in_the_end_and_the_others_are_not():
    poison, good = job_event(job_id=13), job_event(job_id=14)
    bus, _ = await published(poison, good)

    def stumble(event: WorkflowJobEvent) -> None:
        if event.key == poison.key:
            raise ValueError("an integer is out of range")

    records = Records(stumble)
    with capture_logs() as logs:
        async with consuming(bus, records):
            await until(lambda: records.tries == LARGEST_DELIVERIES + 1)
    assert records.events == [good]
    (dead,) = await bus.dead(EVENTS, 10)
    assert dead.reason == "leased 10 times and never completed"
    assert '"workflow_job_event"' in dead.text
    assert {entry["event"] for entry in logs} == {"reflection.stumbled"}


async def test_a_message_of_another_kind_is_dead_with_its_reason():
    bus, _ = await published(EVENT)
    await bus.put([(EVENTS, b"{}"), (EVENTS, encoded(RunnerRequest(pool="linux")))])
    records = Records()
    async with consuming(bus, records):
        await until(lambda: len(bus._dead[EVENTS]) == 2)
    reasons = {dead.text: dead.reason for dead in await bus.dead(EVENTS, 10)}
    assert "not one of ours" in reasons["{}"]
    assert "never completed" in reasons[encoded(RunnerRequest(pool="linux")).decode()]
    assert records.events == [EVENT]


async def test_an_event_that_is_being_recorded_is_finished_before_the_end():
    bus, clock = await published(EVENT)
    records = Records()
    records.held = asyncio.Event()

    async def stopping() -> None:
        async with consuming(bus, records):
            await until(lambda: records.tries == 1)

    ending = asyncio.create_task(stopping())
    await until(lambda: records.tries == 1)
    records.held.set()
    await ending
    assert records.events == [EVENT]
    assert await emptied(bus, clock)


async def test_whoever_dies_between_lease_and_record_loses_nothing():
    bus, clock = await published(EVENT)
    assert await bus.lease(EVENTS, NOW), "leased by a control plane that is killed"
    clock.advance(LEASE_TIME.total_seconds() + 1)
    records = Records()
    async with consuming(bus, records):
        await until(lambda: bool(records.events))
    assert records.events == [EVENT]


async def test_a_consumed_event_shows_that_github_reaches_us():
    seconds = 0.0
    telemetry = Telemetry(["linux"], monotonic=lambda: seconds)
    bus, _ = await published(EVENT)
    records = Records()
    seconds = 3600.0
    reflections = Reflections(bus, records.submit, telemetry, wait=SOON)
    async with reflections.open():
        await until(lambda: bool(records.events))
    assert telemetry.registry.get_sample_value("mayfly_delivery_missed_seconds") == 0
