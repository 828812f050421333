"""The port GitHub over the simulator: what is listed, and what the delivery log says."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from mayfly.model.access import Scope
from mayfly.model.errors import RefusalKind
from mayfly.model.jobs import JobState
from mayfly.model.releases import Version, newest_of
from mayfly.model.repositories import Repository
from mayfly.simulator import ApiRule, Faults
from tests.fakes.simulated_github import (
    LABELS,
    OCTO_REPO,
    ONE_JOB,
    ORG,
    ORGANIZATION,
    REPO,
    USER,
    World,
    opened,
    refusal_of,
    simulated,
)

LOG = "GET /app/hook/deliveries"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with simulated() as simulator, opened(simulator) as found:
        yield found


async def test_runners_of_all_installations_and_levels_are_listed(world):
    await world.github.mint(ORG, REPO, "m-1", LABELS)
    await world.github.mint(ORG, ORGANIZATION, "m-2", LABELS)
    await world.github.mint(USER, Scope("repos/mona/dots"), "m-3", LABELS)
    found = {(i, scope, runner.name) async for i, scope, runner in world.github.runners()}
    assert found == {
        (ORG, REPO, "m-1"),
        (ORG, ORGANIZATION, "m-2"),
        (USER, Scope("repos/mona/dots"), "m-3"),
    }


async def test_more_than_a_page_of_runners_is_listed(world):
    for n in range(101):
        world.simulator.add_runner("mona", "dots", f"r-{n}", tuple(LABELS))
    names = [runner.name async for _, _, runner in world.github.runners()]
    assert sorted(names) == sorted(f"r-{n}" for n in range(101))


async def test_a_suspended_installation_hides_no_other(world):
    await world.github.mint(USER, Scope("repos/mona/dots"), "m-3", LABELS)
    world.simulator.suspend(ORG)
    with capture_logs() as logs:
        names = [runner.name async for _, _, runner in world.github.runners()]
    assert names == ["m-3"]
    (skipped,) = logs
    assert (skipped["event"], skipped["installation"]) == ("installation.skipped", ORG)
    assert "suspended" in skipped["reason"]


async def test_a_repository_that_fails_hides_no_other(world):
    await world.github.mint(ORG, REPO, "m-1", LABELS)
    world.simulator.faults = Faults(api=(ApiRule(path="*/other-repo/*", status=502),))
    with capture_logs() as logs:
        names = [runner.name async for _, _, runner in world.github.runners()]
    assert names == ["m-1"]
    assert [entry["event"] for entry in logs] == ["repository.skipped"]


async def test_the_runners_of_one_place_are_listed_and_no_others(world):
    for n in range(101):
        world.simulator.add_runner("octo-org", "octo-repo", f"r-{n}", tuple(LABELS))
    await world.github.mint(ORG, ORGANIZATION, "m-1", LABELS)
    here = await world.github.runners_of(ORG, REPO)
    assert {runner.name for runner in here} == {f"r-{n}" for n in range(101)}
    assert [runner.name for runner in await world.github.runners_of(ORG, ORGANIZATION)] == ["m-1"]


@pytest.mark.parametrize("scope", [REPO, ORGANIZATION])
async def test_the_newest_release_is_what_is_offered_for_download(world, scope):
    assert newest_of(await world.github.offers(ORG, scope)) == Version(2, 336, 0)
    world.simulator.offer("2.1000.3")
    assert newest_of(await world.github.offers(ORG, scope)) == Version(2, 1000, 3)


async def test_a_release_without_a_version_in_its_name_is_none(world):
    world.simulator.offer("next")
    assert newest_of(await world.github.offers(ORG, REPO)) is None


async def test_a_runner_has_a_version_once_it_has_connected(world):
    await world.github.mint(ORG, REPO, "m-1", LABELS)
    world.simulator.add_runner("octo-org", "octo-repo", "m-2", tuple(LABELS))
    found = {runner.name: runner.version for runner in await world.github.runners_of(ORG, REPO)}
    assert found == {"m-1": None, "m-2": Version(2, 336, 0)}


async def test_repositories_of_all_installations_are_listed(world):
    for n in range(100):
        world.simulator.add_repository("mona", f"repo-{n}")
    found = [repository async for repository in world.github.repositories()]
    assert len(found) == 103
    assert OCTO_REPO in found
    assert {one.full_name for one in found} >= {"octo-org/other-repo", "mona/dots", "mona/repo-99"}


async def test_repositories_of_a_suspended_installation_are_not_looked_for(world):
    world.simulator.suspend(ORG)
    with capture_logs() as logs:
        found = [repository async for repository in world.github.repositories()]
    assert found == [Repository(USER, "mona", "dots")]
    assert logs == []


async def test_an_installation_whose_repositories_fail_hides_no_other(world):
    rule = ApiRule(path="/installation/repositories", status=502, count=1)
    world.simulator.faults = Faults(api=(rule,))
    with capture_logs() as logs:
        found = [repository async for repository in world.github.repositories()]
    assert found == [Repository(USER, "mona", "dots")]
    assert [(one["event"], one["installation"]) for one in logs] == [("installation.skipped", ORG)]


async def test_runs_are_listed_by_status_with_the_time_they_last_moved(world):
    queued = world.simulator.dispatch("octo-org", "octo-repo", ONE_JOB)
    over = world.simulator.dispatch("octo-org", "octo-repo", ONE_JOB)
    world.simulator.cancel_run(over.run_id)
    found = await world.github.runs(OCTO_REPO, "queued", None)
    assert found is not None
    (run,) = found.runs
    assert (run.id, run.attempt) == (queued.run_id, 1)
    assert timedelta(0) <= world.clock.now() - run.updated_at < timedelta(minutes=1)
    running = await world.github.runs(OCTO_REPO, "in_progress", None)
    assert running is not None
    assert running.runs == []


async def test_runs_that_are_as_they_were_cost_nothing(world):
    world.simulator.dispatch("octo-org", "octo-repo", ONE_JOB)
    first = await world.github.runs(OCTO_REPO, "queued", None)
    assert first is not None
    before = world.github.budgets()[ORG].calls
    for _ in range(3):
        assert await world.github.runs(OCTO_REPO, "queued", first.etag) is None
    assert world.github.budgets()[ORG].calls == before
    world.simulator.dispatch("octo-org", "octo-repo", ONE_JOB)
    second = await world.github.runs(OCTO_REPO, "queued", first.etag)
    assert second is not None
    assert len(second.runs) == 2
    assert world.github.budgets()[ORG].calls == before - 1


async def test_runs_of_a_repository_that_is_gone_are_refused_as_such(world):
    gone = Repository(ORG, "octo-org", "never-was")
    refused = await refusal_of(world.github.runs(gone, "queued", None))
    assert refused.kind is RefusalKind.REPOSITORY_GONE
    assert "never-was" in str(refused)


async def test_the_delivery_log_is_read_newest_first_and_page_by_page(world):
    for _ in range(101):
        world.simulator.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await world.simulator.wait_deliveries()
    log = world.github.deliveries()
    attempts = [await anext(log) for _ in range(100)]
    assert world.simulator.calls[LOG] == 1
    attempts += [attempt async for attempt in log]
    assert world.simulator.calls[LOG] == 2
    assert len({attempt.guid for attempt in attempts}) == len(attempts) == 101
    assert [attempt.id for attempt in attempts] == sorted((a.id for a in attempts), reverse=True)
    newest = attempts[0]
    assert (newest.event, newest.action) == ("workflow_job", "queued")
    assert (newest.installation, newest.status_code, newest.succeeded) == (ORG, 502, False)


async def test_an_empty_delivery_log_is_empty(world):
    assert [attempt async for attempt in world.github.deliveries()] == []


async def test_a_delivery_says_what_the_webhook_would_have_said(world):
    run = world.simulator.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await world.simulator.wait_deliveries()
    (attempt,) = [attempt async for attempt in world.github.deliveries()]
    event = await world.github.delivery(attempt.id)
    assert event is not None
    assert (event.key.id, event.run_id) == (run.job_ids[0], run.run_id)
    assert (event.state, event.delivery) == (JobState.QUEUED, attempt.guid)
    assert (event.owner, event.repository, event.installation) == ("octo-org", "octo-repo", ORG)
    assert event.owner_is_organization
    assert event.labels == tuple(LABELS)


async def test_deliveries_that_are_no_jobs_are_nothing(world):
    world.simulator.world.ping()
    world.simulator.suspend(USER)
    assert await world.simulator.wait_deliveries()
    found = [attempt async for attempt in world.github.deliveries()]
    assert {attempt.event for attempt in found} == {"ping", "installation"}
    assert [await world.github.delivery(attempt.id) for attempt in found] == [None, None]


async def test_a_delivery_made_again_has_the_same_guid(world):
    world.simulator.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await world.simulator.wait_deliveries()
    (first,) = [attempt async for attempt in world.github.deliveries()]
    await world.github.redeliver(first.id)
    assert await world.simulator.wait_deliveries()
    second, before = [attempt async for attempt in world.github.deliveries()]
    assert before == first
    assert (second.guid, second.id > first.id) == (first.guid, True)


async def test_a_delivery_the_log_does_not_have_any_more_is_gone(world):
    for asked in (world.github.delivery(1), world.github.redeliver(1)):
        refused = await refusal_of(asked)
        assert refused.kind is RefusalKind.DELIVERY_GONE
