"""The scaler over a ledger in memory and a platform that misbehaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from mayfly.engine.tickets import Tickets
from mayfly.model.errors import Permanent, Transient
from mayfly.model.launches import LaunchId, LaunchPhase, LaunchRecord, LaunchState, machine_of
from mayfly.model.pools import Pool
from mayfly.model.protocol import AttendOrder, Duty, Redeemed
from tests.fakes.engine import Engine, opened_engine
from tests.fakes.factories import completed_job, order, queued_job
from tests.fakes.launchers import FakePlatform

LINUX = Pool(name="linux", max=5, launcher="cloud")
ARM = Pool(name="arm64", max=5, launcher="cloud")


class Scaled(NamedTuple):
    """An engine with an elastic pool, and its platform."""

    engine: Engine
    platform: FakePlatform
    other: FakePlatform
    """Of the pool arm64."""

    async def queue(self, *jobs: int, pool: str = "linux") -> None:
        labels = ("self-hosted", pool)
        rows = [queued_job(number, labels=labels) for number in jobs]
        self.engine.github.jobs |= {(row.key.id, 1): [row.event] for row in rows}
        await self.engine.ledger.record(rows)

    async def arrive(self, launch: LaunchId) -> str:
        """Its executor starts, redeems its ticket and says that it is there; its machine."""
        tickets = Tickets(self.engine.ledger.launches, self.engine.news, self.engine.telemetry)
        answer = await tickets.redeem(self.platform.tickets[launch][0], "linux", "a nonce")
        assert isinstance(answer, Redeemed)
        await self.duty(answer.machine)
        return answer.machine

    async def duty(self, machine: str, *, gone: bool = False) -> Duty:
        said = AttendOrder(machine=machine, boot="boot", gone=gone)
        return (await self.engine.ledger.attend("linux", said)).duty("boot")

    async def claim(self, machine: str) -> bool:
        made = await self.engine.ledger.claim(order(machine=machine, boot="boot"), 5, None)
        return made is not None

    async def newest(self) -> list[LaunchRecord]:
        return await self.engine.ledger.launches.newest(100)


@asynccontextmanager
async def scaled(linux: Pool = LINUX) -> AsyncIterator[Scaled]:
    platform, other = FakePlatform(), FakePlatform()
    launchers = {"linux": platform, "arm64": other}
    async with opened_engine(pools=(linux, ARM), launchers=launchers) as engine:
        yield Scaled(engine, platform, other)


async def test_executors_start_where_jobs_are_queued_and_no_more():
    async with scaled() as made:
        await made.queue(1, 2, 3)
        await made.engine.turns(3)
        assert len(made.platform.running) == 3
        assert made.other.running == []
        assert (await made.engine.heard()).count("launch.started") == 3


async def test_what_nobody_needs_ends_by_itself_and_then_nothing_runs():
    async with scaled() as made:
        await made.queue(1)
        await made.engine.turns()
        (launch,) = made.platform.running
        machine = await made.arrive(launch)
        await made.engine.ledger.record([completed_job(1)])
        await made.engine.turns(2)
        assert await made.duty(machine) is Duty.END
        assert made.platform.stopped == [], "it was told itself"
        await made.duty(machine, gone=True)
        assert [one.phase for one in await made.newest()] == [LaunchPhase.OVER]


async def test_a_lost_answer_starts_no_second_executor():
    async with scaled() as made:
        await made.queue(1)
        made.platform.lost = 1
        await made.engine.turns(4)
        assert len(made.platform.tickets) == 1
        assert [one.phase for one in await made.newest()] == [LaunchPhase.STARTING]
        await made.arrive(made.platform.running[0])


async def test_an_executor_that_never_speaks_is_stopped_and_replaced():
    async with scaled() as made:
        await made.queue(1)
        await made.engine.turns()
        (silent,) = made.platform.running
        await made.engine.turns(18)
        assert made.platform.stopped[:1] == [silent]
        assert len(made.platform.running) == 1
        assert made.platform.running != [silent]
        assert "launch.written_off" in await made.engine.heard()


async def test_one_that_fails_on_the_platform_is_replaced_without_waiting_for_its_deadline():
    async with scaled() as made:
        await made.queue(1)
        await made.engine.turns()
        (failed,) = made.platform.running
        made.platform.states[failed] = LaunchState.FAILED
        await made.engine.turns(5)
        assert len(made.platform.running) == 1


async def test_failures_in_a_row_are_bounded():
    async with scaled() as made:
        await made.queue(1)
        for _ in range(180):  # an hour
            await made.engine.turns()
            for launch in made.platform.running:
                made.platform.states[launch] = LaunchState.FAILED
        assert 5 <= len(made.platform.tickets) <= 25


async def test_a_platform_that_refuses_is_asked_again_and_says_why():
    async with scaled() as made:
        await made.queue(1)
        made.platform.failures = [Transient("no room left"), Permanent("give me the right")]
        await made.engine.turns()
        explained = await made.engine.explanations.explain(1)
        assert "the platform does not start an executor: no room left" in explained.summary
        await made.engine.turns(5)
        assert len(made.platform.running) == 1
        explained = await made.engine.explanations.explain(1)
        assert "starting 1 executor(s) since" in explained.summary
        assert len(await made.newest()) == 1, "never wanted twice"


async def test_a_platform_that_hangs_stops_no_other_pool():
    async with scaled() as made:
        made.platform.hangs = asyncio.Event()
        await made.queue(1)
        await made.queue(2, pool="arm64")
        made.engine.clock.advance(20)
        turning = asyncio.create_task(made.engine.reconciler.turn())
        async with asyncio.timeout(20):
            while not made.other.running:  # noqa: ASYNC110 - what is waited for rings no bell
                await asyncio.sleep(0.01)
        assert not turning.done()
        made.platform.hangs.set()
        await turning
        assert len(made.platform.running) == 1


async def test_a_turn_waits_for_all_it_has_asked_and_a_launcher_with_a_bug_is_asked_later():
    async with scaled() as made:
        await made.queue(1, 2)
        made.platform.hangs = asyncio.Event()
        made.platform.failures = [ValueError("a launcher with a bug")]
        (lane,) = [one for one in made.engine.scaler.lanes if one.pool == "linux"]
        turning = asyncio.create_task(lane.turn(0.0))
        async with asyncio.timeout(20):
            while made.platform.asked < 2:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert not turning.done(), "the other start is still on its way"
        made.platform.hangs.set()
        await turning
        starting, waiting = sorted(await made.newest(), key=lambda one: one.phase)
        assert (starting.phase, waiting.phase) == (LaunchPhase.STARTING, LaunchPhase.WANTED)
        assert (waiting.tries, waiting.retry_at > 0) == (1, True)
        assert "raised ValueError" in waiting.detail


async def test_a_platform_that_ends_nothing_starts_what_is_needed_all_the_same():
    async with scaled(Pool(name="linux", max=20, launcher="cloud")) as made:
        await made.queue(*range(1, 11))
        await made.engine.turns()
        made.platform.deaf = True
        await made.engine.turns(60)
        ending = [one for one in await made.newest() if one.phase is LaunchPhase.ENDING]
        assert len(ending) >= 10
        assert len(made.platform.tickets) > len(ending), "they have been replaced"


async def test_what_a_dead_leader_asked_for_is_asked_for_again_under_the_same_id():
    async with scaled() as made:
        await made.queue(1)
        plan = await made.engine.ledger.launches.scale(LINUX, overflows=True)
        await made.engine.turns(2)
        assert list(made.platform.tickets) == [plan.start[0].id]


async def test_an_executor_no_row_wants_is_stopped():
    async with scaled() as made:
        lost = LaunchId("zz")
        made.platform.tickets[lost], made.platform.pools[lost] = ["t"], "linux"
        made.platform.states[lost] = LaunchState.RUNNING
        await made.engine.turns()
        assert made.platform.running == []
        assert "launch.orphaned" in await made.engine.heard()


async def test_an_executor_with_a_claim_is_left_alone_whatever_the_demand():
    async with scaled() as made:
        await made.queue(1)
        await made.engine.turns()
        (launch,) = made.platform.running
        machine = await made.arrive(launch)
        assert await made.claim(machine)
        await made.engine.turns(5)
        assert (made.platform.stopped, await made.duty(machine)) == ([], Duty.SERVE)


async def test_demand_wakes_the_scaler_between_two_turns():
    async with scaled() as made, made.engine.scaler.open():
        await made.engine.turns()
        await made.queue(1)
        made.engine.scaler.wake(["linux"])
        async with asyncio.timeout(20):
            while not made.platform.running:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)


async def test_one_that_does_not_lead_starts_nothing():
    async with scaled() as made, made.engine.scaler.open():
        await made.queue(1)
        made.engine.scaler.wake(["linux"])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await made.newest() == []


async def test_parked_executors_have_their_time_first():
    async with scaled(Pool(name="linux", launcher="cloud", overflow_after_seconds=60)) as made:
        await made.engine.ledger.attend("linux", AttendOrder(machine="rack", boot="b"))
        await made.queue(1, 2)
        await made.engine.turns(2)
        assert made.platform.running == []
        await made.engine.turns(3)
        assert len(made.platform.running) == 1


async def test_nothing_is_asked_of_a_platform_while_there_is_nothing_to_do():
    async with scaled() as made:
        await made.engine.turns(180)  # an hour
        assert made.platform.asked <= 2


async def test_a_ticket_that_comes_twice_is_told_of():
    async with scaled() as made:
        await made.queue(1)
        await made.engine.turns()
        (launch,) = made.platform.running
        await made.arrive(launch)
        tickets = Tickets(made.engine.ledger.launches, made.engine.news, made.engine.telemetry)
        stolen = await tickets.redeem(made.platform.tickets[launch][0], "linux", "another nonce")
        assert not isinstance(stolen, Redeemed)
        assert "ticket.misused" in await made.engine.heard()
        assert b"mayfly_ticket_refused_total 1.0" in made.engine.telemetry.scrape()
        (record,) = await made.newest()
        assert (record.misused, record.machine) == (1, machine_of(launch))
