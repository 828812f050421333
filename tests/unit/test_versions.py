"""Versions: machines are told before GitHub refuses their runners, at the price of a few calls."""

import math

import pytest
import structlog

from mayfly.engine.news import Item
from mayfly.engine.versions import Versions
from mayfly.model.access import Scope
from mayfly.model.errors import GitHubRefused, RefusalKind
from mayfly.model.jobs import InstallationId
from mayfly.model.releases import Version
from mayfly.model.runners import Sighting
from tests.fakes.engine import Engine
from tests.fakes.factories import PREFIX, queued_job, registered_claim, running_job

OLD, NEW = Version(2, 330, 0), Version(2, 336, 0)
TURN, HOUR, DAY = 20, 3600, 86_400


@pytest.fixture
def versions(engine: Engine) -> Versions:
    engine.github.newest = OLD
    return Versions(
        ledger=engine.ledger,
        github=engine.github,
        news=engine.news,
        telemetry=engine.telemetry,
        clock=engine.clock,
        prefix=PREFIX,
    )


async def passes(engine: Engine, versions: Versions, seconds: float) -> None:
    """So much time, with a turn every ten minutes and at its end."""
    for _ in range(int(seconds // 600)):
        await _turn(engine, versions, 600)
    await _turn(engine, versions, seconds % 600)


async def _turn(engine: Engine, versions: Versions, seconds: float) -> None:
    engine.clock.advance(seconds)
    await versions.turn(engine.clock.now().timestamp())


async def works(
    engine: Engine, machine: str = "m1", version: Version | None = OLD, *, job: int = 1
) -> str:
    """A machine with a busy runner of a version; its name at GitHub."""
    await engine.ledger.record([queued_job(job)])
    claim = (await registered_claim(engine.ledger, machine)).claim
    name = f"{PREFIX}-{claim.id}-1"
    await engine.ledger.record([running_job(job, runner=name)])
    await engine.github.mint(InstallationId(7), Scope("repos/octo/hello"), name, ())
    if version is not None:
        engine.github.connect(name, version)
    return name


async def told(engine: Engine) -> list[dict[str, str | int | None]]:
    """The alarms so far."""
    found: list[Item] = []
    end = engine.clock.new_id()
    async with engine.news.subscribe() as items:
        engine.news.whisper(end)
        async for item in items:
            if item.event == end:
                break
            found.append(item)
    return [item.fields for item in found if item.event == "runner.outdated"]


def left(engine: Engine, pool: str = "linux") -> float | None:
    name = "mayfly_runner_version_days_left"
    return engine.telemetry.registry.get_sample_value(name, {"pool": pool})


async def test_the_days_count_down_from_when_a_newer_release_was_seen(
    engine: Engine, versions: Versions
):
    await works(engine)
    await passes(engine, versions, TURN)
    assert left(engine) == 30
    engine.github.newest = NEW
    await passes(engine, versions, 6 * HOUR)
    assert left(engine) == 30
    await passes(engine, versions, 4 * DAY)
    assert left(engine) == 26
    assert math.isnan(left(engine, "arm64") or 0.0)


async def test_an_outdated_machine_is_told_of_once_a_day_from_the_tenth_day_on(
    engine: Engine, versions: Versions
):
    await works(engine)
    await passes(engine, versions, TURN)
    engine.github.newest = NEW
    await passes(engine, versions, 20 * DAY)
    assert await told(engine) == []
    await passes(engine, versions, 3 * DAY)
    alarms = await told(engine)
    assert [alarm["days"] for alarm in alarms] == [9, 8, 7]
    assert alarms[0] == {
        "pool": "linux",
        "machine": "m1",
        "version": "2.330.0",
        "newest": "2.336.0",
        "days": 9,
    }


async def test_a_machine_whose_version_is_refused_is_still_told_of(
    engine: Engine, versions: Versions
):
    await works(engine, version=Version(2, 328, 0))
    await passes(engine, versions, TURN)
    assert [alarm["days"] for alarm in await told(engine)] == [0]
    assert left(engine) == 0


async def test_an_idle_runner_is_looked_at_once_it_had_time_to_connect(
    engine: Engine, versions: Versions
):
    """One of a refused version stays idle, because GitHub gives it no job."""
    claim = await engine.registered()
    engine.github.connect(f"{PREFIX}-{claim}-1", Version(2, 328, 0))
    await versions.turn(59)
    assert engine.github.verbs("find_runner") == []
    await versions.turn(60)
    assert len(await told(engine)) == 1


async def test_after_an_update_nothing_is_told_any_more(engine: Engine, versions: Versions):
    name = await works(engine, version=Version(2, 328, 0))
    await passes(engine, versions, TURN)
    engine.github.connect(name, NEW)
    await passes(engine, versions, 2 * DAY)
    assert len(await told(engine)) == 1
    assert left(engine) == 30


async def test_the_machine_that_is_refused_first_speaks_for_its_pool(
    engine: Engine, versions: Versions
):
    await works(engine, "m1", NEW, job=1)
    await works(engine, "m2", Version(2, 328, 0), job=2)
    await passes(engine, versions, TURN)
    assert left(engine) == 0
    outlook = versions.outlook("linux")
    assert outlook is not None
    assert outlook.machine == "m2"
    assert versions.outlook("arm64") is None


async def test_two_machines_a_turn_are_looked_at_and_each_once_a_day(
    engine: Engine, versions: Versions
):
    for number in (1, 2, 3):
        await works(engine, f"m{number}", job=number)
    await passes(engine, versions, TURN)
    assert len(engine.github.verbs("find_runner")) == 2
    await passes(engine, versions, TURN)
    assert len(engine.github.verbs("find_runner")) == 3
    await passes(engine, versions, DAY - 2 * TURN)
    assert len(engine.github.verbs("find_runner")) == 3
    for _ in range(2):
        await passes(engine, versions, TURN)
    assert len(engine.github.verbs("find_runner")) == 6


async def test_a_runner_without_a_version_is_looked_at_again_and_is_in_nobodys_way(
    engine: Engine, versions: Versions
):
    for number in (3, 2):
        await works(engine, f"m{number}", None, job=number)
    await works(engine, "m1", Version(2, 328, 0), job=1)
    await passes(engine, versions, TURN)
    await passes(engine, versions, TURN)
    assert left(engine) == 0
    before = len(engine.github.verbs("find_runner"))
    await passes(engine, versions, 600)
    assert len(engine.github.verbs("find_runner")) == before + 2


async def test_github_is_asked_for_releases_every_six_hours_at_one_scope(
    engine: Engine, versions: Versions
):
    await engine.ledger.record([queued_job(n, repository=f"r{n}") for n in (1, 2, 3)])
    await passes(engine, versions, 18 * HOUR)
    assert engine.github.verbs() == 3 * ["offers"]


async def test_where_no_jobs_are_nothing_is_asked(engine: Engine, versions: Versions):
    await passes(engine, versions, DAY)
    assert engine.github.calls == []


async def test_after_a_refusal_another_scope_is_asked_a_little_later(
    engine: Engine, versions: Versions
):
    await engine.ledger.record([queued_job(n, repository=f"r{n}") for n in (1, 2)])
    refused = GitHubRefused(RefusalKind.MISSING_PERMISSION, "GitHub says no")
    engine.github.fail_before("offers", refused)
    with structlog.testing.capture_logs() as entries:
        for _ in range(2):
            await passes(engine, versions, TURN)
        assert len(engine.github.calls) == 1
        await passes(engine, versions, 2 * HOUR)
    assert engine.github.calls == [
        ("offers", "repos/octo/r1"),
        ("offers", "repos/octo/r2"),
    ]
    assert [entry["event"] for entry in entries] == ["versions.unseen"]


async def test_a_look_that_fails_is_repeated(engine: Engine, versions: Versions):
    await works(engine)
    engine.github.fail_before("find_runner")
    await passes(engine, versions, TURN)
    assert math.isnan(left(engine) or 0.0)
    await passes(engine, versions, 600)
    assert left(engine) == 30


async def test_one_machines_failed_look_does_not_cost_another_its_own(
    engine: Engine, versions: Versions
):
    for number in (1, 2):
        await works(engine, f"m{number}", job=number)
    refused = GitHubRefused(RefusalKind.SUSPENDED, "the installation is suspended")
    engine.github.fail_before("find_runner", refused)
    with structlog.testing.capture_logs() as entries:
        await passes(engine, versions, TURN)
    assert len(engine.github.verbs("find_runner")) == 2
    assert left(engine) == 30
    assert [entry["event"] for entry in entries] == ["versions.unseen"]


async def test_a_question_that_fails_does_not_cost_a_machine_its_look(
    engine: Engine, versions: Versions
):
    await engine.ledger.offered(NEW)
    await works(engine)
    engine.github.fail_before("offers")
    await passes(engine, versions, TURN)
    assert left(engine) == pytest.approx(30, abs=0.01)


async def test_what_another_control_plane_saw_is_known_after_a_restart(
    engine: Engine, versions: Versions
):
    await engine.ledger.offered(NEW)
    engine.clock.advance(25 * DAY)
    engine.github.newest = NEW
    await works(engine)
    await passes(engine, versions, TURN)
    assert [alarm["days"] for alarm in await told(engine)] == [4]


async def test_a_machine_without_a_runner_for_a_week_is_forgotten(
    engine: Engine, versions: Versions
):
    name = await works(engine, version=Version(2, 328, 0))
    await passes(engine, versions, TURN)
    await engine.ledger.saw(name, Sighting.GONE)
    await passes(engine, versions, 7 * DAY)
    assert left(engine) == 0
    await passes(engine, versions, DAY)
    assert math.isnan(left(engine) or 0.0)
    assert versions.outlook("linux") is None
