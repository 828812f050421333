"""The port GitHub over the simulator: what is asked is done, what is refused is told apart."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from mayfly.github.secrets import Secret
from mayfly.model.access import Scope
from mayfly.model.errors import GitHubUnreachable, RateLimited, RefusalKind
from mayfly.model.jobs import JobState
from mayfly.model.runners import Sighting
from mayfly.ports import GitHub
from mayfly.simulator import ApiRule, Faults, Simulator, generate_app_key
from mayfly.simulator.server import application
from tests.fakes.simulated_github import (
    LABELS,
    ONE_JOB,
    ORG,
    ORGANIZATION,
    REPO,
    USER,
    SystemClock,
    World,
    opened,
    refusal_of,
    simulated,
)

OTHER_PRIVATE, _ = generate_app_key()
JIT = "*/generate-jitconfig"
MATRIX = f"""
jobs:
  many:
    runs-on: [self-hosted, linux]
    strategy: {{matrix: {{n: {list(range(25))}, side: [a, b, c, d, e]}}}}
    steps: [{{run: 'true'}}]
"""


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with simulated() as running:
        yield running


@pytest.fixture
async def world(simulator: Simulator) -> AsyncIterator[World]:
    async with opened(simulator) as found:
        yield found


def busy_runner(simulator: Simulator, name: str = "busy-1") -> int:
    """A runner that has taken a job and keeps it."""
    made = simulator.add_runner("octo-org", "octo-repo", name, tuple(LABELS), after_ms=None)
    simulator.dispatch("octo-org", "octo-repo", ONE_JOB)
    return made.id


def token_calls(simulator: Simulator) -> int:
    return sum(n for call, n in simulator.calls.items() if call.endswith("/access_tokens"))


async def test_the_app_is_the_port(world):
    port: GitHub = world.github
    assert port is world.github


@pytest.mark.parametrize("scope", [REPO, ORGANIZATION])
async def test_a_minted_runner_is_found_by_name_and_deleted(world, scope):
    minted = await world.github.mint(ORG, scope, "m-1", LABELS)
    assert minted.jit_config
    found = await world.github.find_runner(ORG, scope, "m-1")
    assert found is not None
    assert (found.id, found.name, found.status, found.busy) == (
        minted.github_id,
        "m-1",
        "offline",
        False,
    )
    assert set(LABELS) <= set(found.labels)
    assert await world.github.delete_runner(ORG, scope, minted.github_id) is Sighting.GONE
    assert await world.github.find_runner(ORG, scope, "m-1") is None


@pytest.mark.parametrize("app_id", ["4711", "Iv23liMayflySimulator"])
async def test_the_app_may_be_named_by_either_id(simulator, app_id):
    async with opened(simulator, app_id=app_id) as world:
        assert (await world.github.app()).id == 4711


async def test_an_enterprise_server_is_another_address(simulator):
    async with opened(simulator, api_url=f"{simulator.url}/api/v3/") as world:
        await world.github.mint(ORG, REPO, "m-1", LABELS)


async def test_a_second_runner_of_the_same_name_is_refused_as_such(world):
    await world.github.mint(ORG, REPO, "m-1", LABELS)
    refused = await refusal_of(world.github.mint(ORG, REPO, "m-1", LABELS))
    assert refused.kind is RefusalKind.NAME_EXISTS


async def test_a_name_or_labels_github_cannot_take_are_an_invalid_request(world):
    for name, labels in (("n" * 65, LABELS), ("m-1", [])):
        refused = await refusal_of(world.github.mint(ORG, REPO, name, labels))
        assert refused.kind is RefusalKind.INVALID_REQUEST


async def test_deleting_a_busy_runner_says_busy_and_a_missing_one_gone(world):
    runner = busy_runner(world.simulator)
    assert await world.simulator.wait_runner("busy-1", "busy")
    assert await world.github.delete_runner(ORG, REPO, runner) is Sighting.BUSY
    assert await world.github.delete_runner(ORG, REPO, 999_999) is Sighting.GONE


async def test_every_job_of_a_large_matrix_is_listed(world):
    run = world.simulator.dispatch("octo-org", "octo-repo", MATRIX)
    events = await world.github.run_jobs(ORG, "octo-org", "octo-repo", run.run_id, 1)
    assert {event.key.id for event in events} == set(run.job_ids)
    assert len(events) == 125
    assert {event.state for event in events} == {JobState.QUEUED}
    assert {event.labels for event in events} == {tuple(LABELS)}
    assert all(event.owner_is_organization and event.installation == ORG for event in events)


async def test_a_job_is_looked_up_with_the_runner_that_took_it(world):
    run = world.simulator.dispatch("octo-org", "octo-repo", ONE_JOB)
    (job,) = run.job_ids
    queued = await world.github.get_job(ORG, "octo-org", "octo-repo", job)
    assert queued is not None
    assert (queued.state, queued.runner_name) == (JobState.QUEUED, None)
    world.simulator.add_runner("octo-org", "octo-repo", "r-1", tuple(LABELS), after_ms=None)
    assert await world.simulator.wait_job(job, "in_progress")
    running = await world.github.get_job(ORG, "octo-org", "octo-repo", job)
    assert running is not None
    assert (running.state, running.runner_name) == (JobState.IN_PROGRESS, "r-1")


async def test_what_is_not_there_is_not_there(world):
    assert await world.github.get_job(ORG, "octo-org", "octo-repo", 999_999) is None
    assert await world.github.run_jobs(ORG, "octo-org", "octo-repo", 999_999, 1) == []
    assert await world.github.get_run(ORG, "octo-org", "octo-repo", 999_999) is None
    assert await world.github.find_runner(ORG, REPO, "nobody") is None


async def test_a_run_tells_the_event_and_the_fork(world):
    run = world.simulator.dispatch(
        "octo-org", "octo-repo", ONE_JOB, event="pull_request", head_repository="mallory/octo-repo"
    )
    found = await world.github.get_run(ORG, "octo-org", "octo-repo", run.run_id)
    assert found is not None
    assert found.event == "pull_request"
    assert found.head_repository is not None
    assert found.head_repository.full_name == "mallory/octo-repo"
    assert found.head_repository.fork


async def test_a_registration_token_is_a_secret(world):
    token = await world.github.registration_token(ORG, REPO)
    assert token.token
    assert token.token not in repr(token)
    assert token.url == f"{world.simulator.url}/octo-org/octo-repo"


async def test_the_owner_of_a_job_is_known_to_be_a_person(world):
    run = world.simulator.dispatch("mona", "dots", ONE_JOB)
    (event,) = await world.github.run_jobs(USER, "mona", "dots", run.run_id, 1)
    assert not event.owner_is_organization


async def test_one_token_serves_many_calls_at_once(world):
    await asyncio.gather(
        *(world.github.mint(ORG, REPO, f"m-{n}", LABELS) for n in range(20)),
        *(world.github.find_runner(ORG, REPO, "x") for _ in range(20)),
    )
    assert token_calls(world.simulator) == 1


async def test_a_token_that_ends_early_is_replaced(world):
    await world.github.mint(ORG, REPO, "m-1", LABELS)
    world.simulator.world.tokens.expire(world.simulator.world.now())
    await world.github.mint(ORG, REPO, "m-2", LABELS)
    assert token_calls(world.simulator) == 2


async def test_a_wrong_key_is_told_from_a_wrong_clock_and_from_a_missing_permission(simulator):
    async with opened(simulator, private_key=Secret(OTHER_PRIVATE)) as world:
        wrong_key = await refusal_of(world.github.mint(ORG, REPO, "m-1", LABELS))
    skews = []
    for minutes in (5, -30):
        async with opened(simulator, SystemClock(timedelta(minutes=minutes))) as world:
            skews.append(await refusal_of(world.github.mint(ORG, REPO, "m-1", LABELS)))
    async with opened(simulator) as world:
        world.permit(actions="read", metadata="read")
        permission = await refusal_of(world.github.mint(ORG, REPO, "m-1", LABELS))
    assert wrong_key.kind is RefusalKind.BAD_KEY
    assert [skew.kind for skew in skews] == [RefusalKind.CLOCK_SKEW] * 2
    assert "ahead" in str(skews[0])
    assert "behind" in str(skews[1])
    assert permission.kind is RefusalKind.MISSING_PERMISSION
    assert "administration=write" in str(permission)
    assert len({str(wrong_key), str(skews[0]), str(permission)}) == 3


async def test_a_clock_wrong_by_less_than_a_minute_does_no_harm(simulator):
    for seconds in (50, -50):
        async with opened(simulator, SystemClock(timedelta(seconds=seconds))) as world:
            await world.github.app()


async def test_an_unknown_app_is_a_matter_of_the_key_settings(simulator):
    async with opened(simulator, app_id="1") as world:
        refused = await refusal_of(world.github.app())
    assert refused.kind is RefusalKind.BAD_KEY
    assert "app_id" in str(refused)


async def test_a_permission_granted_later_is_used_without_a_restart(world):
    world.permit(metadata="read")
    await refusal_of(world.github.mint(ORG, REPO, "m-1", LABELS))
    world.permit(metadata="read", administration="write")
    await world.github.mint(ORG, REPO, "m-1", LABELS)


async def test_a_suspended_installation_is_named_with_or_without_a_token(world):
    world.simulator.suspend(ORG)
    without = await refusal_of(world.github.mint(ORG, REPO, "m-1", LABELS))
    world.simulator.unsuspend(ORG)
    await world.github.mint(ORG, REPO, "m-1", LABELS)
    world.simulator.suspend(ORG)
    held = await refusal_of(world.github.mint(ORG, REPO, "m-2", LABELS))
    assert without.kind is held.kind is RefusalKind.SUSPENDED


async def test_an_installation_that_is_gone_is_not_installed(world):
    world.simulator.world.accounts.uninstall(ORG)
    refused = await refusal_of(world.github.mint(ORG, REPO, "m-1", LABELS))
    assert refused.kind is RefusalKind.NOT_INSTALLED
    assert "installation 501" in str(refused)


async def test_a_repository_taken_out_or_deleted_says_which(world):
    await world.github.mint(ORG, REPO, "m-1", LABELS)
    world.simulator.deselect_repository("octo-org", "octo-repo")
    for name in ("octo-repo", "never-was"):
        scope = Scope(f"repos/octo-org/{name}")
        refused = await refusal_of(world.github.mint(ORG, scope, "m-2", LABELS))
        assert refused.kind is RefusalKind.REPOSITORY_GONE
        assert name in str(refused)


@pytest.mark.parametrize("limit", ["primary", "secondary"])
async def test_a_rate_limit_holds_the_installation_until_it_ends(world, limit):
    await world.github.mint(ORG, REPO, "m-1", LABELS)
    rule = ApiRule(path=JIT, limit=limit, retry_after=30, count=1)
    world.simulator.faults = Faults(api=(rule,))
    before = world.clock.now()
    with pytest.raises(RateLimited) as raised:
        await world.github.mint(ORG, REPO, "m-2", LABELS)
    assert raised.value.retry_at is not None
    assert timedelta(seconds=28) < raised.value.retry_at - before < timedelta(seconds=32)
    calls = dict(world.simulator.calls)
    with pytest.raises(RateLimited):
        await world.github.find_runner(ORG, REPO, "m-1")
    assert world.simulator.calls == calls, "GitHub hears nothing while it wants silence"
    await world.github.mint(USER, Scope("repos/mona/dots"), "m-3", LABELS)


async def test_a_short_limit_is_waited_for(world):
    rule = ApiRule(path=JIT, limit="secondary", retry_after=1, count=1)
    world.simulator.faults = Faults(api=(rule,))
    with pytest.raises(RateLimited):
        await world.github.mint(ORG, REPO, "m-1", LABELS)
    assert (await world.github.mint(ORG, REPO, "m-1", LABELS)).github_id


async def test_bursts_are_shaped_before_github_does_it(simulator):
    async with opened(simulator, mints_per_minute=3, mint_patience_seconds=1.0) as world:
        results = await asyncio.gather(
            *(world.github.mint(ORG, REPO, f"m-{n}", LABELS) for n in range(5)),
            return_exceptions=True,
        )
    assert [isinstance(result, RateLimited) for result in results] == [False] * 3 + [True] * 2
    jit_calls = [n for call, n in simulator.calls.items() if "generate-jitconfig" in call]
    assert jit_calls == [3]


async def test_the_limit_github_tells_is_kept_a_reserve_of(simulator):
    simulator.world.limits.core = 10
    async with opened(simulator) as world:
        for _ in range(8):
            await world.github.find_runner(ORG, REPO, "x")
        before = simulator.calls
        with pytest.raises(RateLimited) as raised:
            await world.github.find_runner(ORG, REPO, "x")
        assert simulator.calls == before, "the last fifth of the hour is left alone"
        assert raised.value.retry_at is not None
        wait = raised.value.retry_at - world.clock.now()
        assert timedelta(minutes=59) < wait <= timedelta(minutes=61)
        assert world.github.budgets()[ORG].calls == 2
        assert world.github.least_share() == 0.2
        await world.github.mint(ORG, REPO, "m-1", LABELS)


async def test_the_app_s_own_calls_are_held_like_any_other(world):
    rule = ApiRule(path="/app", limit="secondary", retry_after=60, count=1)
    world.simulator.faults = Faults(api=(rule,))
    with pytest.raises(RateLimited):
        await world.github.app()
    before = world.simulator.calls
    for asked in (world.github.app(), world.github.redeliver(1)):
        with pytest.raises(RateLimited):
            await asked
    assert world.simulator.calls == before


async def test_an_answer_nobody_foresaw_is_kept_for_diagnosis_without_secrets(world):
    words = "Mint\x1b[2J for " + "x" * 1000
    rule = ApiRule(path=JIT, status=418, message=words)
    world.simulator.faults = Faults(api=(rule,))
    with capture_logs() as logs:
        refused = await refusal_of(world.github.mint(ORG, REPO, "m-1", LABELS))
    assert refused.kind is RefusalKind.UNKNOWN
    (puzzled,) = logs
    assert puzzled.pop("message").startswith('"Mint [2J for xxx')
    assert puzzled.pop("request_id") in str(refused)
    assert puzzled == {
        "event": "github.puzzled",
        "log_level": "warning",
        "method": "POST",
        "path": "/repos/octo-org/octo-repo/actions/runners/generate-jitconfig",
        "status": 418,
    }
    assert str(refused).isprintable()
    assert len(str(refused)) < 500


async def test_the_simulator_can_be_asked_without_a_socket(simulator):
    app: Any = application(simulator)  # httpx and Litestar name the same callable differently
    transport = httpx.ASGITransport(app)
    async with opened(simulator, transport=transport, api_url="http://nowhere.invalid") as world:
        await world.github.mint(ORG, REPO, "m-1", LABELS)
        assert await world.github.find_runner(ORG, REPO, "m-1") is not None


async def test_a_lost_reply_is_unreachable_and_the_runner_exists_all_the_same(world):
    world.simulator.faults = Faults(api=(ApiRule(path=JIT, when="after", status=None, count=1),))
    with pytest.raises(GitHubUnreachable):
        await world.github.mint(ORG, REPO, "m-1", LABELS)
    assert await world.github.find_runner(ORG, REPO, "m-1") is not None


async def test_a_reply_that_never_comes_ends_at_the_deadline(simulator):
    async with opened(simulator, call_seconds=0.3) as world:
        await world.github.app()
        simulator.faults = Faults(api=(ApiRule(path=JIT, latency_ms=3000, only_latency=True),))
        with pytest.raises(GitHubUnreachable, match="TimeoutError"):
            await world.github.mint(ORG, REPO, "m-1", LABELS)


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_broken_github_is_unreachable_whatever_was_asked(world, status):
    world.simulator.faults = Faults(api=(ApiRule(status=status),))
    for asked in (
        world.github.app(),
        world.github.mint(ORG, REPO, "m-1", LABELS),
        world.github.find_runner(ORG, REPO, "m-1"),
        world.github.delete_runner(ORG, REPO, 21),
        world.github.get_job(ORG, "octo-org", "octo-repo", 1),
        world.github.run_jobs(ORG, "octo-org", "octo-repo", 1, 1),
        world.github.installations(),
    ):
        with pytest.raises(GitHubUnreachable):
            await asked


async def test_an_address_where_nobody_listens_is_named(simulator):
    async with opened(simulator, api_url="http://127.0.0.1:9") as world:
        with pytest.raises(GitHubUnreachable, match=r"127\.0\.0\.1:9"):
            await world.github.app()
