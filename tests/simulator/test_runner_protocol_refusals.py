"""What the runner service refuses, and how a runner is told."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from mayfly.simulator import Settings

from .runner_client import calls, crypto
from .runner_client.calls import Connection, Refused
from .runner_client.configuring import ASSERTION_TYPE, authorize, configure, from_jit_config, trade
from .runner_client.listening import Listener
from .runner_client.working import Work
from .support import RUNNERS
from .wired import bench


async def refusal(b, identity, **claims):
    """(status, error) of a token request."""
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await authorize(b.http, identity, **claims)
    return refused.value.response.status_code, refused.value.response.json()["error"]


@pytest.mark.parametrize("mode", ["token", "jit"])
async def test_a_wrong_key_gets_no_token(tmp_path: Path, mode: str) -> None:
    async with bench(tmp_path) as b:
        identity = await b.identity(mode)
        wrong = replace(identity, key=crypto.key_number(1))
        assert await refusal(b, wrong) == (400, "invalid_client")
        # A runner takes the refusal for the end of its registration.
        listener = Listener(b.http, wrong)
        with pytest.raises(httpx.HTTPStatusError, match="invalid_client"):
            await listener.open()
        assert await authorize(b.http, identity)


async def test_the_key_of_another_runner_gets_no_token(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        one = from_jit_config(await b.github.jitconfig("one"))
        two = from_jit_config(await b.github.jitconfig("two"))
        for mine, other in ((one, two), (two, one)):
            assert await refusal(b, replace(mine, key=other.key)) == (400, "invalid_client")
            assert await authorize(b.http, mine)


async def test_an_assertion_must_be_right_in_every_claim(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        identity = await b.registered()
        for claims in (
            {"exp": int(time.time()) - 600},
            {"nbf": int(time.time()) + 3600},
            {"aud": "http://127.0.0.1/elsewhere"},
            {"sub": "somebody"},
            {"iss": "00000000-0000-4000-8000-000000009999"},
            {"iss": "nobody"},
        ):
            assert await refusal(b, identity, **claims) == (400, "invalid_client"), claims
        for algorithm in ("RS256", "PS256"):
            assert await authorize(b.http, replace(identity, algorithm=algorithm))


async def test_a_token_request_must_have_its_form(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        url = (await b.registered()).authorization_url
        form = {"grant_type": "client_credentials"}
        typed = form | {"client_assertion_type": ASSERTION_TYPE}
        for sent, error in (
            ({}, "unsupported_grant_type"),
            (form, "invalid_request"),
            (typed, "invalid_client"),
            (typed | {"client_assertion": "no.token"}, "invalid_client"),
        ):
            answer = await b.http.post(url, data=sent)
            assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_a_registration_token_opens_its_own_repository_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.github.sim.add_repository("octo-org", "other")
        token = await b.token()
        for url, secret in (
            (f"{b.github.sim.url}/octo-org/other", token),
            (f"{b.github.sim.url}/octo-org", token),
            (f"{b.github.sim.url}/octo-org/missing", token),
            (b.url, "SIMULATED"),
        ):
            with pytest.raises(httpx.HTTPStatusError, match="404"):
                await trade(b.http, url, secret)
        # It is for registering: it mints no JIT config.
        answer = await b.http.post(
            f"{b.github.sim.url}{RUNNERS}/generate-jitconfig",
            headers={"authorization": f"Bearer {token}"},
            json={"name": "one", "runner_group_id": 1, "labels": ["a"]},
        )
        assert answer.status_code == 401


async def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        traded = await trade(b.http, b.url, await b.token())
        admin = Connection(b.http, traded["url"], traded["token"])
        for key in ({}, {"Exponent": "AQAB", "Modulus": "!"}, {"Exponent": "AQAB", "Modulus": ""}):
            asked = {"Name": "one", "Labels": [{"Name": "a"}], "Authorization": {"PublicKey": key}}
            with pytest.raises(Refused) as refused:
                await admin.resource("POST", calls.AGENTS, at={"poolId": 1}, json=asked)
            # Not 400: a runner would ask again with a new token.
            assert refused.value.status == 422
            assert "public key" in refused.value.body["message"]
        assert await b.runners() == []


async def opened(connection: Connection, work: Work) -> set[str]:
    """Which resources a token opens; the others say why not."""
    found = set()
    for guid, method, at in (
        (calls.POOLS, "GET", {}),
        (calls.AGENTS, "GET", {"poolId": 1}),
        (calls.JOB_REQUESTS, "PATCH", {"poolId": 1, "requestId": work.job["requestId"]}),
        (calls.RECORDS, "PATCH", work.at),
    ):
        try:
            await connection.resource(method, guid, at=at)
            found.add(guid)
        except Refused as refused:
            found.add(f"{refused.status} {refused.body['typeKey']}")
    return found


async def test_each_token_opens_only_what_it_is_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        _, work = await b.working()
        job_token, listener_token = work.connection.token, work.listener.connection.token
        registration = await b.token()
        admin = (await trade(b.http, b.url, registration))["token"]
        tokens = {
            "none": None,
            "registration": registration,
            "admin": admin,
            "listener": listener_token,
            "job": job_token,
        }
        url = work.listener.identity.server_url
        opens = {name: await opened(Connection(b.http, url, t), work) for name, t in tokens.items()}
        no = "401 UnauthorizedRequestException"
        assert opens == {
            "none": {no},
            "registration": {no},
            "admin": {no, calls.POOLS, calls.AGENTS},
            "listener": {no, calls.POOLS, calls.JOB_REQUESTS},
            "job": {no, calls.RECORDS},
        }


async def test_a_job_token_reports_on_its_own_job_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        _, work = await b.working()
        other = await b.listener(await b.registered("other"))
        job = b.dispatch()
        assert await other.poll() is not None
        work.at["planId"] = "00000000-0000-4000-8000-000000000009"
        with pytest.raises(Refused, match="404"):
            await work.complete("Succeeded")
        assert b.github.sim.job(job)["status"] == "queued"


async def test_a_result_nobody_knows_ends_no_job(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job, work = await b.working()
        with pytest.raises(Refused, match="'Splendid' is no result"):
            await work.complete("Splendid")
        assert b.github.sim.job(job)["status"] == "in_progress"


async def test_a_log_is_written_by_its_own_job_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        _, work = await b.working()
        at = work.at | {"logId": "77"}
        with pytest.raises(Refused, match="log 77 is not found"):
            await work.connection.resource("POST", calls.LOGS, at=at, content=b"text")


async def test_a_runner_deleted_while_it_waits_is_told_and_finds_no_way_back(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, Settings(poll_seconds=0.3)) as b:
        listener = await b.listener()
        await b.github.repo("DELETE", f"{RUNNERS}/{listener.identity.agent_id}")
        with pytest.raises(Refused) as refused:
            await listener.poll()
        assert refused.value.body["typeKey"] == "TaskAgentSessionExpiredException"
        again = Listener(b.http, listener.identity)
        with pytest.raises(httpx.HTTPStatusError, match="invalid_client"):
            await again.open()


async def test_a_runner_is_gone_after_its_job_whatever_it_still_asks(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        _, work = await b.working()
        await work.complete("Succeeded")
        with pytest.raises(Refused) as refused:
            await work.renew()
        assert refused.value.body["typeKey"] == "TaskAgentNotFoundException"
        assert await refusal(b, work.listener.identity) == (400, "invalid_client")
        # The name is free again.
        again = await configure(b.http, b.url, await b.token(), crypto.key_number(0))
        assert again.agent_id != work.listener.identity.agent_id


async def test_closing_a_session_twice_is_no_harm_and_a_job_outlives_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job, work = await b.working()
        await work.listener.close()
        assert b.github.sim.job(job)["status"] == "in_progress"
        await work.complete("Succeeded")
        idle = await b.listener(await b.registered("idle"))
        await idle.close()
        await idle.close()
        assert await b.runners() == ["idle"]
