"""Runners in containers of a real Podman: what a job may do, and what can go wrong."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from mayfly.drivers import container
from mayfly.drivers.container import bodies, engines, images, profiles
from mayfly.drivers.container.images import ImageMissing, Trouble
from mayfly.drivers.container.settings import check
from mayfly.model.errors import InvalidSettings, Permanent, Transient
from mayfly.model.protocol import Finished, Outcome
from mayfly.ports import Driver
from tests.fakes.container_engine import opened_engine
from tests.fakes.driven import SETTINGS, machine
from tests.fakes.runner_programs import (
    Admission,
    Stage,
    claim,
    jit_config,
    processes_with,
    stage,
)
from tests.servers import podman
from tests.servers.lines import opened_line
from tests.servers.registry import opened_registry

PINNED = "registry.example/team/runner:1.2"
DIGEST = "sha256:" + "0" * 64

Open = Callable[..., AbstractAsyncContextManager[Driver]]


@pytest.fixture
def place() -> Iterator[Stage]:
    podman.needed()
    with stage() as made, machine("container", made):
        yield made


@pytest.fixture
def open_driver(place: Stage) -> Open:
    return partial(opened, place)


def opened(place: Stage, script: str, **changes: object) -> AbstractAsyncContextManager[Driver]:
    """A driver whose runner is a line for a shell; $0 is the file with the JIT config."""
    settings = SETTINGS["container"]("", {"TRACES": str(place.traces)}, place)
    changes = {"command": ("/bin/sh", "-c", script, "{jitconfig}"), **changes}
    settings = msgspec.structs.replace(settings, **changes)
    return container.open_driver(settings, place.home, Admission(None))


async def ran(driver: Driver, config: str = "x") -> Finished:
    await driver.prepare(claim())
    return await driver.run("r", config)


async def test_the_config_is_a_file_for_the_runner_alone_that_is_gone_once_it_was_read(
    open_driver: Open, place: Stage
):
    script = (
        'ls -ln "$0" >$TRACES/mode; cat "$0" >$TRACES/passed\n'
        'for n in 1 2 3 4 5 6 7 8 9; do [ -e "$0" ] || break; sleep 0.1; done\n'
        '[ -e "$0" ] && echo it is >$TRACES/lingers; exit 0'
    )
    config = jit_config()
    async with open_driver(script) as driver:
        assert (await ran(driver, config)).outcome is Outcome.DONE
    assert place.trace("mode").startswith("-r--------")
    assert place.trace("passed") == config
    assert not (place.traces / "lingers").exists()


async def test_nobody_who_inspects_a_container_sees_the_config(open_driver: Open, place: Stage):
    config = jit_config()
    async with open_driver("cat $0 >/dev/null; echo $$ >$TRACES/pid; exec sleep 300") as driver:
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", config))
        await place.traced("pid")
        label = f"label=mayfly.slot={bodies.slot(place.home)}"
        (one,) = podman.shared().told("ps", "--quiet", "--filter", label).split()
        told = podman.shared().told("inspect", one)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert '"Cmd"' in told, "it was asked the right question"
    assert config[:40] not in told


async def test_a_job_is_not_root_and_may_do_nothing_a_root_may(open_driver: Open, place: Stage):
    script = (
        "id -u >$TRACES/uid; cat /proc/self/status >$TRACES/status\n"
        "echo x >/usr/bin/x || echo refused >$TRACES/root; ulimit -n >$TRACES/files; exit 0"
    )
    async with open_driver(script) as driver:
        await ran(driver)
    status = dict(line.split(":\t", 1) for line in place.trace("status").splitlines())
    assert place.trace("uid") != "0"
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert (place.trace("root"), place.trace("files")) == ("refused", "16384")


CALLS = """
import ctypes, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
number = dict(unshare=272, ptrace=101, keyctl=250, process_vm_readv=310, io_uring_setup=425,
              bpf=321, perf_event_open=298, userfaultfd=323, setns=308, mount=165, clone3=435)
if os.uname().machine == "aarch64":
    number = dict(unshare=97, ptrace=117, keyctl=219, process_vm_readv=270, io_uring_setup=425,
                  bpf=280, perf_event_open=241, userfaultfd=282, setns=268, mount=40, clone3=435)
room = ctypes.create_string_buffer(256)
def refused(name, *arguments):
    ctypes.set_errno(0)
    done = libc.syscall(number[name], *arguments)
    return done == -1 and ctypes.get_errno() in (1, 38)
child = os.fork()
if child == 0:
    os.execv("/bin/sleep", ["sleep", "20"])
try:
    open_calls = [name for name, arguments in {
        "unshare": (0x10000000,), "ptrace": (16, child, 0, 0), "keyctl": (0, -3, 1),
        "process_vm_readv": (child, room, 0, room, 0, 0), "io_uring_setup": (1, room),
        "bpf": (0, room, 120), "perf_event_open": (room, 0, -1, -1, 0), "userfaultfd": (0,),
        "setns": (0, 0), "mount": (b"x", b"/mnt", b"tmpfs", 0, None), "clone3": (room, 88),
    }.items() if not refused(name, *arguments)]
finally:
    os.kill(child, 9)
for family in (17, 38, 40, 44):  # packet, the kernel's ciphers, the hypervisor, express data path
    try:
        socket.socket(family, socket.SOCK_DGRAM).close()
        open_calls.append(f"socket {family}")
    except OSError as error:
        if error.errno != 38:
            open_calls.append(f"socket {family}: {error}")
sys.stdout.write(" ".join(open_calls) or "none")
"""
USUAL = """
import os, socket, sys, threading
thread = threading.Thread(target=lambda: sys.stdout.write("a thread, "))
thread.start(); thread.join()
sys.stdout.flush()
if os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1] == 0:
    sys.stdout.write("a program, ")
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
    socket.socket(family).close()
sys.stdout.write("sockets")
"""


async def test_the_profile_leaves_what_programs_need_and_nothing_that_leads_elsewhere(
    open_driver: Open, place: Stage
):
    for name, text in (("calls.py", CALLS), ("usual.py", USUAL)):
        (place.programs / name).write_text(text)
    script = "".join(
        f"python3 {place.programs}/{name}.py >$TRACES/{name} 2>&1\n" for name in ("calls", "usual")
    )
    async with open_driver(script) as driver:
        await ran(driver)
    assert place.trace("calls") == "none"
    assert place.trace("usual") == "a thread, a program, sockets"


async def test_a_job_that_uses_up_its_memory_is_ended_and_the_reason_is_told(open_driver: Open):
    script = """exec python3 -c 'b"x" * (300 << 20)'"""
    async with open_driver(script, memory_mb=64) as driver:
        finished = await ran(driver)
    assert (finished.outcome, finished.exit_code) == (Outcome.FAILED, 137)
    assert "memory_mb is used up" in finished.detail


async def test_a_limit_that_is_not_kept_is_refused(open_driver: Open, place: Stage):
    """As a rootless Podman says it with cgroups of version 1."""
    warning = "Resource limits are not supported and ignored on cgroups V1 rootless systems"
    ours = place.home.parent / "engine"
    async with opened_engine(ours, warnings=[warning]) as engine:
        with pytest.raises(InvalidSettings, match="keeps no such limit"):
            async with open_driver("exit 0", engine=ours):
                pass
    assert engine.containers == set(), "what it made is removed"


async def test_what_a_runner_says_is_told_without_its_config(open_driver: Open):
    async with open_driver('cat "$0"; echo; echo ordinary; exit 3') as driver:
        finished = await ran(driver, jit_config())
    assert "ordinary" in finished.detail
    assert jit_config()[:40] not in finished.detail


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network": "none-of-ours"}, "no network of the name"),
        ({"ulimits": {"nofile": 2_000_000}}, "may not set a limit of"),
        ({"capabilities": ("CAP_NONE_SUCH",)}, "names one that there is not"),
    ],
)
async def test_what_the_engine_refuses_is_said_before_there_is_a_job(
    open_driver: Open, place: Stage, changes: dict[str, object], sentence: str
):
    with pytest.raises(InvalidSettings, match=sentence):
        async with open_driver("exit 0", **changes):
            pass
    assert list(place.home.iterdir()) == []


async def test_a_program_that_is_not_in_the_image_fails_the_claim(open_driver: Open):
    async with open_driver("", command=("/bin/none-such", "{jitconfig}")) as driver:
        finished = await ran(driver)
    assert (finished.outcome, finished.exit_code) == (Outcome.FAILED, None)
    assert "the image has no program" in finished.detail


async def test_a_job_goes_on_while_its_engine_is_silent(place: Stage, open_driver: Open):
    ours = place.home.parent / "line"
    async with opened_line(sockets=(ours, podman.shared().socket)) as line:
        script = "echo $$ >$TRACES/pid; until [ -e $TRACES/go ]; do sleep 0.05; done; exit 0"
        async with open_driver(script, engine=ours) as driver:
            await driver.prepare(claim())
            running = asyncio.create_task(driver.run("r", "x"))
            await place.traced("pid")
            await line.cut()
            (place.traces / "go").touch()
            await line.mend()
            async with asyncio.timeout(30):
                assert (await running).outcome is Outcome.DONE


async def test_a_job_that_is_stopped_while_its_engine_is_silent_is_removed_once_it_speaks(
    place: Stage, open_driver: Open
):
    ours = place.home.parent / "line"
    async with (
        opened_line(sockets=(ours, podman.shared().socket)) as line,
        open_driver("echo $$ >$TRACES/pid; exec sleep 300", engine=ours) as driver,
    ):
        await driver.prepare(claim())
        running = asyncio.create_task(driver.run("r", "x"))
        await place.traced("pid")
        await line.cut()
        running.cancel()
        async with asyncio.timeout(60):
            with pytest.raises(asyncio.CancelledError):
                await running
        with pytest.raises(Transient):
            await driver.cleanup()
        await line.mend()
        await driver.cleanup()
        assert processes_with(str(place.traces)) == []
        assert list(place.home.iterdir()) == []


async def test_an_engine_that_stumbles_is_asked_again(tmp_path: Path):
    """A job at work is not given up for one answer of 500."""
    looks = [500, 503, 200]

    async def look(_: web.Request) -> web.Response:
        state = {"State": {"Status": "exited", "ExitCode": 7}}
        status = looks.pop(0)
        return web.json_response(state if status == 200 else {"message": "busy"}, status=status)

    route = web.get("/v1.41/containers/{name}/json", look)
    async with answering(tmp_path / "socket", route) as engine:
        assert (await engine.ended("c1", 0.0)).exit_code == 7


async def test_a_container_that_ends_while_it_is_removed_is_removed(tmp_path: Path):
    """Podman 4.3 refuses when the one it is about to kill has ended."""
    answers = [
        web.json_response({"message": "container state improper: stopped"}, status=500),
        web.Response(status=204),
    ]

    async def killed(_: web.Request) -> web.Response:
        return web.Response(status=204)

    async def removed(_: web.Request) -> web.Response:
        return answers.pop(0)

    routes = (
        web.post("/v1.41/containers/{name}/kill", killed),
        web.delete("/v1.41/containers/{name}", removed),
    )
    async with answering(tmp_path / "socket", *routes) as engine:
        await engine.remove("c1")
    assert answers == []


@asynccontextmanager
async def answering(socket: Path, *routes: web.RouteDef) -> AsyncIterator[engines.Engine]:
    """An engine that answers this and nothing else."""

    async def ping(_: web.Request) -> web.Response:
        return web.Response(headers={"Api-Version": "1.41"})

    application = web.Application()
    application.router.add_routes([web.get("/_ping", ping), *routes])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        async with engines.opened(socket) as engine:
            yield engine
    finally:
        await runner.cleanup()


async def test_an_engine_that_is_away_is_named(place: Stage, open_driver: Open):
    absent = place.home.parent / "absent"
    with pytest.raises(Transient, match=f"engine at {absent} does not answer"):
        async with open_driver("exit 0", engine=absent):
            pass


async def test_an_image_is_fetched_before_there_is_a_job(place: Stage, open_driver: Open):
    async with opened_registry() as registry:
        image = f"127.0.0.1:{registry.port}/team/small:1"
        async with open_driver("exit 0", image=image):
            assert image in podman.shared().told("images", "--format", "{{.Repository}}:{{.Tag}}")
        asked = len(registry.asked)
        assert asked
        async with open_driver("exit 0", image=image, pull=False):
            assert len(registry.asked) == asked, "it was there"
        podman.shared().told("rmi", image)
        with pytest.raises(ImageMissing, match="pull = false"):
            async with open_driver("exit 0", image=image, pull=False):
                pass


async def test_credentials_come_from_a_file(place: Stage, open_driver: Open, tmp_path: Path):
    async with opened_registry(password="me:secret-of-the-registry") as registry:
        image = f"127.0.0.1:{registry.port}/team/private:1"
        for given, trouble in (
            (None, True),
            ("me:wrong", True),
            ("me:secret-of-the-registry", False),
        ):
            file = tmp_path / "credentials"
            file.write_text(f"{given}\n")
            driver = open_driver(
                "exit 0", image=image, registry_credentials_file=file if given else None
            )
            if not trouble:
                async with driver:
                    podman.shared().told("rmi", "--force", image)
                continue
            with pytest.raises(ImageMissing) as refused:
                async with driver:
                    pass
            assert refused.value.trouble is Trouble.CREDENTIALS
            assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("name", ["team/unknown:1", "team/small:2"])
async def test_an_image_nobody_has_is_told_apart(open_driver: Open, name: str):
    async with opened_registry() as registry:
        with pytest.raises(ImageMissing, match="no such image") as refused:
            async with open_driver("exit 0", image=f"127.0.0.1:{registry.port}/{name}"):
                pass
    assert refused.value.trouble is Trouble.UNKNOWN


async def test_a_registry_that_is_away_is_told_apart(open_driver: Open):
    async with opened_registry() as registry:
        port = registry.port
    with pytest.raises(ImageMissing, match="registry does not answer") as refused:
        async with open_driver("exit 0", image=f"127.0.0.1:{port}/team/small:1"):
            pass
    assert refused.value.trouble is Trouble.AWAY


async def test_a_full_disk_is_told_apart(open_driver: Open):
    with podman.shared().little_room():
        async with opened_registry(size=8_000_000) as registry:
            with pytest.raises(ImageMissing, match="disk is full") as refused:
                async with open_driver("exit 0", image=f"127.0.0.1:{registry.port}/team/small:1"):
                    pass
    assert refused.value.trouble is Trouble.SPACE


@pytest.mark.parametrize(
    "image",
    [PINNED, f"registry.example/runner@{DIGEST}", f"localhost:5000/a/b:1@{DIGEST}", "[::1]:5/a:1"],
)
def test_a_pinned_image_is_accepted(image: str):
    check(container.Settings(image=image))


@pytest.mark.parametrize("image", ["registry.example/runner", "registry.example/runner:latest"])
def test_an_image_without_a_version_is_refused_unless_allowed(image: str):
    with pytest.raises(InvalidSettings, match="names no version"):
        check(container.Settings(image=image))
    check(container.Settings(image=image, allow_unpinned=True))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": "runner:1"}, "no whole name"),
        ({"image": "team/runner:1"}, "no whole name"),
        ({"image": "registry.example/Runner:1"}, "no whole name"),
        ({"image": "registry.example/runner@sha256:12"}, "digest"),
        ({"command": ("bin/Runner.Listener", "run")}, "no {jitconfig}"),
        ({"user": "runner"}, "UID:GID"),
        ({"user": "0:0"}, "root"),
        ({"processes": 0}, "positive"),
        ({"in_memory": ("tmp",)}, "no whole path"),
        ({"network": "container:other"}, 'set "bridge"'),
        ({"read_write": (Path("/none-such"),)}, "not on the machine"),
        ({"read_only": (Path("/run"),)}, "the engine's socket"),
        ({"seccomp_file": Path("/none-such")}, "there is no file"),
    ],
)
def test_settings_that_could_not_work_are_refused_with_a_sentence(
    changes: dict[str, object], sentence: str
):
    with pytest.raises(InvalidSettings, match=sentence):
        check(msgspec.structs.replace(container.Settings(image=PINNED), **changes))


def test_a_container_is_never_privileged():
    body = bodies.body(
        container.Settings(image=PINNED, memory_mb=64, cpus=0.5),
        image="sha256:1",
        labels={},
        passing=Path("/passing"),
        config="config",
        guard=None,
        seccomp="profile",
    )
    host = body["HostConfig"]
    assert host["Privileged"] is False
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], [])
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (2**26, 2**26, 500_000_000)
    assert body["Cmd"][-1] == "/run/mayfly/config"


def test_no_call_is_both_allowed_and_refused():
    rules = json.loads(profiles.profile())["syscalls"]
    names = [(name, rule["action"]) for rule in rules for name in rule["names"] if not rule["args"]]
    assert len({name for name, _ in names}) == len(names)


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ("manifest unknown: manifest unknown", Trouble.UNKNOWN),
        ("pull access denied for x, repository does not exist", Trouble.CREDENTIALS),
        ("dial tcp: lookup registry.example: no such host", Trouble.AWAY),
        ("Get https://r/v2/: net/http: TLS handshake timeout", Trouble.AWAY),
        ("write /var/lib/docker/tmp/x: no space left on device", Trouble.SPACE),
        ("something else entirely", Trouble.OTHER),
    ],
)
def test_words_of_engines_that_are_not_here_are_understood_too(said: str, trouble: Trouble):
    """As Docker words them in its own sources and issues; see docker/docker and moby/moby."""
    assert images.missing(PINNED, said).trouble is trouble
    assert isinstance(images.missing(PINNED, said), Permanent)


def test_the_name_of_an_image_says_nothing_of_what_went_wrong():
    image = "registry.example/forbidden/timeout:404"
    assert images.missing(image, f"{image}: manifest unknown").trouble is Trouble.UNKNOWN
