"""Backends whose packages are not installed: a sentence with the command that installs them."""

import subprocess
import sys

import pytest

from tests.e2e.stage import PRIVATE_KEY

COMMANDS = ("config check", "serve", "doctor", "bus declare")
BLOCKED = """
import sys
sys.modules[sys.argv[1]] = None
from mayfly.cli.main import app
for command in sys.argv[3:]:
    try:
        app([*command.split(), "--config", sys.argv[2]])
    except SystemExit as end:
        print("ended:", end.code, file=sys.stderr)
"""
"""The program, command by command, with one module that cannot be imported."""

STORE = '[store]\nurl = "{}"\n'
BUS = '[bus]\nbackend = "{}"\nurl = "{}"\n'
RABBITMQ = BUS.format("rabbitmq", "amqp://u:p@127.0.0.1:1/")
SERVICE_BUS = BUS.format("servicebus", "sb://127.0.0.1/mayfly")
POSTGRES = STORE.format("postgresql://u:p@127.0.0.1:1/mayfly")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "app.pem").write_text(PRIVATE_KEY)
    (folder / "webhook").write_text("a-secret-of-the-tests")
    return folder


@pytest.fixture
def config(secrets, tmp_path):
    def written(backend):
        path = tmp_path / "mayfly.toml"
        path.write_text(
            f'{backend}[github]\napp_id = 1\napi_url = "http://127.0.0.1:1"\n'
            f'private_key_file = "{secrets}/app.pem"\n'
            f'webhook_secret_files = ["{secrets}/webhook"]\n[[pools]]\nname = "linux"\n'
        )
        return path

    return written


@pytest.mark.parametrize(
    ("module", "backend", "extra"),
    [
        ("aio_pika", RABBITMQ, "rabbitmq"),
        ("aiohttp", SERVICE_BUS, "azure"),
        ("asyncpg", POSTGRES, "postgres"),
        ("greenlet", POSTGRES, "postgres"),
    ],
)
def test_a_missing_extra_is_one_sentence_with_its_command(config, module, backend, extra):
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKED, module, str(config(backend)), *COMMANDS],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    answers = (ran.stdout + ran.stderr).splitlines()
    sentences = [line for line in answers if "cannot be used" in line]
    assert len(sentences) >= len(COMMANDS), ran.stderr
    for sentence in sentences:
        assert module in sentence
        assert f"pip install 'mayfly-runners[{extra}]'" in sentence
    assert "Traceback" not in ran.stderr
    ends = [line for line in answers if line.startswith("ended:")]
    assert len(ends) == len(COMMANDS)
    assert "ended: 0" not in ends
