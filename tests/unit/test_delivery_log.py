"""The delivery log: what GitHub could not deliver is fetched, once, and nothing is skipped."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import pytest
import structlog

from mayfly.engine.deliveries import CHUNK, MOST_TRIES, DeliveryLog
from mayfly.model.deliveries import Attempt, LogPosition
from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    RateLimited,
    RefusalKind,
    Transient,
)
from mayfly.model.jobs import InstallationId, WorkflowJobEvent
from mayfly.ports import Ledger
from mayfly.telemetry import Telemetry
from tests.fakes.clocks import NOON, ManualClock
from tests.fakes.engine import Engine, opened_engine
from tests.fakes.factories import attempt, event
from tests.fakes.github import FakeGitHub

HOUR = 3600
FAILED = 502


class PatchyGitHub(FakeGitHub):
    """Does not hand out some payloads in time."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: set[int] = set()

    async def delivery(self, attempt: int) -> WorkflowJobEvent | None:
        if attempt in self.silent:
            self.fail_before("delivery")
        return await super().delivery(attempt)


class World(NamedTuple):
    """GitHub's log, and what came of it."""

    ledger: Ledger
    github: PatchyGitHub
    clock: ManualClock
    telemetry: Telemetry
    recorded: list[int]
    revivals: list[int]
    """Installations that may work again."""
    seconds: list[float]
    """The telemetry's own time, in its only item."""
    poison: list[int]
    """Jobs no ledger can hold."""

    def log(self, *, pull: bool = True, forgets: int | None = None) -> DeliveryLog:
        """A fresh reader, as after a start; `forgets` is a job whose record fails once."""
        failing = [forgets]

        async def record(event: WorkflowJobEvent) -> None:
            if event.key.id in failing:
                failing.clear()
                raise Transient("the database is locked")
            if event.key.id in self.poison:
                raise ValueError("this row cannot be stored")
            self.recorded.append(event.key.id)

        async def revived(installation: InstallationId) -> None:
            self.revivals.append(installation)

        return DeliveryLog(
            ledger=self.ledger,
            github=self.github,
            record=record,
            revived=(revived,),
            telemetry=self.telemetry,
            clock=self.clock,
            pull=pull,
        )

    def logs(self, *attempts: Attempt) -> None:
        """GitHub logs them too; each delivers the job of its number."""
        everything = [*self.github.log, *attempts]
        self.github.log = sorted(
            everything, key=lambda one: (one.delivered_at, one.id), reverse=True
        )
        for one in attempts:
            self.github.payloads[one.id] = event(one.id)

    async def position(self) -> int | None:
        found = await self.ledger.log_position()
        return found.id if found else None

    def fetched(self) -> list[int]:
        """The attempts whose payload GitHub was asked for."""
        return [int(subject) for verb, subject in self.github.calls if verb == "delivery"]

    def corrected(self, correction: str) -> str:
        label = f'mayfly_reconciler_corrected_total{{correction="{correction}"}} '
        scraped = self.telemetry.scrape().decode()
        return scraped.partition(label)[2].partition("\n")[0]


@pytest.fixture
def world(engine: Engine) -> World:
    seconds = [0.0]
    telemetry = Telemetry(["linux"], monotonic=lambda: seconds[0])
    return World(engine.ledger, PatchyGitHub(), engine.clock, telemetry, [], [], seconds, [])


async def turns(log: DeliveryLog, count: int = 1) -> None:
    for _ in range(count):
        await log.turn(0.0)


# What is taken


async def test_a_clock_ahead_of_githubs_misses_nothing_of_the_first_minutes(world: World):
    log = world.log()
    await turns(log)
    world.logs(attempt(1, age=120, status=0))
    await turns(log)
    assert world.recorded == [1]


async def test_with_pull_every_job_is_taken(world: World):
    world.logs(attempt(1, age=20), attempt(2, age=10, status=FAILED), attempt(3, status=0))
    await turns(world.log())
    assert world.recorded == [1, 2, 3]
    assert world.corrected("delivery_fetched") == "3.0"


async def test_otherwise_only_what_never_arrived_is_taken(world: World):
    world.logs(
        attempt(1, age=50),
        attempt(2, age=40, status=FAILED),
        attempt(3, age=30, status=FAILED, guid="again"),
        attempt(4, age=20, status=0),
        attempt(5, age=10, guid="again"),
    )
    await turns(world.log(pull=False))
    assert world.recorded == [2, 4]


async def test_one_success_makes_a_delivery_good_whatever_came_of_later_attempts(world: World):
    world.logs(attempt(1, age=9, guid="g"), attempt(2, status=FAILED, guid="g"))
    await turns(world.log(pull=False))
    assert world.fetched() == []


async def test_a_delivery_of_many_attempts_is_taken_once(world: World):
    world.logs(*(attempt(number, age=9 - number, status=0, guid="g") for number in range(1, 5)))
    await turns(world.log(pull=False), 3)
    assert world.recorded == [4]


async def test_what_is_not_about_jobs_is_not_asked_for(world: World):
    world.logs(attempt(1, kind="installation"), attempt(2, kind="ping"))
    await turns(world.log())
    assert world.fetched() == []
    assert await world.position() == 2


async def test_a_payload_mayfly_has_no_use_for_is_no_reason_to_wait(world: World):
    world.logs(attempt(1))
    world.github.payloads[1] = None
    await turns(world.log(), 2)
    assert (world.recorded, world.fetched()) == ([], [1])
    assert await world.position() == 1


# From where


async def test_the_first_start_looks_back_an_hour(world: World):
    world.logs(attempt(1, age=HOUR + 1), attempt(2, age=HOUR), attempt(3))
    await turns(world.log())
    assert world.recorded == [2, 3]


async def test_the_log_is_not_read_further_than_needed(world: World):
    world.logs(*(attempt(number, age=2 * HOUR) for number in range(1, 251)), attempt(999))
    await turns(world.log())
    assert world.github.verbs("deliveries") == ["deliveries"]


async def test_a_first_start_that_found_nothing_goes_on_from_an_hour_before(world: World):
    log = world.log()
    await turns(log)
    assert await world.ledger.log_position() == LogPosition(0, NOON)
    world.clock.advance(2 * HOUR)
    world.logs(attempt(1, age=HOUR / 2))
    await turns(log)
    assert world.recorded == [1]


async def test_the_next_reading_begins_at_the_last_and_a_minute_before(world: World):
    world.logs(attempt(10))
    log = world.log()
    await turns(log)
    world.logs(attempt(1, age=61), attempt(2, age=60), attempt(11, age=-20))
    await turns(log)
    assert world.recorded == [10, 2, 11]
    assert await world.position() == 11


async def test_what_was_taken_is_not_asked_for_again(world: World):
    world.logs(attempt(1), attempt(2))
    await turns(world.log(), 3)
    assert world.fetched() == [1, 2]


async def test_the_position_never_moves_back(world: World):
    world.logs(attempt(10))
    log = world.log()
    await turns(log)
    world.logs(attempt(11, age=30))
    await turns(log)
    assert world.recorded == [10, 11]
    assert await world.position() == 10


async def test_a_reading_that_failed_changes_nothing(world: World):
    world.logs(attempt(1))
    world.github.fail_before("deliveries")
    log = world.log()
    await turns(log)
    assert await world.position() is None
    await turns(log)
    assert world.recorded == [1]


async def test_how_long_ago_it_was_read_to_its_end_is_measured(world: World):
    world.logs(attempt(1))
    log = world.log()
    world.github.fail_before("delivery")
    world.seconds[0] = 100.0
    await turns(log)
    assert "\nmayfly_log_missed_seconds 100.0" in world.telemetry.scrape().decode()
    await turns(log)
    assert "\nmayfly_log_missed_seconds 0.0" in world.telemetry.scrape().decode()


# What GitHub does not hand out


async def test_silence_holds_the_position_and_the_others_go_on(world: World):
    world.logs(*(attempt(number, age=10 - number) for number in range(1, 5)))
    world.github.fail_before("delivery")
    log = world.log()
    await turns(log)
    assert world.recorded == [2, 3, 4]
    assert await world.position() is None
    await turns(log)
    assert world.recorded == [2, 3, 4, 1]
    assert await world.position() == 4
    assert world.fetched() == [1, 2, 3, 4, 1]


async def test_the_position_moves_up_to_what_is_held_and_no_further(world: World):
    world.logs(*(attempt(number, age=50 - 10 * number) for number in range(1, 6)))
    world.github.silent = {3, 4}
    log = world.log()
    await turns(log)
    assert world.recorded == [1, 2, 5]
    assert await world.position() == 2
    world.github.silent = {4}
    await turns(log)
    assert await world.position() == 3


async def test_an_event_no_ledger_can_hold_is_tried_for_a_while_and_takes_no_other_with_it(
    world: World,
):
    world.logs(*(attempt(number, age=2 * CHUNK - number) for number in range(1, CHUNK + 2)))
    world.poison.append(1)
    log = world.log()
    with structlog.testing.capture_logs() as logs:
        await turns(log, MOST_TRIES - 1)
        assert world.recorded == [*range(2, CHUNK + 1)]
        assert await world.position() is None
        await turns(log)
    assert world.recorded == [*range(2, CHUNK + 2)]
    assert await world.position() == CHUNK + 1
    assert {item["event"] for item in logs} == {"delivery.stumbled"}


async def test_what_came_at_the_very_moment_of_something_held_is_not_passed_over(world: World):
    world.logs(attempt(1, age=9), attempt(2, age=9), attempt(3))
    world.github.silent = {2}
    await turns(world.log())
    assert await world.position() is None


async def test_a_payload_that_never_comes_is_delivered_again_at_last(world: World):
    world.logs(attempt(1, status=FAILED))
    world.github.silent = {1}
    log = world.log(pull=False)
    await turns(log, MOST_TRIES - 1)
    assert (world.github.redelivered, await world.position()) == ([], None)
    await turns(log)
    assert (world.github.redelivered, await world.position()) == ([1], 1)
    await turns(log, 3)
    assert world.github.redelivered == [1]
    assert world.corrected("delivery_repeated") == "1.0"


async def test_a_payload_that_is_refused_is_delivered_again_once(world: World):
    world.logs(attempt(1, age=9, status=FAILED), attempt(2, status=FAILED))
    del world.github.payloads[1]
    log = world.log(pull=False)
    await turns(log, 3)
    assert world.github.redelivered == [1]
    assert world.recorded == [2]
    assert await world.position() == 2


async def test_with_pull_nobody_would_hear_a_redelivery_so_it_is_said(world: World):
    world.logs(attempt(1))
    del world.github.payloads[1]
    log = world.log()
    with structlog.testing.capture_logs() as entries:
        await turns(log, 3)
    assert world.github.redelivered == []
    assert [(entry["event"], entry["delivery"]) for entry in entries] == [
        ("delivery.unreadable", "guid-1")
    ]
    assert await world.position() == 1


@pytest.mark.parametrize(
    "error", [GitHubUnreachable("no answer"), GitHubRefused(RefusalKind.DELIVERY_GONE, "gone")]
)
async def test_a_delivery_that_cannot_be_repeated_either_is_said_and_left_to_the_sweep(
    world: World, error: GitHubUnreachable | GitHubRefused
):
    world.logs(attempt(1, status=FAILED))
    del world.github.payloads[1]
    world.github.fail_before("redeliver", error)
    with structlog.testing.capture_logs() as entries:
        await turns(world.log(pull=False), 2)
    assert [entry["event"] for entry in entries] == ["delivery.unreadable", "delivery.lost"]
    assert await world.position() == 1


async def test_a_redelivery_that_arrives_needs_no_more_of_us(world: World):
    world.logs(attempt(1, age=9, status=FAILED, guid="g"))
    del world.github.payloads[1]
    log = world.log(pull=False)
    await turns(log)
    world.logs(attempt(2, guid="g"))
    await turns(log, 2)
    assert world.fetched() == [1]
    assert await world.position() == 2


# Chunks, and crashes in the middle


def many(count: int) -> Sequence[Attempt]:
    return [attempt(number, age=count - number, status=FAILED) for number in range(1, count + 1)]


async def test_a_crash_costs_no_more_than_a_chunk(world: World):
    world.logs(*many(2 * CHUNK + 50))
    with pytest.raises(Transient, match="locked"):
        await turns(world.log(pull=False, forgets=CHUNK + 7))
    assert await world.position() == CHUNK
    before = len(world.recorded)
    await turns(world.log(pull=False))
    assert set(world.recorded) == set(range(1, 2 * CHUNK + 51))
    assert min(world.recorded[before:]) == CHUNK - 60, "the overlap alone is read twice"
    assert await world.position() == 2 * CHUNK + 50


async def test_what_is_behind_something_held_waits_with_its_chunk(world: World):
    world.logs(*many(2 * CHUNK))
    world.github.fail_before("delivery")
    log = world.log()
    await turns(log)
    assert await world.position() is None
    assert sorted(world.recorded) == list(range(2, CHUNK + 1))
    await turns(log)
    assert sorted(world.recorded) == list(range(1, 2 * CHUNK + 1))
    assert await world.position() == 2 * CHUNK


async def test_reading_everything_twice_counts_everything_once():
    async with opened_engine() as engine:
        engine.github.log = [attempt(2), attempt(1)]
        engine.github.payloads = {1: event(1), 2: event(2)}
        for _ in range(2):
            log = DeliveryLog(
                ledger=engine.ledger,
                github=engine.github,
                record=engine.intake.submit,
                revived=(engine.intake.revived,),
                telemetry=engine.telemetry,
                clock=engine.clock,
                pull=True,
            )
            await log.turn(0.0)
        assert (await engine.ledger.pools())["linux"].queued == 2
        assert len(await engine.ledger.jobs(10)) == 2


@pytest.mark.parametrize(
    ("kind", "action", "told"),
    [
        ("installation", "unsuspend", [7]),
        ("installation_repositories", "added", [7]),
        ("installation", "suspend", []),
        ("installation", "deleted", []),
    ],
)
async def test_a_changed_installation_is_told_without_fetching_it(
    world: World, kind: str, action: str, told: list[int]
):
    world.logs(attempt(1, status=FAILED, kind=kind, action=action))
    log = world.log()
    await turns(log, 2)
    assert world.revivals == told
    assert "delivery" not in world.github.verbs()


async def test_an_installation_that_came_back_is_told_of_whoever_took_its_delivery(world: World):
    """Another control plane may have, and this one repairs."""
    world.logs(attempt(1, status=202, kind="installation", action="unsuspend"))
    await turns(world.log(pull=False), 2)
    assert world.revivals == [7]


async def test_our_own_limit_is_no_reason_to_give_a_payload_up(world: World):
    world.logs(attempt(1, status=FAILED))
    log = world.log()
    for _ in range(MOST_TRIES + 1):
        world.github.fail_before("delivery", RateLimited("the App is at its limit"))
    await turns(log, MOST_TRIES + 1)
    assert world.recorded == []
    await turns(log)
    assert world.recorded == [1]


async def test_a_restored_ledger_takes_what_arrived_for_the_one_that_was_lost(world: World):
    await world.ledger.log_read(LogPosition(1, NOON - timedelta(hours=2)))
    world.logs(attempt(2, age=3600), attempt(3, age=30))
    log = world.log(pull=False)
    await turns(log)
    assert world.recorded == [2, 3]
    world.logs(attempt(4))
    await turns(log)
    assert world.recorded == [2, 3], "from now on what arrived, arrived here"


async def test_what_arrived_just_before_a_restart_is_not_fetched_again(world: World):
    await world.ledger.log_read(LogPosition(1, NOON - timedelta(seconds=90)))
    world.logs(attempt(2, age=60), attempt(3, age=30))
    await turns(world.log(pull=False))
    assert world.recorded == []


async def test_github_is_asked_once_to_repeat_what_nobody_can_take(world: World):
    for number in range(1, 5):
        world.logs(attempt(number, guid="again", status=FAILED, age=400 - 100 * number))
        world.github.payloads.pop(number)
    log = world.log(pull=False)
    await turns(log, 3)
    assert world.github.verbs("redeliver") == ["redeliver"]


async def test_a_log_that_is_refused_is_counted_and_said(world: World):
    refusal = GitHubRefused(RefusalKind.DELIVERY_GONE, "no log")
    world.github.fail_before("deliveries", refusal)
    await turns(world.log())
    scraped = world.telemetry.scrape().decode()
    assert 'mayfly_github_refused_total{kind="delivery_gone"} 1.0' in scraped


async def test_an_attempt_of_tomorrow_does_not_end_the_reading(world: World):
    world.logs(attempt(1, age=-86_400))
    log = world.log()
    await turns(log)
    world.logs(attempt(2, age=0))
    await turns(log)
    assert world.recorded == [1, 2]
