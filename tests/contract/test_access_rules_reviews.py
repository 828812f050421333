"""ports.AccessRules beside ports.Ledger: two control planes over one store, and a rule changes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mayfly.bus.memory import MemoryBus
from mayfly.cli.wiring import Stages, connected
from mayfly.engine.news import News
from mayfly.model.access import AccessRule, Admitted
from mayfly.model.deadlines import Deadlines
from mayfly.model.jobs import JobId
from mayfly.model.pools import Convention
from mayfly.ports import AccessRules, Ledger
from mayfly.store.sql import open_store
from mayfly.telemetry import Telemetry
from tests.fakes.backends import STORES, Backend, named
from tests.fakes.clocks import ManualClock
from tests.fakes.engine import POOLS
from tests.fakes.factories import PREFIX, event
from tests.fakes.github import FakeGitHub

RULE = AccessRule(owner="octo", label="linux")
SQL = [backend for backend in STORES if backend.point == "sql"]


def control_plane(ledger: Ledger, access: AccessRules, clock: ManualClock) -> Stages:
    return connected(
        pools=POOLS,
        convention=Convention.SEQUENCE,
        ledger=ledger,
        access=access,
        bus=MemoryBus(clock),
        github=FakeGitHub(),
        clock=clock,
        deadlines=Deadlines(),
        prefix=PREFIX,
        telemetry=Telemetry(pool.name for pool in POOLS),
        news=News(clock),
        pull=True,
    )


@pytest.fixture(params=SQL, ids=named)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    backend: Backend = request.param
    async with backend.place(tmp_path) as place:
        yield place


@pytest.mark.parametrize("grant", [True, False])
async def test_what_another_control_plane_changed_counts_for_a_job_decided_by_older_rules(
    url: str, grant: bool
):
    clock = ManualClock()  # it stands still, so that what was read stays fresh
    async with AsyncExitStack() as stack:
        ledger, here = await stack.enter_async_context(open_store(url, clock, Deadlines()))
        _, there = await stack.enter_async_context(open_store(url, clock, Deadlines()))
        ours, theirs = (control_plane(ledger, access, clock) for access in (here, there))
        if not grant:
            await there.grant(RULE)
        await ours.reviews.turn()
        await (there.grant if grant else there.revoke)(RULE)
        await theirs.intake.review()
        decided = await ours.intake.submit(event(1))
        assert isinstance(decided, Admitted) is not grant, "by the rules that were read before"
        await ours.reviews.turn()
        (job,) = await ledger.attempts(JobId(1))
        assert isinstance(job.decision, Admitted) is grant
