"""What every launcher is opened with, and what a platform's headers say."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mayfly.launchers import process
from mayfly.launchers.answers import retry_at
from mayfly.model.errors import InvalidSettings, Transient
from mayfly.model.launches import Launch, LaunchId, LaunchState, Ticket
from mayfly.ports import Launcher
from tests.fakes.clocks import NOON, ManualClock

LAUNCH = Launch(id=LaunchId(f"01kbq{1:021d}"), pool="linux", wanted_at=NOON)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("17", 17),
        ("Sun, 22 Nov 2026 12:01:00 GMT", 60),
        ("999999999", 3600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
    ],
)
def test_a_platform_is_left_alone_for_so_long(said: str, seconds: int):
    assert retry_at({"retry-after": said}, ManualClock()) == NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "said", ["", "soon", "-1", "1.5", "9" * 10, f"Mon, 01 Jan {9**11} 00:00:00 GMT"]
)
def test_a_time_that_is_none_is_nobodys(said: str):
    assert retry_at({"retry-after": said}, ManualClock()) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": ("/no/such/program",)}, "there is no program '/no/such/program'"),
        ({"command": ("true",), "grace_seconds": 0.0}, "grace_seconds is 0"),
        ({"command": ("true",), "environment": {"MAYFLY_URL": "x"}}, "sets MAYFLY_URL, which"),
        ({"command": ("true",), "environment": {"A=B": "x"}}, "sets 'A=B', which is no name"),
    ],
)
async def test_processes_that_can_never_run_are_refused_at_the_start(
    tmp_path: Path, changes: dict[str, Any], said: str
):
    settings: dict[str, Any] = {"config": tmp_path / "none", "state_dir": tmp_path, **changes}
    with pytest.raises(InvalidSettings, match=said):
        async with process.open_launcher(
            process.Settings(**settings), server="https://h", pools=["linux"], clock=ManualClock()
        ):
            pass


def killed(place: Path) -> None:
    for group in place.glob("launches/*/*/group"):
        os.killpg(int(group.read_text()), signal.SIGKILL)


@asynccontextmanager
async def sleeping(place: Path) -> AsyncIterator[Launcher]:
    """A launcher of processes that do nothing for a while."""
    settings = process.Settings(config=place, state_dir=place, command=("sleep", "60"))
    async with process.open_launcher(
        settings, server="https://h", pools=["linux"], clock=ManualClock()
    ) as launcher:
        yield launcher
    killed(place)


async def test_a_file_among_the_launches_hides_none_of_them(tmp_path: Path):
    async with sleeping(tmp_path) as launcher:
        await launcher.start(LAUNCH, Ticket("mft_of-the-tests"))
        (tmp_path / "launches" / "pool-linux" / "notes").write_text("of an operator")
        (one,) = await launcher.launched("linux")
        assert (one.id, one.state) == (LAUNCH.id, LaunchState.RUNNING)


async def test_nothing_begins_that_could_not_be_ended_again(tmp_path: Path):
    (tmp_path / "launches" / "pool-linux" / LAUNCH.id / "group.new").mkdir(parents=True)
    async with sleeping(tmp_path) as launcher:
        with pytest.raises(Transient, match="/bin/sh ended with 1"):
            await launcher.start(LAUNCH, Ticket("mft_of-the-tests"))
        assert await launcher.launched("linux") == []
