"""Rules as lines: what is exported can be imported, and a bad file changes nothing."""

from pathlib import Path

import pytest

from mayfly.cli import rule_lines
from mayfly.model.access import AccessRule
from mayfly.model.errors import InvalidSettings

POOLS = ("linux", "gpu")
RULES = [
    AccessRule(owner="Octo", label="linux"),
    AccessRule(owner="Octo", repository="hello.world", label="gpu"),
]


def test_what_is_written_is_read_again():
    lines = list(rule_lines.written(RULES))
    assert lines[0] == '{"owner":"Octo","pool":"linux"}'
    assert rule_lines.read("\n".join([*lines, "", ""]), POOLS, "f") == RULES


def test_a_pool_is_called_as_in_the_settings_and_a_rule_is_read_once():
    twice = '{"owner":"a","pool":"LINUX"}\n{"owner":"A","pool":"linux"}'
    assert [rule.label for rule in rule_lines.read(twice, POOLS, "f")] == ["linux"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("owner: octo", "malformed"),
        ('{"owner":"octo"}', "pool"),
        ('{"owner":"octo/hello","pool":"linux"}', r"\$.owner"),
        ('{"owner":"octo","repository":"","pool":"linux"}', r"\$.repository"),
        ('{"owner":"octo\\n","pool":"linux"}', r"\$.owner"),
        ('{"owner":"octo","pool":"linuks"}', "no pool is named 'linuks'; known: linux, gpu"),
        ('{"owner":"octo","repo":"hello","pool":"linux"}', "unknown field `repo`"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_used(line: str, reason: str):
    text = "\n".join(['{"owner":"good","pool":"linux"}', "", line])
    with pytest.raises(InvalidSettings, match=rf"nothing was imported\nf:3: .*{reason}"):
        rule_lines.read(text, POOLS, "f")


def test_of_many_bad_lines_the_first_are_named():
    with pytest.raises(InvalidSettings, match="and 90 more") as refused:
        rule_lines.read("x\n" * 100, POOLS, "f")
    assert len(str(refused.value).splitlines()) == 12


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path):
    with pytest.raises(InvalidSettings, match=r"cannot read .*: No such file"):
        rule_lines.text_of(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidSettings, match="is not text"):
        rule_lines.text_of(tmp_path / "binary")
