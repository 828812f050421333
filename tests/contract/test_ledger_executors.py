"""ports.Ledger: which executors there are, which of them serve, and who takes them out of it."""

import asyncio

import pytest

from mayfly.model.executors import Activity, Choice, Command, Service, Standing
from mayfly.model.protocol import AttendOrder, Duty, Outcome
from mayfly.model.runners import Claim
from tests.fakes.backends import OpenedStore
from tests.fakes.clocks import NOON
from tests.fakes.factories import (
    UNBOUNDED,
    claimed,
    minting_claim,
    order,
    queued_job,
)

ALL = Choice(None, None, everything=True)
DAY = 86_400
LONGEST_PAUSE = 600


def one_of(pool: str = "linux") -> Choice:
    return Choice(None, pool)


def machine(name: str, pool: str | None = None) -> Choice:
    return Choice(name, pool)


async def attends(
    store: OpenedStore,
    name: str = "m1",
    *,
    boot: str | None = None,
    pool: str = "linux",
    ending: bool = False,
    gone: bool = False,
) -> Duty:
    """What an executor is told when it says that it is there."""
    said = AttendOrder(machine=name, boot=boot or boot_of(name), ending=ending, gone=gone)
    return (await store.ledger.attend(pool, said)).duty(said.boot)


def boot_of(name: str) -> str:
    return order(name).boot


async def asks(store: OpenedStore, name: str = "m1", boot: str | None = None) -> Claim | None:
    return await store.ledger.claim(order(name, boot=boot or boot_of(name)), UNBOUNDED, None)


async def tells(
    store: OpenedStore, told: Command, choice: Choice, reason: str = "a test"
) -> list[str]:
    """The machines that were told."""
    return [one.executor.machine for one in await store.ledger.command(told, choice, reason)]


async def standing(store: OpenedStore, name: str = "m1") -> Standing:
    (found,) = [one for one in await store.ledger.executors() if one.executor.machine == name]
    return found


async def cannot_prepare(store: OpenedStore, times: int, name: str = "m1") -> None:
    for _ in range(times):
        await store.passes(LONGEST_PAUSE)
        made = await claimed(store.ledger, name)
        await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "the board does not boot")


# Who is there


async def test_nobody_is_known_before_anybody_spoke(store: OpenedStore):
    assert await store.ledger.executors() == []


async def test_an_executor_that_spoke_is_known_idle_and_serves(store: OpenedStore):
    assert await attends(store) is Duty.SERVE
    found = await standing(store)
    assert (found.activity, found.service, found.serves) == (Activity.IDLE, Service.IN, True)
    assert found.executor.seen_at == NOON


async def test_one_with_a_live_claim_is_busy(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await attends(store)
    made = await claimed(store.ledger, "m1")
    found = await standing(store)
    assert (found.activity, found.claim and found.claim.id) == (Activity.BUSY, made.id)
    await store.ledger.finish(made.id, made.boot, Outcome.STOPPED, "")
    assert (await standing(store)).activity is Activity.IDLE


async def test_executors_are_listed_by_pool_and_machine(store: OpenedStore):
    for name, pool in [("m2", "linux"), ("m1", "linux"), ("m3", "arm64")]:
        await attends(store, name, pool=pool)
    every = await store.ledger.executors()
    assert [one.executor.machine for one in every] == ["m3", "m1", "m2"]
    assert [one.executor.machine for one in await store.ledger.executors("linux")] == ["m1", "m2"]


async def test_one_that_is_silent_is_absent_until_it_speaks_again(store: OpenedStore):
    await attends(store)
    await store.passes(119)
    assert (await standing(store)).activity is Activity.IDLE
    await store.passes(1)
    assert ((await standing(store)).activity, (await standing(store)).serves) == ("absent", False)
    await attends(store)
    assert (await standing(store)).activity is Activity.IDLE


async def test_one_that_says_goodbye_is_forgotten(store: OpenedStore):
    await attends(store)
    await attends(store, gone=True)
    assert await store.ledger.executors() == []


async def test_a_late_goodbye_does_not_speak_for_the_successor(store: OpenedStore):
    await attends(store, boot="old")
    await attends(store, boot="new")
    await attends(store, boot="old", gone=True)
    assert (await standing(store)).executor.boot == "new"


async def test_one_that_ends_takes_nothing_more_and_says_so(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await attends(store)
    await claimed(store.ledger, "m1")
    await attends(store, ending=True)
    assert (await standing(store)).service is Service.DRAINING
    await attends(store, "m2", ending=True)
    assert (await standing(store, "m2")).service is Service.ENDING


async def test_one_that_is_absent_for_a_day_is_forgotten_unless_it_is_out_of_service(
    store: OpenedStore,
):
    await attends(store)
    await attends(store, "m2")
    await tells(store, Command.DRAIN, machine("m2"))
    await store.passes(DAY - 1)
    await store.ledger.forget(10)
    assert len(await store.ledger.executors()) == 2
    await store.passes(1)
    await store.ledger.forget(10)
    assert [one.executor.machine for one in await store.ledger.executors()] == ["m2"]


# Drain


async def test_a_drained_machine_gets_no_claim_until_it_is_returned(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await attends(store)
    assert await tells(store, Command.DRAIN, machine("m1"), "a new disk") == ["m1"]
    assert await asks(store) is None
    assert await store.use() == (0, 1, 1)
    assert await asks(store, boot="after a reboot") is None
    assert await attends(store) is Duty.REST
    found = await standing(store)
    assert (found.service, found.executor.reason) == (Service.OUT, "a new disk")
    assert await tells(store, Command.RETURN, machine("m1")) == ["m1"]
    assert await attends(store) is Duty.SERVE
    assert await asks(store) is not None


async def test_a_drained_machine_finishes_what_it_has(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2)])
    await attends(store)
    mint = await minting_claim(store.ledger, "m1")
    await tells(store, Command.DRAIN, machine("m1"))
    assert (await standing(store)).service is Service.DRAINING
    await store.ledger.registered(mint.claim.id, 1, 71)
    assert await store.ledger.heartbeat(mint.claim.id, mint.claim.boot) == "continue"
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.DONE, "")
    assert (await standing(store)).service is Service.OUT
    assert await asks(store) is None


async def test_the_same_claim_is_answered_although_its_machine_was_drained(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await attends(store)
    asked = order("m1")
    made = await store.ledger.claim(asked, UNBOUNDED, None)
    await tells(store, Command.DRAIN, machine("m1"))
    assert await store.ledger.claim(asked, UNBOUNDED, None) == made


async def test_an_order_is_not_lost_among_executors_that_speak(store: OpenedStore):
    names = [f"m{number}" for number in range(5)]
    for name in names:
        await attends(store, name)
    for _ in range(8):
        drains = [tells(store, Command.DRAIN, machine(name)) for name in names]
        words = [[attends(store, name) for name in names] for _ in range(4)]
        await asyncio.gather(*words[0], *words[1], *drains, *words[2], *words[3])
        assert [one.machine for one in await store.ledger.told()] == names
        await tells(store, Command.RETURN, ALL)


async def test_drained_twice_keeps_the_first_reason(store: OpenedStore):
    await attends(store)
    await tells(store, Command.DRAIN, machine("m1"), "a new disk")
    assert await tells(store, Command.DRAIN, machine("m1"), "tidying up") == ["m1"]
    assert (await standing(store)).executor.reason == "a new disk"


async def test_a_host_stands_for_all_of_its_slots_and_for_no_other_host(store: OpenedStore):
    for name in ("rack/0", "rack/1", "rack2/0"):
        await attends(store, name)
    assert await tells(store, Command.DRAIN, machine("rack")) == ["rack/0", "rack/1"]
    assert await tells(store, Command.RETURN, machine("rack/1")) == ["rack/1"]


async def test_a_machine_nobody_knows_is_nobody(store: OpenedStore):
    await attends(store)
    assert await tells(store, Command.DRAIN, machine("m2")) == []
    assert await tells(store, Command.DRAIN, machine("m1", "arm64")) == []


async def test_all_is_every_executor_or_every_one_of_a_pool(store: OpenedStore):
    for name, pool in [("m1", "linux"), ("m2", "linux"), ("m3", "arm64")]:
        await attends(store, name, pool=pool)
    of_linux = Choice(None, "linux", everything=True)
    assert await tells(store, Command.DRAIN, of_linux) == ["m1", "m2"]
    assert await tells(store, Command.DRAIN, ALL) == ["m3", "m1", "m2"]
    assert await tells(store, Command.RETURN, ALL) == ["m3", "m1", "m2"]


async def test_any_one_of_a_pool_is_idle_there_and_in_service(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await attends(store, "absent")
    await store.passes(120)
    for name in ("busy", "drained", "ending", "idle"):
        await attends(store, name, ending=name == "ending")
    await attends(store, "another", pool="arm64")
    await claimed(store.ledger, "busy")
    await tells(store, Command.DRAIN, machine("drained"))
    assert await tells(store, Command.DRAIN, one_of()) == ["idle"]
    assert await tells(store, Command.DRAIN, one_of()) == []
    assert await tells(store, Command.RETURN, one_of()) == ["drained"]
    assert await tells(store, Command.SHUTDOWN, one_of()) == ["drained"]


# Shut down


async def test_one_that_is_to_end_gets_no_claim_and_its_successor_does(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await attends(store)
    assert await tells(store, Command.SHUTDOWN, machine("m1")) == ["m1"]
    assert (await standing(store)).service is Service.ENDING
    assert await asks(store) is None
    assert await attends(store) is Duty.END
    assert await attends(store, boot="later") is Duty.SERVE
    assert await asks(store, boot="later") is not None


async def test_a_shutdown_does_not_return_what_was_out_of_service(store: OpenedStore):
    await attends(store)
    await tells(store, Command.DRAIN, machine("m1"))
    await tells(store, Command.SHUTDOWN, machine("m1"))
    await attends(store, gone=True)
    assert (await standing(store)).activity is Activity.ABSENT
    assert await tells(store, Command.SHUTDOWN, machine("m1")) == [], "no process runs there"
    assert await attends(store, boot="later") is Duty.REST


async def test_one_that_has_ended_can_be_returned(store: OpenedStore):
    await attends(store)
    await tells(store, Command.DRAIN, machine("m1"))
    await attends(store, gone=True)
    assert await tells(store, Command.RETURN, machine("m1")) == ["m1"]
    assert await store.ledger.executors() == []
    assert await attends(store, boot="later") is Duty.SERVE


async def test_return_takes_a_shutdown_back_that_nobody_has_heard(store: OpenedStore):
    await attends(store)
    await tells(store, Command.SHUTDOWN, machine("m1"))
    await tells(store, Command.RETURN, machine("m1"))
    assert await attends(store) is Duty.SERVE


# Machines that cannot prepare


async def test_three_failed_prepares_in_a_row_take_a_machine_out_of_service(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await attends(store)
    await cannot_prepare(store, 2)
    assert (await standing(store)).service is Service.IN
    await store.passes(LONGEST_PAUSE)
    made = await claimed(store.ledger, "m1")
    changes = await store.ledger.finish(made.id, made.boot, Outcome.FAILED, "still no boot")
    (told,) = changes.broken
    assert (told.machine, told.broken) == ("m1", True)
    assert told.reason == "it could not prepare 3 times in a row, the last time: still no boot"
    await store.passes(LONGEST_PAUSE)
    assert await asks(store) is None
    assert await attends(store, boot="after a reboot") is Duty.REST
    assert (await store.use()).open == 1, "the job was given back"
    assert await asks(store, "m2") is not None


async def test_a_machine_that_never_attended_goes_out_of_service_too(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await cannot_prepare(store, 3)
    await store.passes(LONGEST_PAUSE)
    assert await asks(store) is None
    assert (await standing(store)).activity is Activity.ABSENT


async def test_a_machine_that_could_prepare_begins_anew(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await attends(store)
    await cannot_prepare(store, 2)
    await store.passes(LONGEST_PAUSE)
    mint = await minting_claim(store.ledger, "m1")
    await store.ledger.finish(mint.claim.id, mint.claim.boot, Outcome.FAILED, "run.sh is missing")
    await cannot_prepare(store, 2)
    assert (await standing(store)).service is Service.IN


async def test_a_restart_does_not_hide_failed_prepares(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await attends(store)
    await cannot_prepare(store, 2)
    await attends(store, gone=True)
    await attends(store, boot="later")
    await cannot_prepare(store, 1)
    assert (await standing(store)).service is Service.OUT


@pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.DONE])
async def test_a_claim_that_was_given_back_is_no_failed_prepare(
    store: OpenedStore, outcome: Outcome
):
    await store.ledger.record([queued_job(1)])
    for _ in range(3):
        made = await claimed(store.ledger, "m1")
        await store.ledger.finish(made.id, made.boot, outcome, "")
    assert await asks(store) is not None


async def test_return_forgets_the_failures_of_a_machine_and_its_pause(store: OpenedStore):
    await store.ledger.record([queued_job(1)])
    await attends(store)
    await cannot_prepare(store, 3)
    assert await tells(store, Command.RETURN, one_of()) == ["m1"]
    assert await asks(store) is not None
    assert not (await standing(store)).executor.broken


async def test_the_pool_of_another_executor_of_the_same_name_is_left_alone(store: OpenedStore):
    await store.ledger.record([queued_job(1), queued_job(2, labels=("self-hosted", "arm64"))])
    await attends(store, pool="linux")
    await attends(store, pool="arm64")
    await tells(store, Command.DRAIN, machine("m1", "linux"))
    other = order("m1", pool="arm64")
    assert await store.ledger.claim(other, UNBOUNDED, None) is not None
    assert await asks(store) is None
