"""Tickets over HTTP: what a launched executor may do, and what a thief may not."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from mayfly.engine.scaler import new_ticket
from mayfly.model.launches import LaunchRecord, Ticket, hashed
from mayfly.model.pools import Pool
from tests.fakes.factories import queued_job
from tests.fakes.web import World, world

REDEEM = "/v1/tickets/redeem"
POOL = Pool(name="linux", launcher="cloud")


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def launched(here: World) -> tuple[LaunchRecord, Ticket]:
    """A launch the platform has accepted, and its ticket."""
    await here.plane.ledger.record([queued_job(7)])
    plan = await here.plane.ledger.launches.scale(POOL, overflows=True)
    launch = plan.start[0]
    ticket = new_ticket(launch.id)
    assert await here.plane.ledger.launches.ticketed(launch.id, hashed(ticket.reveal()), 300)
    await here.plane.ledger.launches.accepted(launch.id)
    return launch, ticket


async def redeem(
    here: World, ticket: str, nonce: str = "n" * 32, pool: str = "linux"
) -> httpx.Response:
    headers = {"authorization": f"Bearer {ticket}"}
    order = {"pool": pool, "nonce": nonce}
    return await here.client.post(REDEEM, json=order, headers=headers)


async def post(here: World, token: str, path: str, order: Any) -> httpx.Response:
    return await here.client.post(path, json=order, headers={"authorization": f"Bearer {token}"})


async def test_a_ticket_gives_a_token_for_its_pool_and_its_machine_only(here: World):
    launch, ticket = await launched(here)
    answer = await redeem(here, ticket.reveal())
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    given = answer.json()
    assert (given["pool"], given["machine"]) == ("linux", launch.machine)
    own = {"machine": launch.machine, "boot": "b", "wait_seconds": 0}
    token = given["token"]
    assert (await post(here, token, "/v1/pools/linux/attend", own)).status_code == 200
    assert (await post(here, token, "/v1/pools/arm64/attend", own)).status_code == 403
    other = await post(here, token, "/v1/pools/linux/attend", own | {"machine": "rack-1"})
    assert other.status_code == 403
    assert "of no other" in other.json()["detail"]
    order = {"pool": "linux", "machine": "rack-1", "boot": "b", "key": "k"}
    assert (await post(here, token, "/v1/claims", order)).status_code == 403
    beat = f"/v1/claims/{here.claim.id}/heartbeat"
    assert (await post(here, token, beat, {"boot": "b"})).status_code == 403
    headers = {"authorization": f"Bearer {token}"}
    assert (await here.client.get("/v1/jobs", headers=headers)).status_code == 401


async def test_a_ticket_is_no_token(here: World):
    _, ticket = await launched(here)
    own = {"machine": "m", "boot": "b", "wait_seconds": 0}
    answer = await post(here, ticket.reveal(), "/v1/pools/linux/attend", own)
    assert answer.status_code == 401


async def test_a_stolen_ticket_gives_nothing_and_is_seen(here: World):
    launch, ticket = await launched(here)
    await redeem(here, ticket.reveal())
    stolen = await redeem(here, ticket.reveal(), "another nonce")
    assert stolen.status_code == 401
    assert stolen.json()["detail"] == f"the ticket of launch {launch.id} was used already"
    assert ticket.reveal() not in stolen.text
    listed = await here.client.get("/v1/launches", headers=here.bearer("operator"))
    (row,) = listed.json()
    assert (row["id"], row["misused"], row["phase"]) == (launch.id, 1, "ready")
    assert "token" not in listed.text.replace("ticket", "")


async def test_an_executor_of_another_pool_is_told_and_the_pool_of_the_ticket_hears(here: World):
    launch, ticket = await launched(here)
    said = f"the ticket of launch {launch.id} is for another pool than arm64"
    with capture_logs() as logs:
        answer = await redeem(here, ticket.reveal(), pool="arm64")
    assert (answer.status_code, answer.json()["detail"]) == (401, said)
    (told,) = [entry for entry in logs if entry["event"] == "ticket.misused"]
    assert (told["pool"], told["reason"]) == ("linux", said)
    assert (await redeem(here, ticket.reveal())).status_code == 201


@pytest.mark.parametrize(
    "text", ["", "mft_", "mft_aa_" + "x" * 43, "\xff" * 50, "mft_" + "a" * 999]
)
async def test_what_is_no_ticket_gives_nothing(here: World, text: str):
    headers = {b"authorization": f"Bearer {text}".encode("latin-1")}
    answer = await here.client.post(REDEEM, json={"pool": "linux", "nonce": "n"}, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:mayfly:problem:unauthentic"


async def test_an_answer_that_got_lost_is_asked_for_again(here: World):
    _, ticket = await launched(here)
    first = (await redeem(here, ticket.reveal())).json()["token"]
    second = (await redeem(here, ticket.reveal())).json()["token"]
    assert first != second
    own = {"machine": "m", "boot": "b", "wait_seconds": 0}
    assert (await post(here, first, "/v1/pools/linux/attend", own)).status_code == 401
