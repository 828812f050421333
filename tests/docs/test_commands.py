"""cli.md has every command, option and exit code, and no other; what other pages type exists."""

import re
import shlex
from typing import Any

import pytest
import typer

from mayfly.cli import failures
from mayfly.cli.main import app
from mayfly.executor import loop
from tests.docs.pages import PAGES, blocks, prose, reference, rows, sections, words

SECTIONS = sections(reference("cli.md"))
ROOT_COMMAND = typer.main.get_command(app)


def _commands(command: Any, path: str = "mayfly") -> dict[str, Any]:
    """Path to command, groups left out; `mayfly` itself stands for its own options."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return {path: command}
    below = {
        name: found
        for key in inner
        for name, found in _commands(inner[key], f"{path} {key}").items()
    }
    return ({path: command} if path == "mayfly" else {}) | below


COMMANDS = _commands(ROOT_COMMAND)


def _options(command: Any) -> set[str]:
    return {
        option
        for parameter in command.params
        if parameter.param_type_name == "option"
        for option in parameter.opts
    } - {"--help"}


def test_every_command_has_a_section_and_every_section_a_command():
    assert sorted(heading for heading in SECTIONS if heading.startswith("mayfly")) == sorted(
        COMMANDS
    )


@pytest.mark.parametrize("path", COMMANDS)
def test_a_section_has_every_option_and_no_other(path):
    documented = {option for row in rows(SECTIONS[path]) for option in words(row[0])}
    assert documented == _options(COMMANDS[path])


@pytest.mark.parametrize("path", COMMANDS)
def test_a_default_is_the_one_the_command_has(path):
    for row in rows(SECTIONS[path]):
        parameter = next(p for p in COMMANDS[path].params if words(row[0])[0] in p.opts)
        if parameter.default not in (None, False) and not callable(parameter.default):
            assert row[1] == f"`{parameter.default}`"


def test_every_exit_code_is_documented():
    codes = {row[0] for row in rows(SECTIONS["Exit codes"])}
    declared = {failures.FAILED, failures.INVALID, failures.NO, loop.TOLD, loop.DONE, 130}
    assert codes == {str(code) for code in declared}


def _typed() -> list[str]:
    """What pages tell people to type."""
    lines = [
        line
        for block in blocks("sh")
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.startswith("mayfly ")
    ]
    spans = [word for page in PAGES for word in words(prose(page.read_text()))]
    return lines + [span for span in spans if span.startswith("mayfly ")]


@pytest.mark.parametrize("line", sorted(set(_typed())))
def test_what_a_page_tells_people_to_type_exists(line):
    arguments = shlex.split(re.split(r" 2?> | #", line)[0])[1:]
    command: Any = ROOT_COMMAND
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command = command.commands[arguments.pop(0)]
    if getattr(command, "commands", None):
        assert not arguments or set(arguments) <= _options(command) | {"--help"}
    given = {argument for argument in arguments if argument.startswith("-")}
    assert given <= _options(command) | {"--help"}
