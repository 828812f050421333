"""The command driver beyond the contract: booting, powering off, and what it refuses."""

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from mayfly.drivers import keeper
from mayfly.drivers.command import Settings, open_driver
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.protocol import Granted, Outcome
from mayfly.ports import Driver
from tests.fakes import board
from tests.fakes.runner_programs import (
    KEY,
    Admission,
    Stage,
    claim,
    jit_config,
    processes_with,
    stage,
    until,
)
from tests.servers.absent import absent


@pytest.fixture
def place() -> Iterator[Stage]:
    if shutil.which("bwrap") is None:
        absent("bubblewrap is not installed; tests/servers/install does it")
    with stage() as made, board.plugged_in(made.home / "board", made.programs, made.traces):
        yield made


def settings(place: Stage, script: str = "ends", **changes: object) -> Settings:
    directory = place.home / "board"
    usual = Settings(
        prepare=board.words("boot", directory),
        remote=board.words("ssh", directory),
        run=("env", f"TRACES={place.traces}", place.program(script)),
        power_off=board.words("off", directory),
        grace_seconds=0.5,
    )
    return msgspec.structs.replace(usual, **changes)


def opened(place: Stage, wanted: Settings) -> AbstractAsyncContextManager[Driver]:
    slot = place.home / "0"
    slot.mkdir(exist_ok=True)
    return open_driver(wanted, slot, Admission(None))


def supply(place: Stage) -> list[dict[str, object]]:
    """What the board's power supply did."""
    file = place.home / "board" / "power"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def of_variant(variant: str | None) -> Granted:
    return msgspec.structs.replace(claim(), variant=variant)


def keepers() -> list[int]:
    """Processes of ours that wait to run a program, or run one."""
    ours = (Path("/proc/self/task") / str(os.getpid()) / "children").read_text().split()
    lines = {int(pid): (Path("/proc") / pid / "cmdline").read_bytes() for pid in ours}
    return [pid for pid, line in lines.items() if os.fsencode(keeper.__file__) in line]


ON, OFF = {"on": ""}, {"off": True}


async def test_a_runner_waits_for_a_slow_boot(place: Stage):
    slow = place.home / "board" / "slow"
    os.mkfifo(slow)
    async with opened(place, settings(place, "probes")) as driver:
        preparing = asyncio.create_task(driver.prepare(claim()))
        await until(lambda: supply(place) == [ON])
        assert not preparing.done()
        await asyncio.to_thread(slow.write_text, "go")
        await preparing
        assert (await driver.run("r", jit_config())).outcome is Outcome.DONE
    assert place.trace("stdin") == jit_config()


async def test_a_board_that_does_not_boot_in_time_fails_the_claim(place: Stage):
    os.mkfifo(place.home / "board" / "slow")
    async with opened(place, settings(place, prepare_seconds=0.3)) as driver:
        with pytest.raises(Permanent, match=r"longer than 0.3 s"):
            await driver.prepare(claim())
        assert processes_with(f"boot\0{place.home}") == []
        with pytest.raises(Permanent, match="not prepared"):
            await driver.run("r", jit_config())


async def test_a_board_that_does_not_boot_says_why_and_is_powered_off(place: Stage):
    broken = place.home / "board" / "broken"
    broken.touch()
    async with opened(place, settings(place)) as driver:
        with pytest.raises(Permanent, match=r"prepare .* exit code 1; it said: kernel panic"):
            await driver.prepare(claim())
        await driver.cleanup()
        assert not list((place.home / "0").iterdir())
        broken.unlink()
        await driver.prepare(claim())
        assert (await driver.run("r", jit_config())).outcome is Outcome.DONE


@pytest.mark.parametrize(
    "variant",
    ["$(touch /tmp/mayfly-was-here)", "; exit 3", "-rf", "a b", "*", "'\"", "\\", "é", "\n", None],
)
async def test_a_variant_is_one_argument_whatever_is_in_it(place: Stage, variant: str | None):
    async with opened(place, settings(place)) as driver:
        await driver.prepare(of_variant(variant))
        assert supply(place) == [{"on": variant or ""}]


async def test_a_variant_no_program_can_be_told_fails_the_claim(place: Stage):
    async with opened(place, settings(place)) as driver:
        with pytest.raises(Permanent, match="could not be run"):
            await driver.prepare(of_variant("a\0b"))
    assert supply(place) == []


async def test_a_board_that_vanishes_ends_the_runner(place: Stage):
    async with opened(place, settings(place, "hangs")) as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        await place.traced("pid")
        board.ask(str(place.home / "board" / "plug"), {"verb": "off"})
        finished = await running
        assert (finished.outcome, finished.exit_code) == (Outcome.FAILED, 255)
        assert "closed the connection" in finished.detail


async def test_an_idle_board_is_powered_off(place: Stage):
    async with opened(place, settings(place, idle_seconds=0.2)) as driver:
        await driver.prepare(claim())
        await driver.run("r", jit_config())
        assert supply(place) == [ON]
        await driver.cleanup()
        await until(lambda: supply(place) == [ON, OFF])
        await until(lambda: not list((place.home / "0").iterdir()))


async def test_a_board_is_not_idle_while_it_is_prepared_or_at_work(place: Stage):
    async with opened(place, settings(place, "hangs", idle_seconds=0.05)) as driver:
        await driver.prepare(claim())
        await driver.cleanup()
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        await place.traced("pid")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(running), 0.2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert supply(place)[-2:] == [ON, OFF]
    assert processes_with(str(place.traces)) == []


async def test_a_board_that_stays_on_is_tried_again_and_blocks_the_next_job(
    place: Stage, caplog: pytest.LogCaptureFixture
):
    stubborn = place.programs / "off"
    stubborn.write_text("#!/bin/sh\necho the relay sticks; exit 5\n")
    stubborn.chmod(0o755)
    wanted = settings(place, "fails", power_off=(str(stubborn),))
    async with AsyncExitStack() as stack:
        driver = await stack.enter_async_context(opened(place, wanted))
        await driver.prepare(claim())
        finished = await driver.run("r", jit_config())
        assert (finished.outcome, finished.exit_code) == (Outcome.FAILED, 3)
        assert "board.stays_on" in caplog.text
        with pytest.raises(Permanent, match=r"power_off .* exit code 5; it said: the relay"):
            await driver.cleanup()
        with pytest.raises(Permanent, match="power_off"):
            await driver.prepare(claim())
        with pytest.raises(Permanent, match="relay sticks"):
            await stack.aclose()
    async with opened(place, settings(place)) as driver:
        await driver.cleanup()
        assert supply(place) == [ON, OFF]


async def test_the_runners_own_exit_code_is_told_and_no_secret_of_its_output(place: Stage):
    async with opened(place, settings(place, "tells")) as driver:
        await driver.prepare(claim())
        finished = await driver.run("r", jit_config())
    assert finished.exit_code == 3
    assert "ordinary" in finished.detail
    assert KEY not in finished.detail
    assert jit_config() not in finished.detail


async def test_programs_find_what_they_are_told_and_nothing_else(
    place: Stage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MAYFLY_TOKEN", "secret")
    monkeypatch.setenv("MORELLO_HOSTNAME", "board-7")
    monkeypatch.setenv("OTHER", "x")
    told = place.programs / "told"
    told.write_text(f'#!/bin/sh\ncat /proc/$$/environ | tr "\\0" "\\n" >{place.traces}/env\n')
    told.chmod(0o755)
    wanted = settings(place, prepare=(str(told),), environment={"FARM": "north"})
    async with opened(place, wanted) as driver:
        await driver.prepare(claim())
    found = dict(line.split("=", 1) for line in place.trace("env").splitlines())
    assert set(found) == {"PATH", "HOME", "LANG", "MAYFLY_SLOT", "MORELLO_HOSTNAME", "FARM"}
    assert (found["MORELLO_HOSTNAME"], found["MAYFLY_SLOT"]) == ("board-7", "0")


async def test_a_pool_with_a_guard_is_warned_of_once(
    place: Stage, caplog: pytest.LogCaptureFixture
):
    async with opened(place, settings(place)) as driver:
        for _ in range(2):
            await driver.prepare(claim(guard=True))
    assert caplog.text.count("guard.unavailable") == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prepare": ()}, "prepare is empty"),
        ({"remote": ("/no/such/program",)}, "remote: there is no program"),
        ({"run": ("",)}, "run is empty"),
        ({"power_off": ("no-such-program",)}, "power_off: there is no program"),
        ({"prepare_seconds": 0}, "prepare_seconds is 0"),
        ({"idle_seconds": -1}, "idle_seconds is -1"),
        ({"inherit": ("MAYFLY_TOKEN",)}, "secret of the executor"),
    ],
)
async def test_settings_that_could_never_work_are_refused(
    tmp_path: Path, changes: dict[str, object], sentence: str
):
    true = ("/bin/true",)
    usual = Settings(prepare=true, remote=true, run=("run",), power_off=true)
    with pytest.raises(InvalidSettings, match=sentence):
        async with open_driver(
            msgspec.structs.replace(usual, **changes), tmp_path, Admission(None)
        ):
            pass


def test_a_line_for_a_shell_is_no_program():
    with contextlib.suppress(KeyError), pytest.raises(msgspec.ValidationError, match="array"):
        msgspec.convert({"prepare": "boot $1"}, Settings)


async def test_a_program_is_run_by_a_keeper_that_waited_for_it(place: Stage):
    async with opened(place, settings(place, "hangs")) as driver:
        assert len(keepers()) == 1, "before anything is to be run"
        await driver.prepare(claim())
        (waiting,) = keepers()
        running = asyncio.create_task(driver.run("r", jit_config()))
        await place.traced("pid")
        record = json.loads((place.home / "0" / "keeper.json").read_bytes())
        assert record["pid"] == waiting
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert keepers() == []
