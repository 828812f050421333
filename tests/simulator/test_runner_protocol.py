"""GitHub's runner protocol, first generation, as a client written from the reference meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mayfly.simulator import Faults, Settings

from .runner_client import calls, crypto
from .runner_client.calls import NoDefinition, Refused
from .runner_client.configuring import configure, from_jit_config, remove, trade, unpack
from .runner_client.listening import Listener
from .runner_client.working import context, live, mapping, take
from .support import RUNNERS, Receiver
from .wired import LABELS, bench

MINIMAL = {
    calls.POOLS,
    calls.AGENTS,
    calls.SESSIONS,
    calls.MESSAGES,
    calls.JOB_REQUESTS,
    calls.RECORDS,
    calls.LOGS,
    calls.FEED,
    calls.EVENTS,
}


@pytest.mark.parametrize(
    ("mode", "encryption"),
    [("token", "sha1"), ("token", "sha256"), ("token", "plain"), ("jit", "sha1")],
)
async def test_a_runner_registers_takes_one_job_and_is_gone(
    tmp_path: Path, hook: Receiver, mode: str, encryption: str
) -> None:
    settings = Settings(webhook_url=hook.url, runner_encryption=encryption)  # type: ignore[arg-type]  # a word of the three above
    async with bench(tmp_path, settings) as b:
        listener = Listener(b.http, await b.identity(mode))
        job = b.dispatch()
        assert await live(listener, tmp_path) == "Succeeded"
        # The first try for a session has no token.
        assert listener.connection.statuses[:3] == [200, 401, 200]
        assert (listener.key is None, listener.fips) == (
            encryption == "plain",
            encryption == "sha256",
        )
        shown = b.github.sim.job(job)
        assert (shown["conclusion"], shown["runner_name"]) == ("success", "wired")
        assert [(s["name"], s["conclusion"]) for s in shown["steps"]] == [
            ("Run echo hello", "success")
        ]
        assert all(s["started_at"] and s["completed_at"] for s in shown["steps"])
        assert b.github.sim.log(job) == ["hello"]
        assert await b.runners() == []
        assert await b.github.sim.wait_deliveries()
        assert hook.actions == ["queued", "in_progress", "completed"]
        names = [r.payload["workflow_job"]["runner_name"] for r in hook.seen]
        assert names == [None, "wired", "wired"]


async def test_every_resource_of_the_minimal_list_is_defined(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        connection = calls.Connection(b.http, (await b.registered()).server_url)
        for guid in MINIMAL:
            assert (await connection.place(guid)).startswith("/_apis/")


async def test_steps_have_their_environment_shell_and_conditions(tmp_path: Path) -> None:
    yaml = f"""
env: {{TOP: top}}
jobs:
  build:
    {LABELS}
    env: {{JOB: job}}
    steps:
      - {{run: 'echo $TOP $JOB $STEP', env: {{STEP: step}}, shell: sh}}
      - {{run: exit 3, continue-on-error: true}}
      - uses: actions/checkout@v4
      - run: exit 1
      - run: echo never
      - {{run: echo at last, if: always()}}
"""
    async with bench(tmp_path) as b:
        job, work = await b.working(yaml)
        await work.complete(await work.run(tmp_path))
        assert b.github.sim.log(job) == [
            "top job step",
            "actions/checkout@v4: nothing to do in a simulation",
            "at last",
        ]
        shown = b.github.sim.job(job)
        assert shown["conclusion"] == "failure"
        endings = [step["conclusion"] for step in shown["steps"]]
        assert endings == ["success", "failure", "success", "failure", "skipped", "success"]


async def test_a_job_message_holds_what_runners_are_known_to_need(tmp_path: Path) -> None:
    yaml = f"""
name: Named
jobs:
  build:
    {LABELS}
    steps:
      - run: 'echo ''${{{{ github.run_id }}}}'' {{}}'
      - {{run: echo, working-directory: sub, env: {{A: '${{{{ github.sha }}}}'}}}}
"""
    async with bench(tmp_path) as b:
        _, work = await b.working(yaml)
        job = work.job
        github = context(job["contextData"]["github"])
        words = ("event_name", "server_url", "api_url", "graphql_url", "workflow", "job", "sha")
        assert all(isinstance(github[word], str) for word in words)
        assert (github["repository"], github["workflow"]) == ("octo-org/octo-repo", "Named")
        assert github["event"]["repository"]["full_name"] == "octo-org/octo-repo"
        token = work.connection.token
        assert crypto.claims_of(token or "")["orch_id"] == job["plan"]["planId"]
        assert job["variables"]["system.github.token"] == {"value": token, "isSecret": True}
        assert job["plan"]["version"] >= 8
        assert job["lockedUntil"].endswith("Z")
        first, second = job["steps"]
        assert mapping(first["inputs"])["script"] == (
            "${{ format('echo ''{0}'' {{}}', github.run_id) }}"
        )
        assert mapping(second["inputs"])["workingDirectory"] == "sub"
        assert mapping(second["environment"]) == {"A": "${{ github.sha }}"}


async def test_a_message_comes_again_until_it_is_deleted(tmp_path: Path, hook: Receiver) -> None:
    settings = Settings(webhook_url=hook.url, poll_seconds=0.1)
    async with bench(tmp_path, settings) as b:
        job = b.dispatch()
        listener = await b.listener()
        first, again = await listener.poll(), await listener.poll()
        assert first is not None
        assert again is not None
        assert first["messageId"] == again["messageId"]
        # Sealed anew each time, and the same inside but for nothing.
        assert first["iv"] != again["iv"]
        assert listener.opened(first) == listener.opened(again)
        assert await listener.poll(after=first["messageId"]) is None
        assert b.github.sim.job(job)["status"] == "queued"
        await listener.delete(first)
        assert b.github.sim.job(job)["status"] == "in_progress"
        work = await take(listener, first)
        assert await listener.poll("Busy") is None
        await take(listener, again)
        await work.complete("Succeeded")
        await work.complete("Failed")
        assert b.github.sim.job(job)["conclusion"] == "success"
        assert await b.github.sim.wait_deliveries()
        assert hook.actions == ["queued", "in_progress", "completed"]


async def test_a_cancelled_job_is_told_to_its_runner_and_ends_cancelled(
    tmp_path: Path, hook: Receiver
) -> None:
    async with bench(tmp_path, Settings(webhook_url=hook.url)) as b:
        job, work = await b.working()
        b.github.sim.cancel_job(job)
        message = await work.listener.poll("Busy")
        assert message is not None
        assert message["messageType"] == "JobCancellation"
        told = work.listener.opened(message)
        assert told == {"jobId": work.job["jobId"], "timeout": "00:05:00"}
        await work.listener.delete(message)
        assert b.github.sim.job(job)["status"] == "in_progress"
        await work.complete("Canceled")
        assert b.github.sim.job(job)["conclusion"] == "cancelled"
        assert await b.runners() == []
        assert await b.github.sim.wait_deliveries()
        assert hook.actions == ["queued", "in_progress", "completed"]


async def test_a_job_cancelled_before_it_began_is_kept_by_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path, Settings(poll_seconds=0.1)) as b:
        job = b.dispatch()
        listener = await b.listener()
        message = await listener.poll()
        assert message is not None
        b.github.sim.cancel_job(job)
        with pytest.raises(Refused) as refused:
            await take(listener, message)
        assert refused.value.body["typeKey"] == "TaskAgentJobNotFoundException"
        assert b.github.sim.job(job)["conclusion"] == "cancelled"
        # It has run nothing, so it is still there for the next job.
        assert await listener.poll() is None
        assert await b.runners() == ["wired"]


async def test_one_process_listens_for_a_runner(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        first = await b.listener()
        with pytest.raises(Refused) as refused:
            await b.listener(first.identity)
        assert refused.value.status == 409
        assert refused.value.body["typeKey"] == "TaskAgentSessionConflictException"
        await first.close()
        assert await b.github.sim.wait_runner("wired", "offline")
        await b.listener(first.identity)
        assert await b.github.sim.wait_runner("wired", "online")


async def test_a_silent_session_gives_way_and_has_expired(tmp_path: Path) -> None:
    async with bench(tmp_path, Settings(runner_lost_after_seconds=0.2)) as b:
        first = await b.listener()
        assert await b.github.sim.wait_runner("wired", "offline")
        await b.listener(first.identity)
        with pytest.raises(Refused) as refused:
            await first.poll()
        assert refused.value.status == 404
        assert refused.value.body["typeKey"] == "TaskAgentSessionExpiredException"


async def test_a_session_and_its_messages_are_for_one_runner_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        one = await b.listener(await b.registered("one"))
        other = await b.listener(await b.registered("other"))
        assert one.key != other.key
        b.dispatch()
        message = await one.poll()
        assert message is not None
        with pytest.raises((AssertionError, ValueError)):
            crypto.opened(message, other.key)
        other.session_id = one.session_id
        with pytest.raises(Refused) as refused:
            await other.poll()
        assert refused.value.body["typeKey"] == "TaskAgentSessionExpiredException"


async def test_a_runner_that_crashes_for_want_of_a_definition_loses_its_job(
    tmp_path: Path, hook: Receiver
) -> None:
    settings = Settings(
        webhook_url=hook.url, runner_lost_after_seconds=0.1, runner_lock_seconds=0.3
    )
    async with bench(tmp_path, settings) as b:
        b.github.sim.faults = Faults(withheld_definitions=(calls.RECORDS,))
        job, work = await b.working()
        with pytest.raises(NoDefinition, match=calls.RECORDS):
            await work.run(tmp_path)
        # As an unmodified runner does: it exits, and nobody hears of it.
        assert await b.github.sim.wait_job(job, "failure", 5)
        assert await b.runners() == []
        assert await b.github.sim.wait_deliveries()
        assert hook.actions == ["queued", "in_progress", "completed"]


async def test_a_runner_that_renewed_may_be_silent_for_a_while(tmp_path: Path) -> None:
    settings = Settings(runner_lost_after_seconds=0.1, runner_lock_seconds=60)
    async with bench(tmp_path, settings) as b:
        job, work = await b.working()
        assert not await b.github.sim.wait_job(job, "completed", 0.5)
        await work.complete("Succeeded")
        assert b.github.sim.job(job)["conclusion"] == "success"


async def test_a_runner_that_stays_takes_a_second_job(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        listener = await b.listener(await b.registered(ephemeral=False))
        for _ in range(2):
            job = b.dispatch()
            message = await listener.poll()
            assert message is not None
            work = await take(listener, message)
            await work.complete("Succeeded")
            assert b.github.sim.job(job)["conclusion"] == "success"
        assert await b.runners() == ["wired"]


async def test_a_log_stands_in_for_lines_that_nobody_sent(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job, work = await b.working()
        step = work.job["steps"][0]["id"]
        log = {"id": await work.upload(["one", "two"])}
        work.records = [
            {"id": step, "type": "Task", "name": "first", "order": 1, "state": 1},
            {"id": work.job["jobId"], "type": "Job", "order": 0},
        ]
        await work.update()
        # Only what changed, in the numbers of the enumerations, as the official runner may.
        work.records = [{"id": step, "state": "completed", "result": 2, "log": log}]
        await work.update()
        await work.complete("Failed")
        assert b.github.sim.log(job) == ["one", "two"]
        shown = b.github.sim.job(job)["steps"]
        assert [(s["name"], s["conclusion"]) for s in shown] == [("first", "failure")]


async def test_a_name_is_replaced_and_a_registration_removed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        first = await b.registered()
        with pytest.raises(Refused) as refused:
            await b.registered()
        assert refused.value.status == 409
        assert refused.value.body["typeKey"] == "TaskAgentExistsException"
        key = crypto.key_number(1)
        second = await configure(b.http, b.url, await b.token(), key, replace=True)
        assert second.agent_id != first.agent_id
        assert await b.runners() == ["wired"]
        await remove(b.http, b.url, await b.token("remove-token"), second.agent_id)
        assert await b.runners() == []


async def test_a_busy_runner_is_not_removed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        _, work = await b.working()
        agent_id = work.listener.identity.agent_id
        with pytest.raises(Refused, match="currently running a job"):
            await remove(b.http, b.url, await b.token("remove-token"), agent_id)
        gone = await b.github.repo("DELETE", f"{RUNNERS}/{agent_id}")
        assert gone.status_code == 422


async def test_what_the_official_runner_asks_besides_is_answered(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        _, work = await b.working()
        listen, pool = work.listener.connection, {"poolId": 1}
        kind = {"packageType": "agent", "platform": "linux-x64"}
        packages = await listen.resource("GET", calls.PACKAGES, at=kind)
        assert packages.json() == {"count": 0, "value": []}
        at = pool | {"agentId": work.listener.identity.agent_id}
        await listen.resource("PUT", calls.UPDATES, at=at, json={})
        await work.update()
        timeline = (await work.connection.resource("GET", calls.TIMELINES, at=work.at)).json()
        assert timeline["id"] == work.at["timelineId"]
        place = work.at | {"recordId": work.job["jobId"], "type": "Summary", "name": "one"}
        await work.connection.resource("PUT", calls.ATTACHMENTS, at=place, content=b"text")


async def test_a_jit_config_is_the_simulators_own_runners_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        blob = await b.github.jitconfig("one")
        identity = from_jit_config(blob)
        assert unpack(blob)[".credentials"]["Data"]["SimulatorUrl"].endswith("/_runner/")
        await b.listener(identity)
        secret = unpack(blob)[".credentials"]["Data"]["Token"]
        taken = await b.http.post(
            f"{b.github.sim.url}/_runner/session", headers={"authorization": f"Bearer {secret}"}
        )
        assert taken.status_code == 409


async def test_tokens_and_configs_are_handed_out_for_trying_by_hand(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        asked = {"owner": "octo-org", "repo": "octo-repo"}
        made = (await b.github.control("POST", "/registration-tokens", json=asked)).json()
        assert (await trade(b.http, made["url"], made["token"]))["token"]
        whole = (
            await b.github.control("POST", "/registration-tokens", json={"owner": "octo-org"})
        ).json()
        assert whole["url"] == f"{b.github.sim.url}/octo-org"
        assert (await trade(b.http, whole["url"], whole["token"]))["token"]
        config = (
            await b.github.control("POST", "/jit-configs", json=asked | {"name": "by-hand"})
        ).json()
        await b.listener(from_jit_config(config["encoded_jit_config"]))
        assert await b.github.sim.wait_runner("by-hand", "online")
