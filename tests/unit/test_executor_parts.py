"""The executor's settings, slots, log lines and imports."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mayfly.executor import Settings, Timing, Token, default_state_dir, slots
from mayfly.executor.logs import line
from mayfly.executor.patience import pauses
from mayfly.executor.settings import checked
from mayfly.model.errors import InvalidSettings


def settings(**changes: object) -> Settings:
    usual = Settings(
        server="https://mayfly.example.org",
        pool="linux",
        token=Token("t0ken"),
        state_dir=Path("/nowhere"),
    )
    return msgspec.structs.replace(usual, **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"server": "mayfly.example.org"}, "not a URL"),
        ({"server": "http://[::1"}, "not a URL"),
        ({"server": "https://mayfly.example.org:port"}, "not a URL"),
        ({"server": "http://mayfly.example.org"}, "unencrypted"),
        ({"server": "https://me:pw@mayfly.example.org"}, "use the token"),
        ({"pool": ""}, "not the name of a pool"),
        ({"pool": "a/b"}, "not the name of a pool"),
        ({"ca_file": Path("/nowhere/ca.pem")}, "/nowhere/ca.pem"),
    ],
)
def test_unusable_settings_are_refused_with_a_sentence(changes, sentence):
    with pytest.raises(InvalidSettings, match=sentence):
        checked(settings(**changes))


@pytest.mark.parametrize("server", ["http://127.0.0.1:8080", "http://localhost", "https://x"])
def test_plain_http_is_for_this_machine(server):
    assert checked(settings(server=server)).server == server
    assert checked(settings(server="http://mayfly", plain_http=True)).plain_http


def test_a_token_hides_itself(tmp_path):
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    token = Token.from_file(file)
    assert token.reveal() == "s3cret"
    assert "s3cret" not in repr(settings(token=token))
    with pytest.raises(InvalidSettings, match="token file"):
        Token.from_file(tmp_path / "none")
    with pytest.raises(InvalidSettings, match="one line"):
        Token("two\nlines")


def test_a_slot_is_held_by_one_and_free_afterwards(tmp_path):
    with slots.taken(tmp_path, "m") as first, slots.taken(tmp_path, "m") as second:
        assert first.machine != second.machine
        assert first.directory != second.directory
    with slots.taken(tmp_path, "m") as again:
        assert again == first


def test_a_slot_is_passable_whatever_the_umask(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)
    before = os.umask(0o077)
    try:
        with slots.taken(kept / "new" / "state", "m") as slot:
            made = [slot.directory, *slot.directory.parents[:3]]
            assert [stat.S_IMODE(each.stat().st_mode) for each in made] == [0o711] * 4
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700, "it was there before"


def test_two_state_directories_of_one_host_are_two_machines(tmp_path):
    with slots.taken(tmp_path / "a", "m") as one, slots.taken(tmp_path / "b", "m") as other:
        assert one.machine != other.machine


def test_a_slot_of_a_killed_process_is_free(tmp_path):
    program = (
        "import sys, pathlib; from mayfly.executor import slots\n"
        "with slots.taken(pathlib.Path(sys.argv[1]), 'm') as slot:\n"
        "    print(slot.machine, flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        machine = child.stdout.readline().strip()
        with slots.taken(tmp_path, "m") as mine:
            assert mine.machine != machine
        child.kill()
    with slots.taken(tmp_path, "m") as mine:
        assert mine.machine == machine


def test_the_state_directory_follows_the_user():
    home = default_state_dir({"XDG_STATE_HOME": "/srv/state"})
    expected = slots.SYSTEM_STATE_DIR if os.geteuid() == 0 else Path("/srv/state/mayfly")
    assert home == expected


def test_a_log_line_cannot_be_forged_by_a_value():
    forged = line("job.started", repo="x\n2025 INFO claim.finished outcome=done", none=None)
    assert forged.count("\n") == 0
    assert forged.startswith('job.started repo="x\\n2025 INFO')


def test_pauses_double_with_jitter_up_to_the_longest():
    timing = Timing(shortest=0.2, longest=10.0)
    seen = [pause for pause, _ in zip(pauses(timing), range(12), strict=False)]
    assert 0.1 <= seen[0] <= 0.2
    assert all(pause <= 10.0 for pause in seen)
    assert min(seen[8:]) >= 5.0


def test_the_executor_imports_neither_database_nor_web_framework():
    program = (
        "import sys, mayfly.executor\n"
        "heavy = {'sqlalchemy', 'litestar', 'structlog', 'uvicorn', 'typer', 'prometheus_client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
