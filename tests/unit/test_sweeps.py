"""The sweep: jobs that were neither delivered nor logged are found in the lists of runs (R11)."""

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import pytest
import structlog

from mayfly.engine.sweeps import CALLS_PER_TURN, RETURNED_AGAIN_SECONDS, Sweeps
from mayfly.model.access import AccessRule
from mayfly.model.errors import GitHubRefused, RefusalKind
from mayfly.model.jobs import InstallationId, JobState
from mayfly.model.repositories import Repository, Run, Runs
from mayfly.ports import AccessRules, Ledger
from mayfly.telemetry import Telemetry
from tests.fakes.clocks import NOON, TURN, ManualClock
from tests.fakes.engine import Engine
from tests.fakes.factories import completed_job, event, queued_job, refused
from tests.fakes.github import FakeGitHub

HELLO = Repository(InstallationId(7), "octo", "hello")
PERIOD = 600
HOUR = 3600
LONG_AGO = NOON - timedelta(days=1)


class WatchedGitHub(FakeGitHub):
    """Remembers the ETags it was given, and when."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock
        self.etags: list[str | None] = []
        self.asked_at: list[tuple[datetime, str]] = []
        self.refuses: set[str] = set()
        """Repositories GitHub does not let us look at."""

    async def runs(self, repository: Repository, status: str, etag: str | None) -> Runs | None:
        self.etags.append(etag)
        self.asked_at.append((self._clock.now(), f"{repository.full_name} {status}"))
        if repository.full_name in self.refuses:
            self.fail_before("runs", GitHubRefused(RefusalKind.NOT_INSTALLED, "it is not ours"))
        return await super().runs(repository, status, etag)


class World(NamedTuple):
    """Repositories at GitHub, and the sweep that looks for their jobs."""

    ledger: Ledger
    access: AccessRules
    github: WatchedGitHub
    clock: ManualClock
    sweeps: Sweeps
    at: list[float]
    """Ledger seconds, in its only item."""

    async def passes(self, seconds: float) -> None:
        """So much time goes by, with a turn every 20 seconds."""
        end = self.at[0] + seconds
        while self.at[0] < end:
            await self.sweeps.turn(self.at[0])
            self.clock.advance(TURN.total_seconds())
            self.at[0] += TURN.total_seconds()

    async def known(self) -> list[int]:
        return sorted(job.key.id for job in await self.ledger.jobs(1000))

    def swept(self) -> Counter[str]:
        """How often each list of runs was asked for."""
        return Counter(subject for verb, subject in self.github.calls if verb == "runs")

    def has_run(self, number: int, *, updated_at: datetime = LONG_AGO, attempt: int = 1) -> None:
        """A queued run of the repository, with the job of its number."""
        runs = self.github.open_runs.setdefault(("octo/hello", "queued"), [])
        runs[:] = [run for run in runs if run.id != number]
        runs.append(Run(number, attempt, updated_at))
        self.github.jobs[number, attempt] = [event(number, attempt=attempt, asked=True)]


@pytest.fixture
def world(engine: Engine) -> World:
    github = WatchedGitHub(engine.clock)
    sweeps = Sweeps(
        telemetry=Telemetry([]),
        ledger=engine.ledger,
        github=github,
        access=engine.access,
        record=engine.intake.submit,
        clock=engine.clock,
    )
    return World(engine.ledger, engine.access, github, engine.clock, sweeps, [0.0])


async def is_active(world: World, *names: str) -> None:
    """The repositories have had an admitted job today."""
    jobs = [completed_job(1000 + n, repository=name) for n, name in enumerate(names)]
    await world.ledger.record(jobs)


# Active repositories


async def test_a_job_nobody_told_of_is_found(world: World):
    await is_active(world, "hello")
    world.has_run(1)
    world.github.jobs[1, 1].append(event(2, state=JobState.COMPLETED, asked=True))
    await world.passes(PERIOD + 40)
    assert await world.known() == [1, 2, 1000]
    assert (await world.ledger.pools())["linux"].queued == 1


async def test_every_active_repository_is_swept_once_in_10_minutes(world: World):
    names = [f"r{number}" for number in range(8)]
    await is_active(world, *names)
    await world.passes(20)
    await world.passes(3 * PERIOD)
    of_active = {subject: times for subject, times in world.swept().items() if "/r" in subject}
    assert of_active == {
        f"octo/{name} {status}": 3 for name in names for status in ("queued", "in_progress")
    }


async def test_many_are_spread_over_the_10_minutes(world: World):
    await is_active(world, *(f"r{number}" for number in range(60)))
    await world.passes(PERIOD + 100)
    by_turn = Counter(at for at, _ in world.github.asked_at)
    assert len(by_turn) > 20


async def test_a_repository_whose_jobs_are_a_day_old_or_refused_is_not_swept(world: World):
    await is_active(world, "hello")
    await world.ledger.record([refused(queued_job(1, repository="secret"))])
    world.clock.advance(86_401)
    await world.passes(PERIOD + 40)
    assert world.github.verbs("runs") == []


async def test_no_turn_makes_more_than_ten_calls_and_none_is_left_out(world: World):
    await is_active(world, *(f"r{number}" for number in range(200)))
    await world.passes(PERIOD + 20)
    await world.passes(400)
    calls = Counter(at for at, _ in world.github.asked_at)
    assert max(calls.values()) <= CALLS_PER_TURN == 10
    assert min(world.swept().values()) >= 1
    assert len(world.swept()) == 400


async def test_looking_into_runs_counts_as_calls_too(world: World):
    await is_active(world, "hello")
    for number in range(1, 41):
        world.has_run(number)
    before = 0
    for _ in range(40):
        await world.passes(20)
        calls = len(world.github.verbs("runs", "run_jobs"))
        assert calls - before <= CALLS_PER_TURN
        before = calls
    assert len(await world.known()) == 41


# What is looked into


async def test_the_second_sweep_asks_by_the_etag_of_the_first(world: World):
    await is_active(world, "hello")
    world.has_run(1)
    await world.passes(2 * PERIOD + 40)
    first, second = world.github.etags[:2], world.github.etags[2:]
    assert first == [None, None]
    assert len(second) == 2
    assert None not in second
    assert world.github.verbs("run_jobs") == ["run_jobs"]


async def test_a_run_that_did_not_change_is_looked_into_once_though_its_neighbours_change(
    world: World,
):
    await is_active(world, "hello")
    world.has_run(1)
    await world.passes(PERIOD + 40)
    world.has_run(2)
    await world.passes(PERIOD)
    assert [subject for verb, subject in world.github.calls if verb == "run_jobs"] == [
        "octo/hello"
    ] * 2
    assert await world.known() == [1, 2, 1000]


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_run_that_changed_is_looked_into_again(world: World, attempt: int):
    await is_active(world, "hello")
    world.has_run(1)
    await world.passes(PERIOD + 40)
    world.has_run(1, attempt=attempt, updated_at=LONG_AGO + timedelta(hours=1))
    await world.passes(PERIOD)
    assert len(world.github.verbs("run_jobs")) == 2


async def test_a_run_that_changed_just_now_waits_and_its_etag_does_not_hide_it(world: World):
    await is_active(world, "hello")
    await world.passes(20)
    world.has_run(1)
    await world.passes(PERIOD)
    swept_at = world.github.asked_at[-1][0]
    world.has_run(2, updated_at=swept_at + timedelta(seconds=PERIOD) - timedelta(minutes=4))
    await world.passes(PERIOD)
    assert await world.known() == [1, 1000], "deliveries may still be on their way"
    await world.passes(PERIOD)
    assert await world.known() == [1, 2, 1000]


async def test_a_look_that_failed_is_repeated_although_nothing_changed(world: World):
    await is_active(world, "hello")
    world.has_run(1)
    world.github.fail_before("run_jobs")
    with structlog.testing.capture_logs() as entries:
        await world.passes(PERIOD + 40)
    assert [entry["event"] for entry in entries] == ["sweep.failed"]
    assert await world.known() == [1000]
    await world.passes(PERIOD)
    assert await world.known() == [1, 1000]


async def test_a_list_that_failed_is_asked_for_again(world: World):
    await is_active(world, "hello")
    world.has_run(1)
    for _ in range(2):
        world.github.fail_before("runs")
    await world.passes(2 * PERIOD + 40)
    assert await world.known() == [1, 1000]


async def test_a_repository_github_does_not_show_is_no_others_trouble(world: World):
    await is_active(world, "gone", "hello")
    world.github.refuses = {"octo/gone"}
    world.has_run(1)
    await world.passes(PERIOD + 40)
    assert await world.known() == [1, 1000, 1001]


# Idle repositories


def idle(count: int, owner: str = "octo") -> list[Repository]:
    return [Repository(InstallationId(7), owner, f"idle-{number}") for number in range(count)]


async def test_idle_repositories_take_turns_with_no_more_than_7_calls_an_hour_together(
    world: World,
):
    world.github.seen = idle(5)
    await world.passes(3 * HOUR)
    assert world.github.verbs("repositories") == ["repositories"]
    times = [at for at, _ in world.github.asked_at]
    for first in times:
        assert sum(first <= at < first + timedelta(hours=1) for at in times) <= 7
    assert sum(world.swept().values()) >= 15
    assert set(world.swept()) == {f"octo/idle-{number} queued" for number in range(5)}
    assert max(world.swept().values()) - min(world.swept().values()) <= 2


async def test_the_first_job_of_an_idle_repository_is_found(world: World):
    world.github.seen = [HELLO]
    world.has_run(1)
    await world.passes(HOUR)
    assert await world.known() == [1]


async def test_repositories_no_rule_speaks_of_are_left_alone(world: World):
    world.github.seen = [*idle(3, owner="stranger"), Repository(InstallationId(7), "OCTO", "case")]
    await world.passes(2 * HOUR)
    assert set(world.swept()) == {"OCTO/case queued"}


async def test_the_list_of_repositories_is_read_once_a_day(world: World):
    world.github.seen = idle(1)
    await world.passes(HOUR)
    world.github.seen = idle(2)
    world.at[0] += 86_400
    await world.passes(2 * HOUR)
    assert len(world.github.verbs("repositories")) == 2
    assert set(world.swept()) == {"octo/idle-0 queued", "octo/idle-1 queued"}


async def test_a_long_list_of_repositories_has_its_calls_made_up_for(world: World):
    world.github.seen = idle(950)
    await world.passes(2 * HOUR)
    times = [at for at, _ in world.github.asked_at]
    assert times[0] - NOON >= timedelta(hours=1), "ten pages are an hour's calls"
    assert all(late - early >= timedelta(minutes=8) for early, late in pairwise(times))


async def test_a_list_of_repositories_that_failed_is_read_again_soon(world: World):
    world.github.seen = [HELLO]
    world.has_run(1)
    world.github.fail_before("repositories")
    await world.passes(HOUR)
    await world.passes(2 * HOUR)
    assert await world.known() == [1]


async def test_a_rule_granted_today_counts_tomorrow_at_the_latest(world: World):
    stranger = Repository(InstallationId(8), "mona", "hello")
    world.github.seen = [stranger]
    await world.passes(40)
    await world.access.grant(AccessRule(owner="Mona", label="linux"))
    world.clock.advance(86_400)
    await world.passes(HOUR)
    assert set(world.swept()) == {"mona/hello queued"}


# An installation that came back


async def test_what_waited_while_the_app_was_suspended_is_found_in_the_next_turn(world: World):
    await world.access.grant(AccessRule(label="linux", owner="octo"))
    world.has_run(1, updated_at=NOON)
    await world.passes(20)
    world.github.seen = [HELLO]
    await world.sweeps.revived(HELLO.installation)
    await world.passes(20)
    assert await world.known() == [1]
    await world.passes(HOUR)
    assert world.github.verbs("repositories_of") == ["repositories_of"]


@pytest.mark.parametrize("verb", ["repositories_of", "runs", "run_jobs"])
async def test_what_came_back_is_asked_again_in_minutes_where_github_is_silent(
    world: World, verb: str
):
    await world.access.grant(AccessRule(label="linux", owner="octo"))
    world.has_run(1)
    world.github.seen = [HELLO]
    await world.passes(20)
    await world.sweeps.revived(HELLO.installation)
    world.github.fail_before(verb)
    await world.passes(60)
    assert await world.known() == []
    await world.passes(RETURNED_AGAIN_SECONDS)
    assert await world.known() == [1]


async def test_what_came_back_and_left_again_is_asked_once(world: World):
    await world.passes(20)
    await world.sweeps.revived(HELLO.installation)
    world.github.fail_before(
        "repositories_of", GitHubRefused(RefusalKind.SUSPENDED, "it is suspended")
    )
    await world.passes(HOUR)
    assert world.github.verbs("repositories_of") == ["repositories_of"]
