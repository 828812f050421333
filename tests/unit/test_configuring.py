"""The configure program of token mode: how it gets its token, and that nothing else does."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from mayfly.drivers import command
from mayfly.drivers.configuring import Settings, TokenDelivery
from mayfly.model.errors import InvalidSettings, Permanent
from mayfly.model.protocol import Entrusted
from mayfly.ports import TokenDriver
from tests.fakes.runner_programs import Admission, Stage, claim, processes_with, stage, until

TOKEN = "PLANTED-REGISTRATION-TOKEN-29"
ORDER = Entrusted(
    name="mayfly-c1-1",
    generation=1,
    labels=("self-hosted", "linux"),
    url="https://github.com/octo/demo",
    token=TOKEN,
)
TRUE = ("/bin/true",)
LOOKS = """
cat /proc/$$/environ | tr '\\0' '\\n' >{traces}/env; pwd >{traces}/pwd; id -u >{traces}/uid
tr '\\0' '\\n' </proc/$$/cmdline >{traces}/cmdline; ls -ld . >{traces}/ls
grep NoNewPrivs /proc/self/status >{traces}/status
"""


@pytest.fixture
def place() -> Iterator[Stage]:
    with stage() as made:
        yield made


def settings(script: str, *words: str, **changes: object) -> Settings:
    usual = Settings(command=("/bin/sh", "-c", script, "sh", *words), files=("settings.json",))
    return msgspec.structs.replace(usual, **changes)


@asynccontextmanager
async def opened(place: Stage, configure: Settings) -> AsyncIterator[TokenDriver]:
    """A board whose every program does nothing."""
    wanted = command.Settings(
        prepare=TRUE, remote=TRUE, run=TRUE, power_off=TRUE, grace_seconds=0.5, configure=configure
    )
    async with command.open_driver(wanted, place.home, Admission(None)) as driver:
        assert isinstance(driver, TokenDriver)
        await driver.prepare(claim())
        yield driver
        assert driver.token_spent


def unpacked(config: str) -> dict[str, str]:
    packed = json.loads(base64.b64decode(config, validate=True))
    return {name: base64.b64decode(text).decode() for name, text in packed.items()}


def left(place: Stage) -> list[str]:
    return [path.name for path in place.home.iterdir() if path.name != "board-on"]


@pytest.mark.parametrize(
    ("token", "reads", "words"),
    [
        (TokenDelivery.STDIN, "read -r token", ()),
        (TokenDelivery.FILE, 'ls -l "$1" >{traces}/mode; token=$(cat "$1")', ("{token_file}",)),
        (TokenDelivery.ENVIRONMENT, "token=$ACTIONS_RUNNER_INPUT_TOKEN", ()),
    ],
)
async def test_the_token_comes_as_it_was_asked_for_and_by_no_argument(
    place: Stage, token: TokenDelivery, reads: str, words: tuple[str, ...]
):
    script = f'{reads}; echo "{{{{\\"t\\":\\"$token\\"}}}}" >settings.json; {LOOKS}'
    wanted = settings(script.format(traces=place.traces), *words, token=token)
    async with opened(place, wanted) as driver:
        config = await driver.configure(ORDER)
        assert unpacked(config) == {"settings.json": f'{{"t":"{TOKEN}"}}\n'}
        assert left(place) == []
    assert TOKEN not in place.trace("cmdline")
    assert (TOKEN in place.trace("env")) == (token is TokenDelivery.ENVIRONMENT)
    if token is TokenDelivery.FILE:
        assert place.trace("mode").startswith("-r--------")


async def test_it_runs_unprivileged_in_a_directory_of_its_own(place: Stage):
    script = LOOKS.format(traces=place.traces) + "echo x >settings.json; echo y >other"
    async with opened(place, settings(script)) as driver:
        assert set(unpacked(await driver.configure(ORDER))) == {"settings.json"}, (
            "only what is named"
        )
    assert Path(place.trace("pwd")).parent == place.home
    assert place.trace("ls").startswith("drwx------")
    assert place.trace("status").endswith("1")
    if os.geteuid() == 0:
        assert place.trace("uid") != "0"
    variables = dict(line.split("=", 1) for line in place.trace("env").splitlines())
    assert set(variables) <= {
        "PATH",
        "HOME",
        "LANG",
        "MAYFLY_SLOT",
        "TMPDIR",
        "PWD",
        "MORELLO_HOSTNAME",
    }
    assert variables["HOME"] == place.trace("pwd")


async def test_names_and_labels_are_one_word_each_whatever_is_in_them(place: Stage):
    script = f'printf "%s\\n" "$@" >{place.traces}/words; echo x >settings.json'
    wanted = settings(script, "--name", "{name}", "--labels={labels}", "{url}")
    odd = msgspec.structs.replace(ORDER, labels=("$(touch x)", "a b", "{url}", "-rf"))
    async with opened(place, wanted) as driver:
        await driver.configure(odd)
    assert place.trace("words").splitlines() == [
        "--name",
        "mayfly-c1-1",
        "--labels=$(touch x),a b,{url},-rf",
        "https://github.com/octo/demo",
    ]


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo no such host >&2; exit 4", r"exit code 4; it said: no such host"),
        ("exit 0", "left no file settings.json"),
        (": >settings.json", "left 0 bytes in settings.json"),
        ("head -c 40000 /dev/zero >settings.json", "left 40000 bytes"),
        ("ln -s /etc/passwd settings.json", "left no file settings.json"),
        ("mkfifo settings.json", "left no file settings.json"),
        ("mkdir settings.json", "left no file settings.json"),
        ("ln /etc/hostname settings.json || exit 0", "left no file settings.json"),
        ("exec /no/such/program", "exit code 127"),
    ],
)
async def test_a_program_that_leaves_no_settings_fails_with_a_sentence(
    place: Stage, script: str, sentence: str
):
    async with opened(place, settings(script)) as driver:
        with pytest.raises(Permanent, match=sentence):
            await driver.configure(ORDER)
        assert left(place) == []


async def test_what_it_says_is_told_without_the_token(place: Stage):
    script = 'read -r t; echo "using $t"; echo "cut ${t%??}" >&2; echo ordinary; exit 3'
    async with opened(place, settings(script)) as driver:
        with pytest.raises(Permanent) as caught:
            await driver.configure(ORDER)
    assert "ordinary" in str(caught.value)
    assert TOKEN[:24] not in str(caught.value)


async def test_a_short_token_is_not_told_either(place: Stage):
    short = msgspec.structs.replace(ORDER, token="SHORT-TOKEN")
    async with opened(place, settings('read -r t; echo "using $t"; exit 3')) as driver:
        with pytest.raises(Permanent) as caught:
            await driver.configure(short)
    assert "SHORT-TOKEN" not in str(caught.value)


async def test_one_that_takes_too_long_is_ended_with_all_it_started(place: Stage):
    script = f"read -r t; echo $t; echo $$ >{place.traces}/pid; setsid sleep 300 & exec sleep 300"
    async with opened(place, settings(script, seconds=0.5)) as driver:
        with pytest.raises(Permanent, match=r"longer than 0.5 s") as caught:
            await driver.configure(ORDER)
        assert TOKEN not in str(caught.value)
        assert processes_with(str(place.traces)) == []
        assert left(place) == []


async def test_one_that_is_cancelled_leaves_nothing(place: Stage):
    script = f"echo $$ >{place.traces}/pid; exec sleep 300"
    async with opened(place, settings(script)) as driver:
        running = asyncio.create_task(driver.configure(ORDER))
        await place.traced("pid")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await driver.cleanup()
        assert left(place) == []


async def test_a_directory_of_a_crashed_predecessor_is_removed(place: Stage):
    (place.home / "work-left").mkdir()
    async with opened(place, settings("exit 1")) as driver:
        await driver.cleanup()
        await until(lambda: left(place) == [])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"command": ()}, "whole path"),
        ({"command": ("configure",)}, "whole path"),
        ({"command": ("/bin/true", "--token", "{token}")}, "the token itself is never an argument"),
        ({"command": ("/bin/true", "{token_file}")}, 'when, and only when, token = "file"'),
        ({"token": TokenDelivery.FILE}, 'when, and only when, token = "file"'),
        ({"files": ()}, "files is empty"),
        ({"files": ("../x",)}, "is not the name of a file"),
        ({"files": ("..",)}, "is not the name of a file"),
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"template": Path("/no/such")}, "is not a directory"),
        ({"run_as": "root"}, "root|run_as"),
    ],
)
async def test_settings_that_could_never_work_are_refused(
    place: Stage, changes: dict[str, object], sentence: str
):
    if "run_as" in changes and os.geteuid() != 0:
        changes = {"run_as": "nobody-of-this-name"}
    with pytest.raises(InvalidSettings, match=sentence):
        async with opened(place, settings("exit 0", **changes)):
            pass
