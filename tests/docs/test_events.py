"""events.md has every event the control plane and the executor write, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, reference, rows, sections

_SOURCE = ROOT / "src" / "mayfly"
_EVENT = re.compile(r"[a-z]+\.[a-z_]+")
_SPEAKERS = {
    *("publish", "whisper", "line", "complain"),
    *("debug", "info", "warning", "error", "exception"),
}
_ELSEWHERE = {"job.admitted", "job.refused", "library.logged"}
"""Chosen by a function or set in a field, so that no call names them."""
SIDES = {
    "The control plane's events": ("bus", "cli", "database", "engine", "github", "store", "web"),
    "The executor's events": ("executor", "drivers", "releases"),
}


def _events(tree: ast.AST) -> Iterator[str]:
    """The first word of every text that is logged or published."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func
        speaker = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        first = node.args[0]
        if speaker in _SPEAKERS and isinstance(first, ast.Constant):
            word = str(first.value).partition(" ")[0]
            if _EVENT.fullmatch(word):
                yield word


def _written_by(packages: tuple[str, ...]) -> set[str]:
    paths: list[Path] = [path for package in packages for path in (_SOURCE / package).rglob("*.py")]
    return {event for path in paths for event in _events(ast.parse(path.read_text()))}


@pytest.mark.parametrize("heading", SIDES)
def test_a_side_documents_every_event_it_writes_and_no_other(heading):
    documented = {row[0].strip("`") for row in rows(sections(reference("events.md"))[heading])}
    written = _written_by(SIDES[heading])
    if "control" in heading:
        written |= _ELSEWHERE
    assert documented == written


def test_the_events_no_call_names_are_still_in_the_source():
    text = "\n".join(path.read_text() for path in _SOURCE.rglob("*.py"))
    assert all(f'"{event}"' in text for event in _ELSEWHERE)
