"""deploy/systemd: units that systemd takes without a word, and that start what there is."""

import shlex
import subprocess
from configparser import RawConfigParser
from pathlib import Path
from shutil import copytree, which
from typing import Any

import pytest
import typer

from mayfly.cli.failures import INVALID
from mayfly.cli.main import app
from mayfly.executor.loop import TOLD
from tests.servers.absent import absent

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
INSTANCES = ("mayfly-executor@1.service", "mayfly-executor@board-3.service", "mayfly.service")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with systemd's own units, ours, and a program where ours expect it."""
    if which("systemd-analyze") is None:
        absent("there is no systemd-analyze (Debian's package systemd)")
    copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    copytree(UNITS, tmp_path / "etc/systemd/system")
    program = tmp_path / "opt/mayfly/bin/mayfly"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


def verified(root: Path, unit: str) -> tuple[int, str]:
    """The exit code of systemd-analyze, and all that it complains about."""
    command = ["systemd-analyze", f"--root={root}", "verify", unit]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize("unit", INSTANCES)
def test_systemd_has_nothing_to_say_about_a_unit(root: Path, unit: str):
    assert verified(root, unit) == (0, "")


def test_systemd_would_say_what_is_wrong(root: Path):
    unit = root / "etc/systemd/system/mayfly-executor@.service"
    unit.write_text(unit.read_text().replace("KillMode", "KillWay"))
    assert "Unknown key 'KillWay'" in verified(root, INSTANCES[0])[1]


def settings(unit: str) -> RawConfigParser:
    parser = RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # the documented way
    parser.read(UNITS / unit)
    return parser


def test_an_executor_that_was_told_to_end_stays_ended_and_any_other_comes_back():
    service = settings("mayfly-executor@.service")["Service"]
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"].split() == [str(TOLD), str(INVALID)]
    assert service["SuccessExitStatus"] == str(TOLD)
    assert service["KillMode"] == "mixed", "or its runner would be stopped with it"


@pytest.mark.parametrize("unit", ["mayfly-executor@.service", "mayfly.service"])
def test_a_unit_starts_a_command_there_is(unit: str):
    program, command, *arguments = shlex.split(settings(unit)["Service"]["ExecStart"])
    commands: Any = typer.main.get_command(app)
    options = {option for one in commands.commands[command].params for option in one.opts}
    assert program == "/opt/mayfly/bin/mayfly"
    assert {word for word in arguments if word.startswith("-")} <= options
