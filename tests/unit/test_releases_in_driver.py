"""Jobs and installed releases: each has its own copy, and what it does to it is gone with it."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mayfly.drivers import container, exitcodes, sandbox, workplaces
from mayfly.drivers.process import Settings, open_driver
from mayfly.model.errors import InvalidSettings
from mayfly.model.protocol import Outcome
from mayfly.releases import cache
from tests.fakes.runner_programs import (
    ALLOWED,
    Admission,
    Stage,
    claim,
    jit_config,
    stage,
    until,
)
from tests.servers.absent import absent

VANDAL = """
cat bin/version >>$TRACES/versions
echo changed >>bin/version; echo changed >bin/Runner.Listener; rm -rf externals; echo new >added
env >$TRACES/env
exit 0"""

INTRUDER = """
at=$RELEASES/2.336.0
ls $at && echo seen >>$TRACES/seen
tried() { name=$1; shift; "$@" && echo $name >>$TRACES/succeeded; }
tried append sh -c "echo x >>$at/bin/version"
tried replace sh -c "echo x >$at/bin/other && mv $at/bin/other $at/bin/Runner.Listener"
tried add touch $at/added
tried remove rm -rf $at/externals
tried rename mv $at $RELEASES/2.999.0
tried mode chmod 777 $at $at/bin/version
tried link ln $at/bin/version $HOME/version
tried lock sh -c "echo x >>$RELEASES/lock"
tried remount mount -o remount,rw $RELEASES
tried own sh -c "echo x >>$HOME/own"
exit 0"""


@pytest.fixture
def place() -> Iterator[Stage]:
    with stage() as made:
        yield made


def releases(place: Stage) -> Path:
    return cache.in_state_dir(place.home.parent.parent)


def installed(place: Stage, version: str, script: str = VANDAL) -> Path:
    """A release, as `mayfly runner install` would leave it."""
    directory = releases(place) / version
    (directory / "bin").mkdir(parents=True)
    (directory / "externals").mkdir()
    (directory / "externals" / "node").write_text("node")
    (directory / "bin" / "version").write_text(f"{version}\n")
    (directory / "bin" / "Runner.Listener").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "bin" / "Runner.Listener").chmod(0o755)
    releases(place).chmod(0o700)
    return directory


def settings(place: Stage, **changes: object) -> Settings:
    usual = Settings(
        release="newest",
        cache=releases(place),
        environment={"TRACES": str(place.traces)},
        grace_seconds=0.5,
    )
    return msgspec.structs.replace(usual, **changes)


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


async def test_what_a_job_does_to_its_copy_reaches_neither_the_cache_nor_the_next_job(
    place: Stage,
):
    directory = installed(place, "2.336.0")
    before = contents(directory)
    async with open_driver(settings(place), place.home, Admission(ALLOWED)) as driver:
        for _ in range(2):
            await driver.prepare(claim())
            finished = await driver.run("r", jit_config())
            await driver.cleanup()
            assert finished.outcome is Outcome.DONE
    assert place.trace("versions") == "2.336.0\n2.336.0"
    assert contents(directory) == before
    assert workplaces.copies(place.home) == workplaces.left(place.home) == []


@pytest.fixture
def bubblewrap() -> None:
    if shutil.which("bwrap") is None:
        absent("bubblewrap is not installed; tests/servers/install does it")


def sandboxed(place: Stage, **changes: object) -> sandbox.Settings:
    usual = sandbox.Settings(
        release="newest",
        cache=releases(place),
        environment={"TRACES": str(place.traces)},
        grace_seconds=0.5,
        network="none",
        processes=None,
        read_write=(place.traces,),
    )
    return msgspec.structs.replace(usual, **changes)


@pytest.mark.root
async def test_a_job_of_the_process_driver_cannot_reach_the_cache(place: Stage):
    if os.geteuid() != 0:
        pytest.skip("needs root, because it runs jobs as another user")
    directory = installed(place, "2.336.0", INTRUDER)
    before = contents(directory)
    variables = {"TRACES": str(place.traces), "RELEASES": str(releases(place))}
    used = settings(place, run_as="nobody", environment=variables)
    async with open_driver(used, place.home, Admission(ALLOWED)) as driver:
        await driver.prepare(claim())
        await driver.run("r", jit_config())
    assert place.trace("succeeded") == "own"  # which shows that it tried
    assert not (place.traces / "seen").exists()
    assert contents(directory) == before
    assert sorted(releases(place).iterdir()) == [directory]


async def test_a_job_of_the_sandbox_driver_cannot_write_a_cache_it_is_shown(
    place: Stage, bubblewrap: None
):
    """Not even one whose owner and modes would let it."""
    directory = installed(place, "2.336.0", INTRUDER)
    for path in [releases(place), *releases(place).rglob("*")]:
        path.chmod(0o777)
    before = contents(directory)
    used = sandboxed(place, read_only=(releases(place),))
    variables = used.environment | {"RELEASES": str(releases(place))}
    used = msgspec.structs.replace(used, environment=variables)
    async with sandbox.open_driver(used, place.home, Admission(ALLOWED)) as driver:
        await driver.prepare(claim())
        await driver.run("r", jit_config())
    assert place.trace("succeeded") == "own"
    assert place.trace("seen") == "seen"
    assert contents(directory) == before
    assert sorted(releases(place).iterdir()) == [directory]


async def test_a_job_in_a_sandbox_has_a_copy_of_its_own_and_cannot_change_it(
    place: Stage, bubblewrap: None
):
    text = (
        "cat bin/version >>$TRACES/versions; ls >>$TRACES/entries\n"
        "echo x >>bin/version || mv bin b || rm -rf externals || exit 0; exit 9"
    )
    directory = installed(place, "2.336.0", text)
    before = contents(directory)
    async with sandbox.open_driver(sandboxed(place), place.home, Admission(None)) as driver:
        await driver.prepare(claim())
        copies = [each for each in workplaces.left(place.home) if (each / "bin").exists()]
        assert [contents(copy) for copy in copies] == [before]
        assert not (copies[0] / "bin" / "version").samefile(directory / "bin" / "version")
        installed(place, "2.337.0", text)  # beside a job that runs
        assert (await driver.run("r", jit_config())).exit_code == 0
        await driver.cleanup()
        assert not copies[0].exists()
        await driver.prepare(claim())
        assert (await driver.run("r", jit_config())).exit_code == 0
    assert place.trace("versions") == "2.336.0\n2.337.0"
    assert place.trace("entries").split() == 2 * ["bin", "externals"]
    assert contents(directory) == before
    assert workplaces.copies(place.home) == workplaces.left(place.home) == []


async def test_no_file_of_a_copy_is_shared_with_the_cache(place: Stage):
    directory = installed(place, "2.336.0")
    async with open_driver(settings(place), place.home, Admission(ALLOWED)) as driver:
        await driver.prepare(claim())
        (copy,) = workplaces.left(place.home)
        for path in directory.rglob("*"):
            assert not path.samefile(copy / path.relative_to(directory))


async def test_a_copy_is_ready_before_there_is_a_claim(place: Stage):
    installed(place, "2.336.0")
    async with open_driver(settings(place), place.home, Admission(ALLOWED)) as driver:
        await until(lambda: _is_whole(workplaces.copies(place.home)))
        (ready,) = workplaces.copies(place.home)
        assert ready.stat().st_mode & 0o777 == 0o700
        assert ready.stat().st_uid == os.geteuid()
        await driver.prepare(claim())
        (used,) = workplaces.left(place.home)
        assert used.name.removeprefix("work-") == ready.name.removeprefix("copy-")


def _is_whole(copies: list[Path]) -> bool:
    return len(copies) == 1 and (copies[0] / "tmp").is_dir()


async def test_the_next_job_has_the_release_that_was_installed_meanwhile(place: Stage):
    installed(place, "2.336.0")
    async with open_driver(settings(place), place.home, Admission(ALLOWED)) as driver:
        await driver.prepare(claim())
        installed(place, "2.337.0")  # beside a job that runs
        assert (workplaces.left(place.home)[0] / "bin" / "version").read_text() == "2.336.0\n"
        await driver.run("r", jit_config())
        await driver.cleanup()
        await until(lambda: _is_whole(workplaces.copies(place.home)))
        installed(place, "2.338.0")  # after the copy was made ready
        await driver.prepare(claim())
        await driver.run("r", jit_config())
    assert place.trace("versions") == "2.336.0\n2.338.0"


async def test_a_named_release_is_used_although_there_are_newer_ones(place: Stage):
    installed(place, "2.336.0")
    installed(place, "2.337.0")
    pinned = settings(place, release="2.336.0")
    async with open_driver(pinned, place.home, Admission(ALLOWED)) as driver:
        await driver.prepare(claim())
        await driver.run("r", jit_config())
    assert place.trace("versions") == "2.336.0"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "run `mayfly runner install`"),
        ({"template": Path("/")}, "template and release are both given"),
        ({"cache": None}, "release is given without a cache"),
    ],
)
async def test_a_release_that_cannot_be_used_is_refused_at_the_start(
    place: Stage, changes: dict[str, object], sentence: str
):
    with pytest.raises(InvalidSettings, match=sentence):
        async with open_driver(settings(place, **changes), place.home, Admission(None)):
            pass
    with pytest.raises(InvalidSettings, match=sentence):
        async with sandbox.open_driver(sandboxed(place, **changes), place.home, Admission(None)):
            pass


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from mayfly.drivers.process import Settings, open_driver

async def main():
    home, cache = map(Path, sys.argv[1:])
    settings = Settings(release="newest", cache=cache)
    async with open_driver(settings, home, None) as driver:
        while not list(home.glob("copy-*/tmp")):
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_the_copy_of_a_killed_executor_is_removed_by_the_next(place: Stage):
    installed(place, "2.336.0")
    command = [sys.executable, "-c", _KILLED, str(place.home), str(releases(place))]
    async with asyncio.timeout(60):
        killed = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
        assert await killed.wait() == -signal.SIGKILL
    (left,) = workplaces.copies(place.home)
    async with open_driver(settings(place), place.home, Admission(ALLOWED)) as driver:
        await driver.cleanup()
        assert not left.exists()


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7])
async def test_an_exit_code_of_githubs_runner_is_a_sentence(place: Stage, code: int):
    installed(place, "2.336.0", f"exit {code}")
    async with open_driver(settings(place), place.home, Admission(ALLOWED)) as driver:
        await driver.prepare(claim())
        finished = await driver.run("r", jit_config())
    meaning = exitcodes.sentence(("bin/Runner.Listener", "run"), code)
    assert meaning
    assert finished.outcome is Outcome.FAILED
    assert f"ended with exit code {code} ({meaning})" in finished.detail


def test_the_exit_codes_of_another_program_are_its_own():
    assert exitcodes.sentence(("/opt/other-runner",), 7) is None
    assert exitcodes.sentence(("bin/Runner.Listener",), 100) is None


async def test_githubs_runner_tells_a_refused_version_apart(place: Stage):
    installed(place, "2.336.0")
    async with open_driver(settings(place), place.home, Admission(ALLOWED)) as driver:
        await driver.prepare(claim())
        await driver.run("r", jit_config())
    assert "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1" in place.trace("env")


@pytest.mark.root
async def test_a_copy_belongs_to_the_jobs_user_with_all_that_is_in_it(place: Stage):
    if os.geteuid() != 0:
        pytest.skip("needs root, because it runs jobs as another user")
    installed(place, "2.336.0")
    nobody = pwd.getpwnam("nobody").pw_uid
    async with open_driver(
        settings(place, run_as="nobody"), place.home, Admission(ALLOWED)
    ) as driver:
        await driver.prepare(claim())
        (copy,) = workplaces.left(place.home)
        assert {path.lstat().st_uid for path in [copy, *copy.rglob("*")]} == {nobody}


def test_a_shell_that_becomes_githubs_runner_ends_as_it_does():
    assert exitcodes.sentence(container.Settings(image="ghcr.io/a/b:1").command, 7)
