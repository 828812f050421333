"""lessons.md names a test for every lesson, and every test it names exists."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, rows, sections

PAGE = ROOT / "docs" / "explanation" / "lessons.md"
TEXT = PAGE.read_text()
LESSONS = [row for section in sections(TEXT).values() for row in rows(section)]
_TEST = re.compile(r"\[`(test_\w+)`\]\(([^)]+)\)")


def _tests_of(file: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, functions) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson[0][:60])
def test_a_lesson_names_tests_that_exist(lesson: list[str]):
    named = _TEST.findall(lesson[-1])
    assert named, "a lesson without a test is a wish"
    for test, file in named:
        assert test in _tests_of((PAGE.parent / file).resolve()), f"{file} has no {test}"


def test_every_row_has_three_cells():
    assert LESSONS
    assert {len(lesson) for lesson in LESSONS} == {3}


def test_every_test_of_a_lesson_is_on_the_page():
    written = _tests_of(ROOT / "tests" / "unit" / "test_lessons.py")
    assert written <= {test for test, _ in _TEST.findall(TEXT)}
