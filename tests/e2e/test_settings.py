"""Settings that cannot be used: exit code 2, one sentence, nothing started."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.e2e.programs import Program, Ran, command
from tests.e2e.stage import PRIVATE_KEY

pytestmark = pytest.mark.timeout(60)

GOOD = """\
[server]
port = 0

[store]
url = "sqlite:///mayfly.sqlite"

[github]
app_id = 4711
private_key_file = "app.pem"
webhook_secret_files = ["webhook-secret"]

[[pools]]
name = "linux"

[[access]]
owner = "octo-org"
pool = "linux"
"""
NOWHERE = "http://127.0.0.1:1"
TOKEN = '\n[[tokens]]\nname = "rack"\nrole = "executor"\n'

CLOUD = '\n[launchers.cloud]\nbackend = "process"\nstate_dir = "launches"\n'
ELASTIC = '"linux"\nlauncher = "cloud"\n\n'


def elastic(good: str) -> str:
    """With executors whose settings file does not exist."""
    launcher = f'{CLOUD}config = "none.toml"\n'
    return good.replace('"linux"\n\n', ELASTIC, 1) + launcher


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    "not TOML": (lambda good: f"{good}\n[[", "is not valid TOML"),
    "an unknown word": (lambda good: good.replace("port", "prot"), "prot"),
    "a wrong type": (lambda good: good.replace("= 0", '= "zero"'), "server.port"),
    "a missing table": (lambda good: good.replace("[github]", "[gitlab]"), "gitlab"),
    "no pools": (lambda good: good[: good.index("[[pools]]")], "missing required field `pools`"),
    "an empty list of pools": (
        lambda good: "pools = []\n" + good[: good.index("[[pools]]")],
        "there is no pool",
    ),
    "a pool twice": (lambda good: f'{good}\n[[pools]]\nname = "Linux"\n', "declared twice"),
    "no slot": (lambda good: good.replace('"linux"\n\n', '"linux"\nmax = 0\n\n'), "at least 1"),
    "a launcher without a backend": (
        lambda good: f"{good}\n[launchers.cloud]\n",
        "[launchers.cloud] names no backend",
    ),
    "a launcher of no backend": (
        lambda good: f'{good}\n[launchers.cloud]\nbackend = "moon"\n',
        "there is no backend 'moon'",
    ),
    "a launcher's unknown word": (
        lambda good: f'{good}{CLOUD}config = "executor.toml"\ncolour = "red"\n',
        "colour",
    ),
    "a pool whose launcher is none": (
        lambda good: good.replace('"linux"\n\n', ELASTIC, 1) + CLOUD.replace("cloud", "sky"),
        "names launcher 'cloud'; known: sky",
    ),
    "an elastic pool without an address": (
        lambda good: good.replace('"linux"\n\n', ELASTIC, 1) + CLOUD,
        "[server] has no url",
    ),
    "an elastic pool with an address that is none": (
        lambda good: elastic(good).replace("port = 0", 'port = 0\nurl = "mayfly.example.org"'),
        "mayfly.example.org",
    ),
    "a launcher that `serve` would refuse": (
        lambda good: elastic(good).replace("port = 0", 'port = 0\nurl = "https://m.example"'),
        "settings file none.toml does not exist",
    ),
    "a launcher's path that is a number": (
        lambda good: f"{good}{CLOUD}config = 5\n",
        "a path - at `$.config`",
    ),
    "a launcher's endless patience": (
        lambda good: f'{good}{CLOUD}config = "none.toml"\ngrace_seconds = inf\n',
        "launchers.cloud.grace_seconds: inf is not a number of use here",
    ),
    "a text that no program can be given": (
        lambda good: f'{good}{CLOUD}config = "none.toml"\ncommand = ["a\\u0000"]\n',
        "launchers.cloud.command[0]: the text holds a NUL",
    ),
    "a rule for no pool": (lambda good: good.replace('pool = "linux"', 'pool = "mac"'), "'mac'"),
    "no key": (lambda good: good.replace("app.pem", "none.pem"), "none.pem"),
    "a key that is none": (lambda good: good.replace("app.pem", "webhook-secret"), "key"),
    "no secret": (lambda good: good.replace('["webhook-secret"]', "[]"), "MAYFLY_WEBHOOK_SECRET"),
    "an empty secret": (lambda good: good.replace('["webhook-secret"]', '["empty"]'), "is empty"),
    "a token's hash": (lambda good: f'{good}{TOKEN}sha256 = "abc"\n', "64 hexadecimal digits"),
    "a token for nothing": (
        lambda good: f'{good}{TOKEN}sha256 = "{"0" * 64}"\n',
        "names its pools",
    ),
    "an owner left empty": (lambda good: good.replace('"octo-org"', '"octo/"'), "neither OWNER"),
    "a rule for everybody": (lambda good: good.replace('"octo-org"', '"*"'), "neither OWNER"),
    "a level of no log": (lambda good: f'{good}\n[log]\nlevel = "loud"\n', "log.level"),
    "no pause": (lambda good: f"{good}\n[deadlines]\nturn_seconds = 0\n", "turn_seconds"),
    "no number": (lambda good: f"{good}\n[deadlines]\nturn_seconds = nan\n", "turn_seconds"),
    "silent at once": (lambda good: f"{good}\n[deadlines]\nsilent_seconds = 5\n", "seem dead"),
    "no port": (lambda good: good.replace("port = 0", "port = 99999"), "server.port"),
    "no address": (lambda good: good.replace("app_id", 'api_url = "x"\napp_id'), "api_url"),
    "a long prefix": (lambda good: f'runner_prefix = "{"x" * 40}"\n{good}', "runner_prefix"),
    "an endless pool": (
        lambda good: good.replace('"linux"\n\n', '"linux"\nmax = 99999999999\n\n'),
        "at most 100000",
    ),
    "a remote bus": (lambda good: f'{good}\n[bus]\nbackend = "remote"\n', "control plane's bus"),
    "an unknown store": (lambda good: good.replace("url =", 'backend = "oracle"\nurl ='), "oracle"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app.pem").write_text(PRIVATE_KEY)
    (tmp_path / "webhook-secret").write_text("a webhook's secret")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "mayfly.toml").write_text(GOOD)
    return tmp_path


async def check(place: Path, verb: tuple[str, ...] = ("config", "check")) -> Ran:
    return await command(*verb, environment={}, cwd=place)


async def test_good_settings_are_called_good(place: Path):
    answer = await check(place)
    assert answer.code == 0, answer.err
    assert "mayfly.toml is good: pools linux; 1 declared access rule(s)" in answer.out
    assert "warning: no [[tokens]] with role executor" in answer.out
    assert not (place / "mayfly.sqlite").exists(), "checking changes nothing"


async def test_launched_executors_need_no_token_of_the_file(place: Path):
    (place / "none.toml").write_text('[runner]\nrelease = "newest"\n')
    good = elastic(GOOD).replace("port = 0", 'port = 0\nurl = "https://m.example"')
    (place / "mayfly.toml").write_text(good)
    answer = await check(place)
    assert answer.code == 0, answer.err
    assert "no executor can connect" not in answer.out
    assert not (place / "launches").exists(), "checking starts nothing"


async def test_a_control_plane_that_pulls_needs_no_secret(place: Path):
    good = GOOD.replace('webhook_secret_files = ["webhook-secret"]', 'intake = "pull"')
    (place / "mayfly.toml").write_text(good)
    answer = await check(place)
    assert answer.code == 0, answer.err
    assert "the App at GitHub needs the event workflow_job, and an active webhook with any" in (
        answer.out
    )


async def test_a_control_plane_that_pulls_says_so_and_takes_no_webhooks(place: Path):
    pulling = f'intake = "pull"\napi_url = "{NOWHERE}"'
    good = GOOD.replace('webhook_secret_files = ["webhook-secret"]', pulling)
    good = good.replace("app.pem", f"{place}/app.pem").replace("///mayfly", f"///{place}/mayfly")
    (place / "mayfly.toml").write_text(good)
    plane = await Program.started(
        "plane", place / "log", "serve", "--config", str(place / "mayfly.toml")
    )
    try:
        started = msgspec.json.decode(await plane.logged("server.started"))
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{started['url']}/webhooks/github", content=b"{}")
    finally:
        await plane.stopped()
    assert started["intake"] == "pull"
    assert (answer.status_code, "this control plane pulls" in answer.text) == (404, True)


async def test_secrets_and_directories_that_will_astonish_are_warned_of(place: Path):
    for name, mode in (("app.pem", 0o644), ("webhook-secret", 0o640)):
        (place / name).chmod(mode)
    (place / "mayfly.toml").write_text(GOOD.replace("///mayfly", "///no/such/place/mayfly"))
    answer = await check(place)
    assert answer.code == 0, answer.err
    assert "warning: every user of this machine can read app.pem; chmod o-rwx app.pem" in answer.out
    assert "webhook-secret;" not in answer.out
    assert f"directory {place}/no/such/place does not exist" in answer.out
    assert not (place / "no").exists(), "checking changes nothing"


async def test_a_database_that_cannot_be_written_is_warned_of(place: Path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (place / "closed").mkdir(mode=0o500)
    (place / "mayfly.toml").write_text(GOOD.replace("///mayfly", "///closed/mayfly"))
    answer = await check(place)
    assert f"you may not write {place}/closed/mayfly.sqlite or its directory" in answer.out


async def test_a_store_that_is_no_file_is_no_good(place: Path):
    (place / "mayfly.toml").write_text(GOOD.replace("sqlite:///mayfly.sqlite", "mysql://db/x"))
    assert_one_sentence(await check(place), "this version knows sqlite:///PATH")


async def test_the_example_needs_only_its_secrets(place: Path):
    example = (await check(place, ("config", "example"))).out
    example = example.replace("/etc/mayfly/app.pem", "app.pem").replace("/etc/mayfly/", "")
    (place / "mayfly.toml").write_text(example)
    assert (await check(place)).code == 0


@pytest.mark.parametrize("flaw", BAD)
async def test_bad_settings_are_one_sentence_and_exit_code_2(place: Path, flaw: str):
    spoiled, said = BAD[flaw]
    (place / "mayfly.toml").write_text(spoiled(GOOD))
    assert_one_sentence(await check(place), said)


async def test_serve_says_the_same_and_starts_nothing(place: Path):
    (place / "mayfly.toml").write_text(GOOD.replace("app.pem", "none.pem"))
    assert_one_sentence(await check(place, ("serve",)), "none.pem")
    (place / "mayfly.toml").write_text(GOOD.replace("///mayfly", "///no/such/place/mayfly"))
    assert_one_sentence(await check(place, ("serve",)), "no/such/place")
    (place / "mayfly.toml").unlink()
    assert_one_sentence(await check(place, ("serve",)), "mayfly config example")


async def test_serve_does_not_begin_on_a_newer_version_s_database(place: Path):
    with closing(sqlite3.connect(place / "mayfly.sqlite")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
    answer = await check(place, ("serve",))
    assert_one_sentence(answer, "the database is of a newer Mayfly (schema 9999; this one knows")


async def test_an_executor_without_what_it_needs_says_so(place: Path):
    executor = ("executor", "--pool", "linux")
    assert_one_sentence(await check(place, executor), "the executor has no token")
    (place / "token").write_text("mf_token")
    with_token = (*executor, "--token-file", "token")
    assert_one_sentence(await check(place, with_token), "does not know its runner")
    (place / "runner.toml").write_text('[runner]\ncommand = ["true"]\njit = "by pigeon"\n')
    assert_one_sentence(await check(place, (*with_token, "--config", "runner.toml")), "pigeon")


async def test_an_executor_has_the_driver_its_file_names_or_says_why_not(place: Path):
    (place / "token").write_text("mf_token")
    arguments = ("--token-file", "token", "--config", "runner.toml")
    for text, said in (
        ('[runner]\n[executor]\ndriver = "pigeons"', "no backend 'pigeons' among mayfly.drivers"),
        ('[runner]\n[executor]\ndriver = "command"', "missing required field `prepare`"),
        ('[runner]\ncommand = ["true"]\nrun_ass = "me"', "unknown field `run_ass`"),
    ):
        (place / "runner.toml").write_text(text)
        assert_one_sentence(await check(place, ("executor", "--pool", "linux", *arguments)), said)


async def test_an_executor_opens_the_bus_its_file_names_or_says_why_not(place: Path):
    (place / "token").write_text("mf_token")
    (place / "bus-url").write_text("sqlite:///no/such/place/bus.sqlite")
    for settings, said in (
        ('bus = "memory"', "leave `bus` out"),
        ('bus = "pigeons"', "has no url"),
        ('bus = "pigeons"\nbus_url_file = "bus-url"', "no backend 'pigeons'"),
    ):
        text = f'[runner]\ncommand = ["true"]\n[executor]\n{settings}\n'
        (place / "runner.toml").write_text(text)
        arguments = ("--token-file", "token", "--config", "runner.toml")
        assert_one_sentence(await check(place, ("executor", "--pool", "linux", *arguments)), said)
    (place / "runner.toml").write_text(
        '[runner]\ncommand = ["true"]\n[executor]\nbus = "sql"\nbus_url_file = "bus-url"\n'
    )
    answer = await check(
        place, ("executor", "--pool", "linux", *arguments, "--state-dir", str(place / "state"))
    )
    assert (answer.code, "no/such/place" in answer.err) == (2, True), answer.err


def assert_one_sentence(answer: Ran, said: str) -> None:
    assert answer.code == 2, answer.err
    assert answer.err.startswith("mayfly: ")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.out == ""
