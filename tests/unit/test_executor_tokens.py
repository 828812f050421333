"""Token mode at the executor: what is asked in turn, and when a token is said to be spent."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mayfly import executor
from mayfly.executor.patience import Timing
from mayfly.executor.settings import Settings, Token
from mayfly.model.errors import Permanent
from mayfly.model.protocol import FinishOrder, HeartbeatAnswer, Order, Outcome
from tests.fakes.control_plane import (
    SILENCE,
    TOKEN,
    ControlPlane,
    Reply,
    control_plane,
    entrusted,
    granted,
    problem,
)
from tests.fakes.drivers import ScriptedTokenDriver, opening

SECRET = "PLANTED-REGISTRATION-TOKEN"
NAME = "mayfly-c1-1"


@pytest.fixture
async def plane() -> AsyncIterator[ControlPlane]:
    async with control_plane() as plane:
        plane.will("claims", granted())
        plane.will("registration-token", entrusted(SECRET))
        yield plane


async def worked(plane: ControlPlane, driver: ScriptedTokenDriver, place: Path) -> FinishOrder:
    """The last word of an executor that works on one claim."""
    settings = Settings(
        server=plane.url, pool="linux", token=Token(TOKEN), state_dir=place, once=True
    )
    quick = Timing(unrung=0.05, shortest=0.01, longest=0.02, farewell=0.2)
    async with asyncio.timeout(20):
        await executor.run(settings, opening(driver), quick)
    (order,) = plane.heard["finish"]
    assert isinstance(order, FinishOrder)
    return order


def asked(plane: ControlPlane) -> list[str]:
    verbs = [path.rsplit("/", 1)[1] for path in plane.paths]
    return [verb for verb in verbs if verb not in {"heartbeat", "lease"}]


async def test_the_runner_runs_once_the_ledger_knows_of_it(plane: ControlPlane, tmp_path: Path):
    driver = ScriptedTokenDriver()
    plane.will("configured", SILENCE, problem(503, "GitHub is away"))
    last = await worked(plane, driver, tmp_path)
    assert asked(plane) == ["claims", "registration-token", *["configured"] * 3, "finish"]
    assert driver.scripted.calls[-4:] == [
        "prepare c1",
        f"configure {NAME}",
        f"run {NAME}",
        "cleanup",
    ]
    assert (driver.tokens, driver.scripted.configs) == ([SECRET], [f"settings-of-{NAME}"])
    assert (last.outcome, last.token_spent) == (Outcome.DONE, True)


async def test_a_program_that_fails_gives_the_job_back_with_its_token_spent(
    plane: ControlPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    driver = ScriptedTokenDriver()
    driver.configure_fails = Permanent("configure.command ended with exit code 4")
    last = await worked(plane, driver, tmp_path)
    assert (last.outcome, last.token_spent) == (Outcome.FAILED, True)
    assert "exit code 4" in last.detail
    assert "configured" not in asked(plane)
    assert SECRET not in caplog.text


async def test_a_runner_github_does_not_show_is_not_run(plane: ControlPlane, tmp_path: Path):
    driver = ScriptedTokenDriver()
    plane.will("configured", problem(422, "GitHub does not show a runner"))
    last = await worked(plane, driver, tmp_path)
    assert last.outcome is Outcome.FAILED
    assert last.detail.endswith("GitHub does not show a runner")
    assert f"run {NAME}" not in driver.scripted.calls


async def test_a_claim_that_ends_meanwhile_stops_the_program(plane: ControlPlane, tmp_path: Path):
    driver = ScriptedTokenDriver()
    driver.configures_for_ever = True
    stop = HeartbeatAnswer(order=Order.STOP, reason="enough")
    going_on = plane.usual["heartbeat"]

    async def once_configuring(_: object) -> Reply:
        if driver.tokens:
            return Reply(200, {"order": stop.order, "reason": stop.reason})
        assert isinstance(going_on, Reply)
        return going_on

    plane.usual["heartbeat"] = once_configuring
    last = await worked(plane, driver, tmp_path)
    assert (last.outcome, last.detail, last.token_spent) == (Outcome.STOPPED, "enough", True)


async def test_a_token_somebody_may_still_hold_is_not_said_to_be_spent(
    plane: ControlPlane, tmp_path: Path
):
    driver = ScriptedTokenDriver()
    driver.token_spent = False
    assert not (await worked(plane, driver, tmp_path)).token_spent


async def test_a_cleanup_that_fails_spends_no_token(plane: ControlPlane, tmp_path: Path):
    driver = ScriptedTokenDriver()
    driver.scripted.cleanup_fails = Permanent("a directory stays")
    assert not (await worked(plane, driver, tmp_path)).token_spent


async def test_without_a_token_nothing_is_said_of_one(plane: ControlPlane, tmp_path: Path):
    driver = ScriptedTokenDriver()
    driver.scripted.prepare_fails = Permanent("no board")
    last = await worked(plane, driver, tmp_path)
    assert (last.outcome, last.token_spent) == (Outcome.FAILED, False)
    assert asked(plane) == ["claims", "finish"]
