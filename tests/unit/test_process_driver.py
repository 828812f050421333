"""The process driver beyond the contract: the user, the environment, the JIT config, the keeper."""

import asyncio
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mayfly.drivers import guard, jitconfig, keeper, workplaces
from mayfly.drivers.accounts import Account, check_reachable, chosen
from mayfly.drivers.jitconfig import JitDelivery
from mayfly.drivers.kept import Order, Record
from mayfly.drivers.process import Settings, driver_of, open_driver
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.protocol import Outcome
from tests.fakes.runner_programs import (
    ALLOWED,
    FILES,
    KEY,
    SCRIPTS,
    Admission,
    Stage,
    alive,
    claim,
    jit_config,
    stage,
    until,
)

KEEPER = Path(keeper.__file__).read_bytes()
OWN = Account(pwd.getpwuid(os.getuid()).pw_name, os.getuid(), os.getgid(), (), other=False)


@pytest.fixture(autouse=True)
def root_only(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root, because it runs jobs as another user")


@pytest.fixture
def place() -> Iterator[Stage]:
    with stage() as made:
        yield made


def settings(place: Stage, script: str, *arguments: str, **changes: object) -> Settings:
    usual = Settings(
        command=(place.program(script), *arguments),
        environment={"TRACES": str(place.traces), "THEN": "exit 0"},
        grace_seconds=0.5,
    )
    return msgspec.structs.replace(usual, **changes)


async def once(settings: Settings, place: Stage, config: str | None = None):
    async with open_driver(settings, place.home, Admission(ALLOWED)) as driver:
        await driver.prepare(claim())
        return await driver.run("r", config or jit_config())


async def test_the_environment_is_the_drivers_own(place: Stage):
    os.environ["MAYFLY_TOKEN"] = "planted"
    try:
        await once(settings(place, "probes"), place)
    finally:
        del os.environ["MAYFLY_TOKEN"]
    seen = dict(each.split("=", 1) for each in place.trace("env").splitlines())
    work = place.trace("pwd")
    assert seen["HOME"] == work
    assert seen["TMPDIR"] == f"{work}/tmp"
    assert set(seen) - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        *("HOME", "LANG", "PATH", "TMPDIR", "USER", "TRACES", "THEN", guard.VARIABLE),
    }


async def test_a_hook_of_the_operators_own_gives_way_to_a_guard_alone(place: Stage):
    wanted = settings(place, "probes")
    own = msgspec.structs.replace(
        wanted, environment=wanted.environment | {guard.VARIABLE: "/opt/own-hook"}
    )
    await once(own, place)
    assert f"{guard.VARIABLE}=/opt/own-hook" in place.trace("env").splitlines()
    async with open_driver(own, place.home, Admission(ALLOWED)) as driver:
        await driver.prepare(claim(guard=True))
        await driver.run("r", jit_config())
    assert "/opt/own-hook" not in place.trace("env")


async def test_the_runner_inherits_no_descriptor(place: Stage):
    await once(settings(place, "probes"), place)
    descriptors = [each.split()[-3] for each in place.trace("fds").splitlines() if "->" in each]
    assert set(descriptors) == {"0", "1", "2", "3"}, "3 is the directory that ls reads"


async def test_the_runner_is_deaf_to_no_signal(place: Stage):
    await once(settings(place, "probes"), place)
    status = dict(each.split(":\t", 1) for each in place.trace("status").splitlines())
    usual = (1 << 31) - 1  # signals 1 to 31; those above may be inherited from any shell
    assert int(status["SigIgn"], 16) & usual == 0
    assert int(status["SigBlk"], 16) & usual == 0
    assert status["NoNewPrivs"] == "0"


async def test_new_privileges_can_be_denied(place: Stage):
    await once(settings(place, "probes", no_new_privileges=True), place)
    assert "NoNewPrivs:\t1" in place.trace("status")


@pytest.mark.root
async def test_root_runs_jobs_as_another_user(place: Stage):
    await once(settings(place, "probes", run_as="nobody"), place)
    nobody = pwd.getpwnam("nobody")
    assert place.trace("uid") == str(nobody.pw_uid)
    assert place.trace("gids") == str(nobody.pw_gid)
    assert "drwx------" in place.trace("ls").splitlines()[1]


@pytest.mark.root
@pytest.mark.parametrize("name", ["root", "no-such-user", "no-such-user-{slot}", "no\0body"])
def test_an_unusable_user_is_refused(name: str):
    with pytest.raises(InvalidSettings, match="run_as"):
        chosen(name, "0")


@pytest.mark.root
async def test_an_executor_warns_when_its_slot_shares_its_user(
    place: Stage, caplog: pytest.LogCaptureFixture
):
    async with open_driver(settings(place, "ends", run_as="nobody"), place.home, Admission(None)):
        pass
    (warning,) = [each for each in caplog.messages if "runner.shares_user" in each]
    assert "user=nobody" in warning
    assert "mayfly-runner-0" in warning


@pytest.mark.root
async def test_a_user_of_its_own_is_no_reason_to_warn(
    place: Stage, caplog: pytest.LogCaptureFixture
):
    home = place.home.parent / "body"
    home.mkdir()
    async with open_driver(settings(place, "ends", run_as="no{slot}"), home, Admission(None)):
        pass
    assert "runner.shares_user" not in caplog.text


@pytest.mark.root
def test_a_directory_closed_to_the_runners_user_is_named(tmp_path: Path):
    tmp_path.chmod(0o700)
    with pytest.raises(Permanent, match=f"'nobody' cannot enter {tmp_path}, a parent"):
        check_reachable(tmp_path / "work", chosen("nobody", "0"))


@pytest.mark.root
async def test_no_claim_is_prepared_where_its_user_cannot_go(place: Stage):
    place.home.parent.chmod(0o700)
    with pytest.raises(Permanent, match="cannot enter"):
        await once(settings(place, "ends"), place)
    assert list(place.home.iterdir()) == []


async def test_our_own_user_works_too(place: Stage):
    driver = driver_of(settings(place, "litters"), place.home, OWN, Admission(None))
    await driver.prepare(claim())
    assert (await driver.run("r", jit_config())).outcome is Outcome.DONE
    await driver.close()
    assert list(place.home.iterdir()) == []


async def test_files_are_written_as_the_runner_would(place: Stage):
    await once(settings(place, "probes"), place)
    assert KEY in place.trace("files")
    listed = [each for each in place.trace("ls").splitlines() if ".credentials_rsaparams" in each]
    assert listed[0].startswith("-rw------- 1 ")
    assert place.trace("stdin") == ""


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "run.sh", ".runner/x", ""])
async def test_a_config_that_names_another_file_is_refused(place: Stage, name: str):
    with pytest.raises(Permanent, match="that no runner has") as raised:
        await once(settings(place, "probes"), place, jit_config({name: "x"}))
    assert jit_config({name: "x"}) not in str(raised.value)


@pytest.mark.parametrize("config", ["", "not base64!", "e30", "W10=", "A" * 70_000])
async def test_a_config_that_is_none_is_refused_without_quoting_it(place: Stage, config: str):
    driver = driver_of(settings(place, "probes"), place.home, OWN, Admission(None))
    await driver.prepare(claim())
    with pytest.raises(Permanent, match="the JIT config") as raised:
        await driver.run("r", config)
    await driver.close()
    assert config == "" or config not in str(raised.value)


async def test_the_config_can_come_by_stdin(place: Stage):
    await once(settings(place, "probes", jit=JitDelivery.STDIN), place)
    assert place.trace("stdin") == jit_config()


async def test_the_config_can_come_by_environment(place: Stage):
    await once(settings(place, "probes", jit=JitDelivery.ENVIRONMENT), place)
    assert f"ACTIONS_RUNNER_INPUT_JITCONFIG={jit_config()}" in place.trace("env")


async def test_a_config_file_is_gone_once_it_was_opened(place: Stage):
    opened = settings(place, "hangs", "{jitconfig}", jit=JitDelivery.FILE)
    async with open_driver(opened, place.home, Admission(None)) as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        await place.traced("pid")
        (file,) = place.home.glob("work-*/.jitconfig")
        assert file.stat().st_mode & 0o777 == 0o400
        assert file.read_text() == jit_config()
        await until(lambda: not file.exists(), seconds=5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_config_file_is_read_by_the_runner(place: Stage):
    await once(settings(place, "probes", "{jitconfig}", jit=JitDelivery.FILE), place)
    assert place.trace("passed") == jit_config()


@pytest.mark.parametrize("jit", [JitDelivery.FILES, JitDelivery.STDIN])
async def test_what_a_failing_runner_tells_is_told_without_the_config(place: Stage, jit):
    finished = await once(settings(place, "tells", jit=jit), place)
    assert finished.outcome is Outcome.FAILED
    assert "ordinary" in finished.detail
    assert "PRIVATE-KEY" not in finished.detail
    assert jit_config()[:40] not in finished.detail


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("/no/such/runner",), "cannot run '/no/such/runner' in .*: No such file"),
        (("no-such-program",), "No such file"),
    ],
)
async def test_a_program_that_cannot_run_is_one_sentence(place: Stage, command, sentence):
    finished = await once(settings(place, "ends", command=command), place)
    assert finished.outcome is Outcome.FAILED
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(finished.detail)


async def test_a_program_that_may_not_be_executed_is_one_sentence(place: Stage):
    plain = settings(place, "ends", command=(place.program("hangs", mode=0o644),))
    assert "Permission denied" in (await once(plain, place)).detail


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"command": ()}, "empty"),
        ({"command": ("runner", "")}, "empty"),
        ({"command": Settings().command}, 'release = "newest".* a template, or the whole path'),
        ({"command": ("runner", "{jitconfig}")}, "jitconfig"),
        ({"command": ("runner",), "jit": JitDelivery.FILE}, "jitconfig"),
        ({"template": Path("/nowhere")}, "/nowhere is not a directory"),
        ({"grace_seconds": 0.0}, "grace_seconds"),
    ],
)
async def test_unusable_settings_are_refused_at_once(place: Stage, changes, sentence):
    with pytest.raises(InvalidSettings, match=sentence):
        async with open_driver(settings(place, "ends", **changes), place.home, Admission(None)):
            pass


async def test_a_template_is_copied_and_stays_as_it_was(place: Stage, tmp_path: Path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "listener"
    program.write_text("#!/bin/sh\npwd >$TRACES/pwd; echo changed >bin/listener; exit 0\n")
    program.chmod(0o755)
    copied = settings(place, "ends", template=tmp_path, command=("bin/listener",))
    assert (await once(copied, place)).outcome is Outcome.DONE
    assert "changed" not in program.read_text().splitlines()
    assert place.trace("pwd").startswith(str(place.home))


async def test_a_configured_template_is_named(place: Stage, tmp_path: Path):
    (tmp_path / ".runner").write_text("{}")
    with pytest.raises(Permanent, match="never configured"):
        await once(settings(place, "ends", template=tmp_path), place)


async def test_a_polite_runner_is_asked_before_it_is_killed(place: Stage):
    polite = settings(place, "polite", grace_seconds=20.0)
    async with open_driver(polite, place.home, Admission(None)) as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", jit_config()))
        await place.traced("pid")
        running.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(running, return_exceptions=True)
    assert place.trace("bye") == "bye"


ROOT = Path(__file__).parents[2]
EXECUTOR = """
import asyncio, os, sys
from pathlib import Path
from mayfly.drivers.process import Settings, open_driver
from tests.fakes.runner_programs import Admission, claim, jit_config
async def main(home, traces, program):
    environment = {"TRACES": traces, "THEN": "exec sleep 300"}
    settings = Settings(command=(program,), environment=environment, grace_seconds=0.5)
    async with open_driver(settings, Path(home), Admission(None)) as driver:
        await driver.prepare(claim())
        await driver.run("r", jit_config())
asyncio.run(main(*sys.argv[1:]))
"""


def executor(place: Stage, script: str, groups: list[int] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", EXECUTOR, place.home, place.traces, place.program(script)],
        env={"PYTHONPATH": f"{ROOT}:{ROOT}/src", "PATH": "/usr/bin:/bin"},
        extra_groups=groups,
    )


@pytest.mark.root
async def test_the_executors_groups_are_not_the_jobs(place: Stage):
    with executor(place, "probes", groups=[4, 12345]) as ended:
        assert ended.wait(20) == 0
    assert place.trace("gids") == str(pwd.getpwnam("nobody").pw_gid)


async def test_nothing_outlives_a_killed_executor(place: Stage):
    with executor(place, "daemons") as killed:
        pids = [int(await place.traced(f"daemon.{number}")) for number in (1, 2, 3)]
        record = msgspec.json.decode((place.home / "keeper.json").read_bytes(), type=Record)
        assert alive(record.pid)
        killed.kill()
    await until(lambda: not any(map(alive, [*pids, record.pid])))
    assert list(place.home.glob("work-*")), "what it worked in is left to its successor"
    driver = driver_of(settings(place, "ends"), place.home, OWN, Admission(None))
    await driver.close()
    assert list(place.home.iterdir()) == []


async def test_a_successor_waits_for_the_keeper_it_finds(place: Stage):
    with executor(place, "hides") as killed:
        pid = int(await place.traced("pid"))
        killed.kill()
    async with open_driver(settings(place, "ends"), place.home, Admission(None)) as driver:
        await driver.cleanup()
        assert not alive(pid)
        assert list(place.home.iterdir()) == []


@pytest.mark.parametrize("orphaned", [False, True], ids=["executor lives", "executor died too"])
async def test_what_a_killed_keeper_left_is_found(place: Stage, orphaned: bool):
    with executor(place, "hangs") as other:
        pid = int(await place.traced("pid"))
        record = msgspec.json.decode((place.home / "keeper.json").read_bytes(), type=Record)
        if orphaned:
            os.kill(other.pid, signal.SIGSTOP)
        os.kill(record.pid, signal.SIGKILL)
        await until(lambda: not alive(record.pid))
        if orphaned:
            assert alive(pid)
            other.kill()
            account = chosen(None, "0")
            await driver_of(settings(place, "ends"), place.home, account, Admission(None)).close()
        await until(lambda: not alive(pid))
    assert list(place.home.iterdir()) == []


async def test_a_keeper_that_died_while_it_waited_is_replaced(place: Stage):
    driver = driver_of(settings(place, "ends"), place.home, OWN, Admission(None))
    spare = await driver.stand_by()
    os.kill(spare.pid, signal.SIGKILL)
    await until(lambda: not spare.waiting)
    await driver.prepare(claim())
    assert (await driver.run("r", jit_config())).outcome is Outcome.DONE
    await driver.close()


@pytest.mark.root
async def test_a_job_cannot_kill_its_keeper_nor_write_to_its_guard(place: Stage):
    async with open_driver(settings(place, "hangs"), place.home, Admission(None)) as driver:
        await driver.prepare(claim(guard=True))
        record = msgspec.json.decode((place.home / "keeper.json").read_bytes(), type=Record)
        (hook,) = place.home.glob("guard-*/job-started.sh")
        attempt = (
            f"kill -9 {record.pid}; echo >{hook}; mv {hook.parent} {place.home}/x; rm -f {hook}; "
            f"ls {place.home}; cat /proc/{record.pid}/environ; echo allowed >{hook.parent}/answer"
        )
        nobody = pwd.getpwnam("nobody").pw_uid
        tried = subprocess.run(  # noqa: ASYNC221 - short, and nothing else runs in this test
            ["/bin/sh", "-c", attempt],
            check=False,
            user=nobody,
            group=nobody,
            capture_output=True,
            text=True,
        )
        assert tried.stdout == ""
        assert tried.stderr.lower().count("permi") == 7, tried.stderr
        assert alive(record.pid)
        assert os.access(hook, os.R_OK)


@pytest.mark.root
async def test_a_keeper_of_an_unprivileged_user_is_closed_to_its_jobs(place: Stage):
    own = place.programs / "keeper.py"
    own.write_bytes(KEEPER)
    nobody = pwd.getpwnam("nobody").pw_uid
    with subprocess.Popen(  # noqa: ASYNC220 - it answers over its pipes while the loop runs
        ["/usr/bin/python3", "-I", "-S", own],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        user=nobody,
        group=nobody,
        extra_groups=[],
        env={"PLANTED": "x"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        order = Order(
            command=("/bin/sh", "-c", f"cat /proc/{process.pid}/environ; {SCRIPTS['daemons']}"),
            environment={"TRACES": str(place.traces), "THEN": "exec sleep 300"},
            directory="/tmp",
            user=None,
            input=None,
            no_new_privileges=False,
            grace_seconds=0.2,
        )
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        process.stdin.flush()
        daemons = [int(await place.traced(f"daemon.{number}")) for number in (1, 2, 3)]
        process.stdin.close()
        reports = process.stdout.read().splitlines()
        assert process.stderr is not None
        output = process.stderr.read()
    assert b"Permission denied" in output
    assert b"PLANTED" not in output
    assert msgspec.json.decode(reports[-1])["left"] == 0
    assert not any(map(alive, daemons))


def test_a_question_is_what_it_must_be():
    assert guard.question_in(b"octo/demo.js 77 2") == ("octo/demo.js", 77, 2)
    for line in (b"", b"octo 1 2", b"a/b 1", b"a/b/c 1 2", b"a/b 1 2 3", b"a/b -1 2", b"a/b x 2"):
        assert guard.question_in(line) is None
    assert guard.question_in("octo/démo 1 2".encode()) is None
    assert guard.question_in(b"a/b " + b"9" * 40 + b" 1") is None


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("plain", "plain"),
        ("a\n::stop-commands::x", "a : stop-commands: x"),
        ("##[command]ls", "# [command]ls"),
        ("allowed", "it was not admitted"),
        ("é" * 3, ""),
        ("x" * 999, "x" * 300),
    ],
)
def test_a_reason_is_harmless_in_a_jobs_log(reason: str, shown: str):
    assert guard.harmless(reason) == shown


def test_the_files_of_a_config_are_known():
    assert jitconfig.unpacked(jit_config()) == {k: v.encode() for k, v in FILES.items()}


def test_a_signal_never_reaches_a_process_that_took_over_an_id():
    with subprocess.Popen(["/bin/sleep", "300"]) as sleeper:
        started = keeper.started_at(sleeper.pid)
        assert started is not None
        keeper.send(sleeper.pid, started + 1, signal.SIGKILL)
        keeper.send(sleeper.pid, started, signal.SIGTERM)
        assert sleeper.wait(20) == -signal.SIGTERM


async def test_a_directory_that_resists_is_named(place: Stage):
    with pytest.raises(Permanent, match="/proc/self/task"):
        await workplaces.remove(Path("/proc/self/task"))
