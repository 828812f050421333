"""Executors over HTTP: they attend, and operators list, drain, shut down and return them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from mayfly.engine.executors import LOOK_EVERY
from tests.fakes.web import World, world

ATTEND = "/v1/pools/linux/attend"


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def attend(here: World, machine: str = "m1", **said: Any) -> Any:
    order = {"machine": machine, "boot": f"boot of {machine}", "wait_seconds": 0, **said}
    return await here.client.post(ATTEND, json=order, headers=here.bearer("executor"))


async def tell(here: World, verb: str, **order: Any) -> Any:
    path = f"/v1/executors/{verb}"
    return await here.client.post(path, json=order, headers=here.bearer("operator"))


async def listed(here: World, query: str = "") -> Any:
    path = f"/v1/executors{query}"
    return (await here.client.get(path, headers=here.bearer("operator"))).json()


async def known(here: World) -> None:
    """Until an executor is."""
    while not await listed(here):  # noqa: ASYNC110 - the API is what is looked at
        await asyncio.sleep(0)  # nothing else here lets others go on


async def test_an_executor_that_attends_serves_and_is_listed(here: World):
    answer = await attend(here, "m2")
    assert (answer.status_code, answer.json()["duty"]) == (200, "serve")
    (found,) = await listed(here)
    assert found == {
        "machine": "m2",
        "pool": "linux",
        "state": "idle",
        "service": "in service",
        "claim": None,
        "job_id": None,
        "last_seen": "2026-11-22T12:00:00Z",
        "reason": "",
    }
    assert await listed(here, "?pool=arm64") == []


async def test_one_with_a_claim_is_busy(here: World):
    await attend(here, "m1")
    (found,) = await listed(here, "?pool=Linux")
    assert (found["state"], found["claim"]) == ("busy", here.claim.id)


async def test_an_executor_that_waits_hears_an_order_within_seconds(here: World):
    waiting = asyncio.create_task(attend(here, "m2", wait_seconds=20))
    async with asyncio.timeout(15):
        await known(here)
        (told,) = (await tell(here, "drain", machine="m2", reason="a new disk")).json()
        answer = (await waiting).json()
    assert (told["machine"], told["service"]) == ("m2", "out of service")
    assert (answer["duty"], answer["reason"]) == ("rest", "drained by operator: a new disk")
    assert timedelta(seconds=3) > LOOK_EVERY


async def test_one_that_knows_its_duty_waits_on(here: World):
    await attend(here, "m2")
    await tell(here, "drain", machine="m2")
    async with asyncio.timeout(30):
        answer = (await attend(here, "m2", duty="rest", wait_seconds=0.05)).json()
    assert (answer["duty"], answer["waited_seconds"]) == ("rest", 0.05)


async def test_a_wait_is_no_longer_than_between_two_heartbeats(here: World):
    async with world(longest_wait=timedelta(hours=1)) as patient:
        waiting = asyncio.create_task(attend(patient, "m2", duty="rest", wait_seconds=1e9))
        assert (await waiting).json()["waited_seconds"] == 30


async def test_a_server_that_stops_lets_executors_ask_again(here: World):
    waiting = asyncio.create_task(attend(here, "m2", wait_seconds=20))
    async with asyncio.timeout(30):
        await known(here)
        here.app.end_waits()
        assert (await waiting).status_code == 503


async def test_the_answers_name_the_machines_and_people_are_told(here: World):
    for machine in ("m1", "m2"):
        await attend(here, machine)
    for verb, service in [("drain", "out of service"), ("return", "in service")]:
        told = (await tell(here, verb, everything=True)).json()
        assert [one["machine"] for one in told] == ["m1", "m2"]
        assert told[1]["service"] == service
    (told,) = (await tell(here, "shutdown", pool="linux")).json()
    assert (told["machine"], told["service"]) == ("m2", "ending"), "m1 is busy"
    async with here.plane.news.subscribe() as items:
        heard = [await anext(items) for _ in range(5)]
    assert [item.event for item in heard] == [
        *["executor.drained"] * 2,
        *["executor.returned"] * 2,
        "executor.dismissed",
    ]
    assert heard[0].fields["who"] == "operator"


@pytest.mark.parametrize(
    ("verb", "order", "status", "names"),
    [
        ("drain", {}, 400, "name a machine"),
        ("drain", {"machine": "m1", "everything": True}, 400, "not both"),
        ("drain", {"machine": ""}, 400, "machine"),
        ("drain", {"pool": "gpu"}, 404, "known pools: linux, arm64"),
        ("drain", {"machine": "m9"}, 404, "known: m1 (busy, in service)"),
        ("drain", {"machine": "m1", "pool": "arm64"}, 404, "of pool arm64"),
        ("drain", {"pool": "linux"}, 409, "no executor of pool linux is idle and in service"),
        ("shutdown", {"pool": "arm64"}, 409, "no executor of pool arm64 is known"),
        ("return", {"pool": "linux"}, 409, "every executor of pool linux is in service"),
    ],
)
async def test_what_cannot_be_done_says_why(
    here: World, verb: str, order: dict[str, Any], status: int, names: str
):
    await attend(here, "m1")
    answer = await tell(here, verb, **order)
    assert answer.status_code == status
    assert names in answer.json()["detail"]


async def test_all_may_be_none(here: World):
    answer = await tell(here, "drain", everything=True)
    assert (answer.status_code, answer.json()) == (200, [])


async def test_a_machine_without_a_process_cannot_be_shut_down(here: World):
    await attend(here, "m2")
    await tell(here, "drain", machine="m2")
    await attend(here, "m2", gone=True)
    answer = await tell(here, "shutdown", machine="m2")
    assert answer.status_code == 409
    assert answer.json()["detail"] == (
        "no process runs on m2 (absent, out of service), so none can be shut down"
    )
    await tell(here, "return", machine="m2")


async def test_an_executor_attends_for_its_own_pools_only(here: World):
    order = {"machine": "m2", "boot": "b"}
    answer = await here.client.post(ATTEND, json=order, headers=here.bearer("stranger"))
    assert answer.status_code == 403
    assert await listed(here) == []
