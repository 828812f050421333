"""`mayfly doctor` against a simulated GitHub and a real file: what is wrong is named, once."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mayfly.bus import sql
from mayfly.cli.checkup import examine, examine_bus
from mayfly.cli.settings import as_toml, load
from mayfly.database import open_database
from mayfly.model.errors import Transient
from mayfly.model.findings import Finding, Verdict
from mayfly.ports import OperableBus
from mayfly.simulator import Simulator, generate_app_key
from mayfly.web.tokens import Role, new_token
from tests.e2e.programs import Ran, command
from tests.e2e.stage import PRIVATE_KEY, Stage, opened
from tests.fakes.clocks import ManualClock
from tests.fakes.simulated_github import SystemClock

WIDE = '[[pools]]\nname = "linux"\n\n[[pools]]\nname = "wide"\nscope = "organization"\n'


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A simulated GitHub whose webhook is set up well, and no process of ours."""
    async with opened(WIDE, shown=False) as stage:
        stage.simulator.set_webhook("https://mayfly.example.org/webhooks/github")
        yield stage
        assert stage.github.watched.wrong == []


def config(stage: Stage, more: str = "") -> Path:
    _, executor = new_token("rack", Role.EXECUTOR, ("linux", "wide"))
    secrets = stage.directory / "secrets"
    return stage.secret(
        "mayfly.toml",
        f'[store]\nurl = "sqlite:///{stage.database}"\n\n{more}\n'
        f'[github]\napp_id = 4711\napi_url = "{stage.simulator.url}"\n'
        f'private_key_file = "{secrets}/app.pem"\n'
        f'webhook_secret_files = ["{secrets}/webhook-secret"]\n\n{WIDE}\n{as_toml(executor)}\n',
    )


async def doctor(stage: Stage, *arguments: str, more: str = "") -> Ran:
    path = str(config(stage, more))
    return await command("doctor", "--config", path, *arguments, environment={})


async def troubles(stage: Stage, clock: Any = None, more: str = "") -> list[Finding]:
    """What is not good, found in this process."""
    path = config(stage, more)
    findings = await examine(load(path, {}), path, clock or SystemClock())
    return [finding for finding in findings if finding.verdict is not Verdict.GOOD]


async def wrong(stage: Stage, **given: Any) -> list[tuple[str, str]]:
    """Checks that went wrong, with their sentences."""
    found = await troubles(stage, **given)
    return [(one.check, one.sentence) for one in found if one.verdict is Verdict.WRONG]


def app_of(simulator: Simulator, **changes: Any) -> None:
    for name, value in changes.items():
        place = simulator.world.deliveries if name == "active" else simulator.world
        setattr(place, name, value)


async def test_all_well_is_exit_code_0_and_nothing_is_made(stage):
    answer = await doctor(stage)
    assert answer.code == 0, answer.out + answer.err
    assert "✗" not in answer.out
    assert "! " not in answer.out
    assert "there is no database yet" in answer.out
    assert not stage.database.exists()


async def test_everything_is_checked_once_there_is_a_database(stage):
    async with open_database(f"sqlite:///{stage.database}"):
        pass
    answer = await doctor(stage, "--json")
    found = {one["check"]: one["verdict"] for one in msgspec.json.decode(answer.out)}
    assert answer.code == 0
    assert found.pop("control plane") == "warning", "nobody has started it yet"
    assert set(found.values()) == {"good"}
    assert {"bus", "ledger", "integrity", "webhook", "rate limit"} <= set(found)


async def test_no_secret_is_shown(stage):
    stage.simulator.set_webhook("https://me:hidden@mayfly.example.org/other?key=hidden")
    answer = await doctor(stage)
    assert answer.code == 1
    shown = answer.out + answer.err
    for secret in (*stage.github.watched.tokens, stage.webhook_secret, "hidden", "PRIVATE KEY"):
        assert secret not in shown


async def test_unusable_settings_are_exit_code_2(stage):
    answer = await doctor(stage, more="[nonsense]\n")
    assert (answer.code, answer.out) == (2, "")
    assert "nonsense" in answer.err


async def test_a_wrong_key_is_told_and_nothing_else_is_asked(stage):
    stage.secret("app.pem", generate_app_key()[0])
    found = await troubles(stage)
    stage.secret("app.pem", PRIVATE_KEY)
    verdicts = {one.check: one.verdict for one in found}
    assert verdicts.pop("GitHub") is Verdict.WRONG
    assert set(verdicts.values()) == {Verdict.UNCHECKED}
    assert stage.simulator.calls == {"GET /app": 1}


async def test_an_address_where_nobody_answers_is_told(stage):
    url = stage.simulator.url
    config(stage)
    path = stage.directory / "secrets" / "mayfly.toml"
    path.write_text(path.read_text().replace(url, "http://127.0.0.1:1"))
    findings = await examine(load(path, {}), path, SystemClock())
    (found,) = [one for one in findings if one.verdict is Verdict.WRONG]
    assert "no answer from http://127.0.0.1:1" in found.found
    assert "firewall" in (found.remedy or "")


async def test_a_port_that_speaks_no_tls_is_told_apart(stage):
    path = config(stage)
    path.write_text(path.read_text().replace("http://127", "https://127"))
    findings = await examine(load(path, {}), path, SystemClock())
    (found,) = [one for one in findings if one.verdict is Verdict.WRONG]
    assert "TLS" in (found.remedy or "")


@pytest.mark.parametrize(("seconds", "way"), [(45, "ahead of"), (-45, "behind")])
async def test_a_clock_that_GitHub_still_accepts_is_wrong_all_the_same(stage, seconds, way):  # noqa: N802 - GitHub's name
    (found,) = await wrong(stage, clock=SystemClock(timedelta(seconds=seconds)))
    assert found[0] == "clock"
    assert way in found[1]


async def test_a_clock_that_is_far_off_is_told_though_GitHub_refuses_the_key(stage):  # noqa: N802 - GitHub's name
    (found,) = await wrong(stage, clock=SystemClock(timedelta(hours=1)))
    assert "the clock of this machine is wrong by 36" in found[1]


async def test_a_missing_permission_is_named_with_those_who_have_not_granted_it(stage):
    given = {"actions": "read", "metadata": "read", "administration": "write"}
    app_of(stage.simulator, permissions=given)
    org = stage.simulator.world.accounts.installation_of("octo-org")
    stage.simulator.world.accounts.permit(org.id, given)
    (found,) = await wrong(stage)
    assert found[0] == "permissions"
    assert "the App lacks organization_self_hosted_runners=write" in found[1]
    (left_out,) = [one for one in await troubles(stage) if one.check == "installations"]
    assert left_out.verdict is Verdict.WARNING, "mona, a personal account, is served"
    assert "octo-org" in left_out.found


async def test_a_missing_event_is_wrong(stage):
    app_of(stage.simulator, events=())
    assert [check for check, _ in await wrong(stage)] == ["event"]


async def test_a_webhook_that_leads_elsewhere_is_wrong(stage):
    stage.simulator.set_webhook("https://mayfly.example.org/hooks")
    ((check, sentence),) = await wrong(stage)
    assert check == "webhook"
    assert "/webhooks/github" in sentence


async def test_an_inactive_webhook_is_wrong_and_its_log_is_not_checked(stage):
    app_of(stage.simulator, active=False)
    found = {one.check: one.verdict for one in await troubles(stage)}
    assert found["webhook"] is Verdict.WRONG
    assert found["deliveries"] is Verdict.UNCHECKED


async def test_deliveries_that_fail_are_a_warning(stage):
    stage.simulator.set_webhook("http://127.0.0.1:1/webhooks/github")
    stage.dispatch("octo-repo")
    assert await stage.simulator.wait_deliveries()
    (found,) = [one for one in await troubles(stage) if one.check == "deliveries"]
    assert found.verdict is Verdict.WARNING
    assert "1 of the last 1 failed" in found.found
    assert "HTTP 502" in found.found


async def test_a_suspended_installation_is_a_warning_and_all_of_them_are_wrong(stage):
    first, second = stage.simulator.world.accounts.installations
    stage.simulator.suspend(first)
    assert await wrong(stage) == []
    stage.simulator.suspend(second)
    ((check, sentence),) = await wrong(stage)
    assert check == "installations"
    assert "suspended on mona, octo-org" in sentence


async def test_a_rate_limit_that_is_nearly_spent_is_a_warning(stage):
    world = stage.simulator.world
    org = world.accounts.installation_of("octo-org")
    for _ in range(4500):
        world.limits.spend(f"installation ID {org.id}", "core", world.now().timestamp())
    (found,) = [one for one in await troubles(stage) if one.verdict is Verdict.WARNING]
    assert found.check == "rate limit"
    assert "of 5,000 calls left for octo-org" in found.found


async def test_a_database_of_a_newer_version_is_wrong_and_left_alone(stage):
    async with open_database(f"sqlite:///{stage.database}"):
        pass
    with closing(sqlite3.connect(stage.database)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = stage.database.read_bytes()
    found = {one.check: one.verdict for one in await troubles(stage)}
    assert found == {
        "store": Verdict.WRONG,
        "ledger": Verdict.UNCHECKED,
        "bus": Verdict.UNCHECKED,
    }
    assert stage.database.read_bytes() == before


async def test_a_bus_that_cannot_be_opened_is_wrong(stage):
    broken = stage.directory / "bus.sqlite"
    broken.write_bytes(b"no database" * 1000)
    found = await wrong(stage, more=f'[bus]\nurl = "sqlite:///{broken}"\n')
    assert [check for check, _ in found] == ["bus"]


class Away:
    """A bus nobody can reach."""

    async def __aenter__(self) -> OperableBus:
        raise Transient("the bus at 127.0.0.1 does not answer; see that it runs")

    async def __aexit__(self, *_: object) -> None:
        """Nothing was opened."""


async def test_a_bus_that_is_away_is_wrong():
    (found,) = await examine_bus(Away(), ["linux"])
    assert (found.check, found.verdict) == ("bus", Verdict.WRONG)
    assert found.remedy == "see that it runs"


async def test_dead_messages_are_a_warning_that_names_the_command(tmp_path):
    names = ["linux", "arm64"]
    url = f"sqlite:///{tmp_path}/bus.sqlite"
    async with sql.open_bus(url, ManualClock(), names) as bus:
        assert isinstance(bus, sql.SqlBus)
        await bus.put([("linux", b"not ours")])
        assert await bus.lease("linux", timedelta(0)) is None
    found = await examine_bus(sql.open_bus(url, ManualClock(), names), names)
    (dead,) = [one for one in found if one.verdict is Verdict.WARNING]
    assert "pool linux: 1 message(s) are dead" in dead.sentence
    assert "mayfly bus dead list" in dead.sentence
