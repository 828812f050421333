"""GitHub's runner protocol, second generation: the broker and the run service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from mayfly.simulator import Settings

from .runner_client import calls, crypto
from .runner_client.calls import Refused
from .runner_client.configuring import configure, from_jit_config
from .runner_client.listening import Listener
from .runner_client.working import Work, acquire, live, take
from .support import RUNNERS, Receiver
from .wired import bench

V2 = Settings(runner_flow="v2", poll_seconds=0.3)


@pytest.mark.parametrize(
    ("mode", "encryption"), [("token", "sha256"), ("jit", "sha1"), ("jit", "plain")]
)
async def test_a_runner_of_v2_registers_takes_one_job_and_is_gone(
    tmp_path: Path, hook: Receiver, mode: str, encryption: str
) -> None:
    settings = Settings(
        webhook_url=hook.url,
        runner_flow="v2",
        runner_encryption=encryption,  # type: ignore[arg-type]  # a word of the three above
    )
    async with bench(tmp_path, settings) as b:
        identity = await b.identity(mode)
        assert identity.server_url_v2 is not None
        listener = Listener(b.http, identity)
        job = b.dispatch()
        assert await live(listener, tmp_path) == "Succeeded"
        assert listener.connection.statuses[:2] == [401, 200]
        assert (listener.key is None) is (encryption == "plain")
        shown = b.github.sim.job(job)
        assert (shown["conclusion"], shown["runner_name"]) == ("success", "wired")
        assert [s["conclusion"] for s in shown["steps"]] == ["success"]
        assert b.github.sim.log(job) == ["hello"]
        assert await b.runners() == []
        assert await b.github.sim.wait_deliveries()
        assert hook.actions == ["queued", "in_progress", "completed"]


@pytest.mark.parametrize("whole", [False, True], ids=["repository", "organization"])
async def test_a_runner_registers_by_runner_administration(tmp_path: Path, whole: bool) -> None:
    settings = Settings(runner_flow="v2", use_v2_registration=True)
    async with bench(tmp_path, settings) as b:
        url, runners = (b.url, RUNNERS)
        if whole:
            url, runners = f"{b.github.sim.url}/octo-org", "/orgs/octo-org/actions/runners"
        token = (await b.github.repo("POST", f"{runners}/registration-token")).json()["token"]
        identity = await configure(b.http, url, token, crypto.key_number(0))
        job = b.dispatch()
        assert await live(Listener(b.http, identity), tmp_path) == "Succeeded"
        assert b.github.sim.job(job)["conclusion"] == "success"
        second = await configure(b.http, url, token, crypto.key_number(0))
        gone = await b.http.delete(
            f"{b.github.sim.url}{runners}/{second.agent_id}",
            headers={"authorization": f"RemoteAuth {token}"},
        )
        assert gone.status_code == 204


async def test_a_runner_of_v1_is_sent_on_to_the_broker(tmp_path: Path) -> None:
    async with bench(tmp_path, V2) as b:
        # It does not know of v2, as a known runner with a JIT config does not.
        identity = from_jit_config(await b.github.jitconfig("wired"))
        identity.server_url_v2 = None
        listener = await b.listener(identity)
        assert listener.migrated is not None
        migrated, listener.migrated = listener.migrated, None
        message = await listener.poll()
        assert message is not None
        assert message["messageType"] == "BrokerMigration"
        assert listener.opened(message) == {"brokerBaseUrl": migrated}
        await listener.delete(message)
        listener.migrated = migrated
        job = b.dispatch()
        message = await listener.poll()
        assert message is not None
        work = await take(listener, message)
        await work.complete(await work.run(tmp_path))
        assert b.github.sim.job(job)["conclusion"] == "success"


async def announced(b) -> tuple[Listener, dict[str, Any], dict[str, Any]]:
    """(listener, message, what it says)."""
    listener = await b.listener()
    message = await listener.poll()
    assert message is not None
    return listener, message, listener.opened(message)


async def test_a_job_is_announced_again_and_acquired_twice_and_begins_once(
    tmp_path: Path, hook: Receiver
) -> None:
    settings = Settings(runner_flow="v2", poll_seconds=0.1, webhook_url=hook.url)
    async with bench(tmp_path, settings) as b:
        job = b.dispatch()
        listener, message, body = await announced(b)
        assert body["should_acknowledge"] is True
        again = await listener.poll()
        assert again is not None
        assert again["messageId"] == message["messageId"]
        for _ in range(2):
            await listener.acknowledge(body["runner_request_id"])
        assert await listener.poll() is None
        assert b.github.sim.job(job)["status"] == "queued"
        first, second = await acquire(listener, body), await acquire(listener, body)
        assert first.job["jobId"] == second.job["jobId"]
        locked = (await first.renew())["lockedUntil"]
        assert locked.endswith("Z")
        await second.complete("Succeeded")
        await first.complete("Failed")
        assert b.github.sim.job(job)["conclusion"] == "success"
        assert await b.github.sim.wait_deliveries()
        assert hook.actions == ["queued", "in_progress", "completed"]


async def test_a_job_is_acquired_by_its_own_runner_alone(tmp_path: Path) -> None:
    async with bench(tmp_path, V2) as b:
        b.dispatch()
        _, _, body = await announced(b)
        other = await b.listener(await b.registered("other"))
        with pytest.raises(Refused) as refused:
            await acquire(other, body)
        assert refused.value.body["source"] == "actions-run-service"
        assert refused.value.body["statusCode"] == 404
        with pytest.raises(Refused) as refused:
            await other.acknowledge(body["runner_request_id"])
        assert refused.value.body["errorKind"] == "AcknowledgeJobNotFound"


async def test_a_runner_that_was_silent_hears_of_its_job_again(tmp_path: Path) -> None:
    settings = Settings(runner_flow="v2", runner_lost_after_seconds=0.2)
    async with bench(tmp_path, settings) as b:
        job = b.dispatch()
        listener, _, body = await announced(b)
        await listener.acknowledge(body["runner_request_id"])
        assert await b.github.sim.wait_runner("wired", "offline")
        message = await listener.poll()
        assert message is not None
        assert listener.opened(message) == body
        work = await take(listener, message)
        await work.complete("Succeeded")
        assert b.github.sim.job(job)["conclusion"] == "success"


async def test_a_job_cancelled_after_its_announcement_is_not_acquired(tmp_path: Path) -> None:
    async with bench(tmp_path, V2) as b:
        job = b.dispatch()
        listener, _, body = await announced(b)
        b.github.sim.cancel_job(job)
        with pytest.raises(Refused, match="404"):
            await acquire(listener, body)
        assert await listener.poll() is None


async def test_the_broker_tells_of_a_cancellation(tmp_path: Path) -> None:
    async with bench(tmp_path, V2) as b:
        job = b.dispatch()
        listener, message, _ = await announced(b)
        work = await take(listener, message)
        b.github.sim.cancel_job(job)
        told = await listener.poll("Busy")
        assert told is not None
        assert told["messageType"] == "JobCancellation"
        assert listener.opened(told)["jobId"] == work.job["jobId"]
        await work.complete("Canceled")
        assert b.github.sim.job(job)["conclusion"] == "cancelled"


async def test_the_listeners_token_renews_as_well(tmp_path: Path) -> None:
    async with bench(tmp_path, V2) as b:
        b.dispatch()
        listener, message, _ = await announced(b)
        work = await take(listener, message)
        work.connection.token = listener.connection.token
        assert (await work.renew())["lockedUntil"]
        work.job["jobId"] = "00000000-0000-4000-8000-000000000009"
        with pytest.raises(Refused) as refused:
            await work.renew()
        assert refused.value.body["source"] == "actions-run-service"
        # Completing is for the job's own token.
        with pytest.raises(Refused, match="401"):
            await work.complete("Succeeded")


async def test_the_broker_names_its_refusals(tmp_path: Path) -> None:
    async with bench(tmp_path, V2) as b:
        listener = await b.listener()
        with pytest.raises(Refused) as refused:
            await b.listener(listener.identity)
        assert (refused.value.status, refused.value.body["errorKind"]) == (409, "SessionConflict")
        kept, listener.session_id = listener.session_id, "unknown"
        with pytest.raises(Refused) as refused:
            await listener.poll()
        assert refused.value.body["errorKind"] == "RunnerSessionInvalid"
        listener.session_id = kept
        await b.github.repo("DELETE", f"{RUNNERS}/{listener.identity.agent_id}")
        with pytest.raises(Refused) as refused:
            await listener.poll()
        assert refused.value.body["errorKind"] == "RunnerNotFound"
        assert refused.value.body["source"] == "actions-broker-listener"


async def test_a_runner_of_v2_leaves_and_comes_back(tmp_path: Path) -> None:
    async with bench(tmp_path, V2) as b:
        listener = await b.listener()
        await listener.close()
        assert await b.github.sim.wait_runner("wired", "offline")
        await b.listener(listener.identity)
        assert await b.github.sim.wait_runner("wired", "online")


async def test_a_job_message_is_had_by_its_request_where_no_run_service_is_named(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, V2) as b:
        job = b.dispatch()
        listener, _, body = await announced(b)
        connection = calls.Connection(
            b.http, listener.identity.server_url, listener.connection.token
        )
        at = {"messageId": body["runner_request_id"]}
        message = (
            await connection.resource("GET", calls.JOB_MESSAGES, "6.0-preview", at=at)
        ).json()
        # Nobody acknowledged it, and yet it comes no more.
        assert await listener.poll("Busy") is None
        await Work(listener, message, None).complete("Succeeded")
        assert b.github.sim.job(job)["conclusion"] == "success"


async def test_a_wrong_key_opens_no_session_at_the_broker(tmp_path: Path) -> None:
    async with bench(tmp_path, V2) as b:
        identity = await b.registered()
        identity.key = crypto.key_number(1)
        with pytest.raises(httpx.HTTPStatusError, match="invalid_client"):
            await b.listener(identity)
