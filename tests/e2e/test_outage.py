"""A control plane that was down: what was queued meanwhile runs, for little more than reading."""

import signal
from collections import Counter

from mayfly.simulator import Account
from tests.e2e.endings import check_nothing_is_left, rows
from tests.e2e.hands import hands
from tests.e2e.programs import until
from tests.e2e.stage import opened

JOBS = 200
MOST_CALLS = 5 + JOBS
MINT = "/generate-jitconfig"
POOLS = """
[[pools]]
name = "linux"
max = 20

[[access]]
owner = "octo-org"
pool = "linux"
"""
ACCOUNTS = (Account(login="octo-org", type="Organization", repositories=("octo-repo",)),)
# Long, so that a slow machine adds no turns: each one would read the newest part of the log again.
DEADLINES = {"turn_seconds": 120.0, "silent_seconds": 600.0}


async def test_200_jobs_queued_during_an_outage_run_for_205_calls_and_their_mints():
    async with opened(
        POOLS, accounts=ACCOUNTS, deadlines=DEADLINES, mints_per_minute=20 * JOBS
    ) as stage:
        plane = await stage.plane()
        await until(
            lambda: rows(stage, "SELECT 1 FROM clock WHERE log_position IS NOT NULL"), "a position"
        )
        async with hands(stage, 1):
            await stage.ends(stage.dispatch("octo-repo"))
        plane.send(signal.SIGTERM)
        assert await plane.ended() == 0

        jobs = [stage.dispatch("octo-repo") for _ in range(JOBS)]
        assert await stage.simulator.wait_deliveries(30)
        before = Counter(stage.simulator.calls)
        await stage.plane()
        async with hands(stage, 20):
            for job in jobs:
                await stage.ends(job, seconds=60)
        calls = Counter(stage.simulator.calls) - before
        mints = sum(count for name, count in calls.items() if name.endswith(MINT))
        print(*calls.items(), sep="\n")
        assert mints == JOBS
        assert calls.total() - mints <= MOST_CALLS
        await check_nothing_is_left(stage)
