"""Pages hang together: links lead somewhere, records are whole, examples are what they say."""

import re
import shlex
import tomllib
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from mayfly.cli.backends import backend
from mayfly.cli.edge_settings import EdgeFile
from mayfly.cli.environment import path_hook
from mayfly.cli.executing import File as ExecutorFile
from mayfly.cli.main import app
from mayfly.cli.settings import File
from mayfly.model.pools import checked
from tests.docs.pages import (
    DECISIONS,
    PAGES,
    ROOT,
    Block,
    anchor,
    blocks,
    headings,
    name,
    prose,
    reference,
    rows,
)

_LINK = re.compile(r"\]\(([^)\s]+)\)")


def _where(block: Block) -> str:
    return block.page


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_relative_link_leads_to_a_page_and_a_heading(page):
    for target in _LINK.findall(prose(page.read_text())):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} leads nowhere"
        if fragment:
            assert fragment in map(anchor, headings(linked.read_text())), f"no heading {target}"


def test_every_page_of_the_documentation_is_linked_from_the_readme():
    linked = set(_LINK.findall((ROOT / "README.md").read_text()))
    later_records = {name(page) for page in DECISIONS[1:]}
    pages = {name(page) for page in PAGES} - {"README.md"} - later_records
    assert pages <= linked, f"not linked: {sorted(pages - linked)}"


def test_the_readme_says_what_every_part_is_for():
    readme = (ROOT / "README.md").read_text()
    parts = [path for path in (ROOT / "src" / "mayfly").iterdir() if path.name[0] not in "_."]
    missing = [
        part.name
        for part in parts
        if part.suffix != ".typed"
        and not re.search(rf"^├── {part.name}|^└── {part.name}", readme, re.MULTILINE)
    ]
    assert not missing


def test_the_readme_names_every_folder_of_tests():
    readme = (ROOT / "README.md").read_text()
    folders = [path.name for path in (ROOT / "tests").iterdir() if path.is_dir()]
    assert [
        folder for folder in folders if folder[0] not in "_." and f"{folder}/" not in readme
    ] == []


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_a_decision_record_has_its_four_headings(page):
    title, *parts = headings(page.read_text())
    assert title.startswith(f"{page.name[:4]}: ")
    assert parts == ["Context", "Decision", "Alternatives", "Consequences"]


def test_decision_records_are_numbered_without_gaps():
    assert [page.name[:4] for page in DECISIONS] == [f"{n + 1:04}" for n in range(len(DECISIONS))]


def test_the_glossary_is_sorted_and_names_nothing_twice():
    text = (ROOT / "docs" / "glossary.md").read_text()
    nouns = re.findall(r"^\* \*\*([^*]+)\*\*", text, re.MULTILINE)
    assert nouns
    assert nouns == sorted(set(nouns), key=str.lower)


@pytest.mark.parametrize("block", blocks("toml"), ids=_where)
def test_a_toml_block_is_toml_and_a_whole_file_is_accepted(block):
    tomllib.loads(block.text)
    if block.text.startswith("# mayfly.toml"):
        file = msgspec.toml.decode(block.text, type=File, dec_hook=path_hook)
        checked(file.pools, file.labels.convention)
    if block.text.startswith("# reflector.toml"):
        edge = msgspec.toml.decode(block.text, type=EdgeFile, dec_hook=path_hook)
        checked(edge.pools, edge.labels.convention)
    if block.text.startswith("# executor.toml"):
        ours = msgspec.toml.decode(block.text, type=ExecutorFile, dec_hook=path_hook)
        settings = backend("drivers", ours.executor.driver).Settings
        msgspec.convert(ours.runner, settings, dec_hook=path_hook)


def test_whole_files_are_among_the_toml_blocks():
    first = {block.text.splitlines()[0] for block in blocks("toml")}
    assert {"# mayfly.toml", "# executor.toml", "# reflector.toml"} <= first


@pytest.mark.parametrize("block", blocks("console"), ids=_where)
def test_a_console_block_runs(block):
    commands = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    assert commands
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "mayfly"
        ended = CliRunner().invoke(app, arguments)
        assert ended.exit_code == 0, ended.output


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE))
    assert named
    assert named <= targets


def test_the_variables_of_the_environment_are_those_the_command_line_reads():
    sources = "\n".join(path.read_text() for path in (ROOT / "src/mayfly/cli").rglob("*.py"))
    read = set(re.findall(r'"(MAYFLY_[A-Z_]+)"', sources)) | {"XDG_STATE_HOME"}
    text = reference("configuration.md").partition("## Environment variables")[2]
    assert {row[0].strip("`") for row in rows(text)} == read


def test_paths_of_the_source_that_are_named_exist():
    for page in PAGES:
        for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page.read_text()):
            places = (ROOT / path, ROOT / "src" / "mayfly" / path)
            assert any(Path(place).exists() for place in places), f"{name(page)} names {path}"
