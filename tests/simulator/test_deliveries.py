"""Webhooks: what is sent, how it is signed, and what may become of it."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from mayfly.simulator import Account, Faults, HookRule, Settings

from .openapi import fixture
from .support import ONE_JOB, Client, Receiver, simulated

GATED = "jobs: {ship: {runs-on: self-hosted, environment: production}}"


def job_actions(hook: Receiver) -> list[str]:
    return [r.action for r in hook.seen if r.headers["x-github-event"] == "workflow_job"]


async def finish_one(github: Client) -> None:
    """One job from queued to completed, every delivery made."""
    made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    github.sim.add_runner("octo-org", None, "foreign", ("self-hosted", "linux"))
    assert await github.sim.wait_job(made.job_ids[0])
    assert await github.sim.wait_deliveries()


async def test_a_job_is_announced_in_order_and_signed(github: Client, hook: Receiver) -> None:
    github.sim.set_webhook(hook.url, "tell-nobody")
    await finish_one(github)
    assert hook.actions == ["queued", "in_progress", "completed"]
    for received in hook.seen:
        digest = hmac.new(b"tell-nobody", received.body, hashlib.sha256).hexdigest()
        assert received.headers["x-hub-signature-256"] == f"sha256={digest}"
        assert received.headers["x-github-event"] == "workflow_job"
        assert received.headers["x-github-hook-installation-target-type"] == "integration"
        assert received.headers["x-github-hook-installation-target-id"] == "4711"
        assert received.headers["user-agent"].startswith("GitHub-Hookshot/")
        assert received.headers["content-type"] == "application/json"
    assert len({r.headers["x-github-delivery"] for r in hook.seen}) == 3


def keys(payload: Any, prefix: str = "") -> set[str]:
    """The paths of every field, lists left out."""
    if not isinstance(payload, dict):
        return set()
    nested = (keys(value, f"{prefix}{key}.") for key, value in payload.items())
    return {prefix + key for key in payload}.union(*nested)


@pytest.mark.parametrize("action", ["queued", "in_progress", "completed", "waiting"])
async def test_a_payload_has_every_field_of_a_real_one(hook: Receiver, action: str) -> None:
    accounts = (Account(login="octo-org", repositories=("octo-repo",)),)
    async with simulated(Settings(accounts=accounts, webhook_url=hook.url)) as github:
        github.sim.dispatch("octo-org", "octo-repo", GATED)
        await finish_one(github)
        ours = next(r.payload for r in hook.seen if r.action == action)
    real = json.loads(fixture(f"webhooks/workflow_job.{action}.json").read_text())
    # A deployment only comes with a released gate; the rest depends on the repository.
    optional = {key for key in keys(real) if key.startswith(("deployment", "organization"))}
    license_fields = {key for key in keys(real) if key.startswith("repository.license.")}
    assert keys(real) - optional - license_fields - keys(ours) == set()


async def test_an_organization_is_named_and_a_user_is_not(hook: Receiver) -> None:
    accounts = (
        Account(login="octo-org", repositories=("octo-repo",), installation_id=5),
        Account(login="monalisa", type="User", repositories=("dotfiles",)),
    )
    async with simulated(Settings(accounts=accounts, webhook_url=hook.url)) as github:
        github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
        assert await github.sim.wait_deliveries()
        github.sim.dispatch("monalisa", "dotfiles", ONE_JOB)
        assert await github.sim.wait_deliveries()
    first, second = (received.payload for received in hook.seen)
    assert first["organization"]["login"] == "octo-org"
    assert first["installation"]["id"] == 5
    assert "organization" not in second


async def test_repositories_outside_the_installation_are_not_announced(
    github: Client, hook: Receiver
) -> None:
    github.sim.set_webhook(hook.url)
    github.sim.deselect_repository("octo-org", "octo-repo")
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_deliveries()
    assert hook.actions == ["removed"]


async def test_a_slow_receiver_times_out_and_holds_nobody_up(hook: Receiver) -> None:
    settings = Settings(webhook_url=hook.url, webhook_timeout_seconds=0.2)
    async with simulated(settings) as github:
        hook.answering.clear()
        made = github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
        github.sim.cancel_run(made.run_id)
        assert github.sim.job(made.job_ids[0])["status"] == "completed"
        assert await github.sim.wait_deliveries()
        log = github.sim.world.deliveries.log.values()
        assert [(d.status, d.status_code) for d in log] == [("timed out", 504)] * 2


async def test_a_refusing_receiver_is_logged_and_not_tried_again(
    github: Client, hook: Receiver
) -> None:
    hook.status = 500
    github.sim.set_webhook(hook.url)
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_deliveries()
    failed = (await github.app("GET", "/app/hook/deliveries?status=failure")).json()
    assert [d["status_code"] for d in failed] == [500]
    whole = (await github.app("GET", f"/app/hook/deliveries/{failed[0]['id']}")).json()
    assert whole["response"]["payload"] == "thanks"
    assert len(hook.seen) == 1


@pytest.mark.parametrize(
    ("rule", "wanted", "logged"),
    [
        (HookRule(fault="lost", action="in_progress", count=1), ["queued", "completed"], 3),
        (HookRule(fault="unlogged", action="queued"), ["in_progress", "completed"], 2),
        (
            HookRule(fault="doubled", action="queued"),
            ["queued", "queued", "in_progress", "completed"],
            4,
        ),
        (
            HookRule(fault="reordered", action="queued", delay_ms=400),
            ["in_progress", "completed", "queued"],
            3,
        ),
        (
            HookRule(fault="delayed", action="queued", delay_ms=100),
            ["queued", "in_progress", "completed"],
            3,
        ),
    ],
)
async def test_deliveries_go_wrong_on_demand(
    github: Client, hook: Receiver, rule: HookRule, wanted: list[str], logged: int
) -> None:
    github.sim.set_webhook(hook.url)
    github.sim.faults = Faults(webhooks=(rule,))
    await finish_one(github)
    assert job_actions(hook) == wanted
    assert len(github.sim.world.deliveries.log) == logged


async def test_a_doubled_delivery_keeps_its_guid(github: Client, hook: Receiver) -> None:
    github.sim.set_webhook(hook.url)
    github.sim.faults = Faults(webhooks=(HookRule(fault="doubled", count=1),))
    github.sim.dispatch("octo-org", "octo-repo", ONE_JOB)
    assert await github.sim.wait_deliveries()
    assert len({r.headers["x-github-delivery"] for r in hook.seen}) == 1
    assert len(hook.seen) == 2


async def test_chance_is_repeatable_by_seed(hook: Receiver) -> None:
    def lost_of(seed: int) -> list[bool]:
        rule = HookRule(fault="lost", probability=0.5)
        from mayfly.simulator.faults import Mischief

        mischief = Mischief(Faults(seed=seed, webhooks=(rule,)))
        return [mischief.for_delivery("workflow_job", "queued") is not None for _ in range(30)]

    assert lost_of(1) == lost_of(1)
    assert lost_of(1) != lost_of(2)


async def test_any_payload_can_be_delivered_signed(github: Client, hook: Receiver) -> None:
    github.sim.set_webhook(hook.url, ping=True)
    odd = {"action": "queued", "workflow_job": None}
    await github.control("POST", "/events", json={"event": "workflow_job", "payload": odd})
    assert await github.sim.wait_deliveries()
    assert {r.headers["x-github-event"] for r in hook.seen} == {"ping", "workflow_job"}
    assert odd in [received.payload for received in hook.seen]


async def test_a_gate_is_announced_as_waiting_and_opens_on_approval(
    github: Client, hook: Receiver
) -> None:
    github.sim.set_webhook(hook.url)
    made = github.sim.dispatch("octo-org", "octo-repo", GATED)
    assert github.sim.job(made.job_ids[0])["status"] == "waiting"
    await github.control("POST", f"/jobs/{made.job_ids[0]}/approve")
    assert await github.sim.wait_deliveries()
    assert hook.actions == ["waiting", "queued"]
