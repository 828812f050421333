"""Reading the delivery log instead of being called: what it costs, and how late it makes a job."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import msgspec
import pytest

from mayfly.simulator import Account
from tests.fakes.launchers import FakePlatform, RingingPlatform
from tests.pull.planes import HOUR, POOL, on_virtual_time, pulling

MOST_CALLS = 190
"""An hour. KEDA's scaler for GitHub's runners makes 407 calls every 30 s for as many: 48,840."""
TURN_SECONDS = 20.0
REPOSITORIES = 200
DAY = 24
ONE_JOB = msgspec.json.encode(
    {"jobs": {"build": {"runs-on": ["self-hosted", POOL], "steps": [{"run": "true"}]}}}
).decode()


def accounts(owners: int, repositories: int = REPOSITORIES) -> Iterator[Account]:
    """All repositories, shared out among so many owners, each with an installation."""
    names = [f"repo-{number}" for number in range(repositories)]
    for owner in range(owners):
        yield Account(login=f"owner-{owner}", type="User", repositories=tuple(names[owner::owners]))


@pytest.mark.parametrize("owners", [1, 200])
def test_200_idle_repositories_cost_at_most_190_calls_in_any_hour(owners: int):
    async def scene() -> None:
        async with pulling(accounts(owners)) as plane:
            await asyncio.sleep((DAY + 1) * HOUR)
        hours = [plane.calls.hours[hour] for hour in range(DAY + 1)]
        print(f"{hours[0]} calls in the 1st hour, {max(hours)} at most, {hours[DAY]} in the 25th")
        assert min(hours) >= 180, "the log is read every turn"
        assert max(hours) <= MOST_CALLS

    on_virtual_time(scene)


@pytest.mark.parametrize("kind", [FakePlatform, RingingPlatform])
def test_a_pool_that_is_scaled_to_zero_costs_a_platform_one_call_an_hour(kind: type[FakePlatform]):
    platform = kind()

    async def scene() -> None:
        async with pulling(accounts(1), platform) as plane:
            await asyncio.sleep((DAY + 1) * HOUR)
        hours = [plane.calls.hours[hour] for hour in range(DAY + 1)]
        print(f"{max(hours)} calls to GitHub an hour at most, {platform.asked} to the platform")
        assert max(hours) <= MOST_CALLS
        assert DAY <= platform.asked <= DAY + 2, "what nobody wants is looked for all the same"
        if isinstance(platform, RingingPlatform):
            assert platform.listened == 0, "nothing is launched that could change"

    on_virtual_time(scene)


def test_repositories_are_idle_again_a_day_after_their_last_job():
    async def scene() -> None:
        async with pulling(accounts(1, repositories=20)) as plane:
            for number in range(20):
                await asyncio.sleep(TURN_SECONDS)
                job = plane.simulator.dispatch("owner-0", f"repo-{number}", ONE_JOB)
                await asyncio.sleep(TURN_SECONDS)
                plane.simulator.cancel_run(job.run_id)
            await asyncio.sleep((DAY + 2) * HOUR)
        active, idle = plane.calls.hours[DAY - 1], plane.calls.hours[DAY + 1]
        print(f"{active} calls in the 24th hour, {idle} in the 26th")
        assert active > MOST_CALLS, "jobs that were not even logged are looked for"
        assert idle <= MOST_CALLS

    on_virtual_time(scene)


def test_a_job_is_rung_for_at_most_one_turn_after_it_was_queued():
    late = []

    async def scene(moment: float) -> None:
        async with pulling(accounts(4)) as plane:
            await asyncio.sleep(3 * TURN_SECONDS + moment)
            queued_at = asyncio.get_running_loop().time()
            plane.simulator.dispatch("owner-1", "repo-1", ONE_JOB)
            assert await plane.bus.lease(POOL, timedelta(minutes=5)), "it was never rung for"
            late.append(asyncio.get_running_loop().time() - queued_at)

    for moment in (1, 10, 19, 21, 30, 39):
        on_virtual_time(partial(scene, moment))
    print(f"rung for {min(late):.1f} to {max(late):.1f} s after a job was queued")
    assert max(late) <= TURN_SECONDS
    assert min(late) > 0, "nobody called"
