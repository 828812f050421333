"""The source keeps the shape CONTRIBUTING.md promises."""

import ast

import pytest

from tests.docs.pages import ROOT

MODULES = sorted((ROOT / "src").rglob("*.py"))
LONGEST = 400


def _name(module) -> str:
    return str(module.relative_to(ROOT / "src" / "mayfly"))


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_a_module_says_in_its_first_line_what_it_is_for(module):
    docstring = ast.get_docstring(ast.parse(module.read_text()))
    assert docstring
    first = docstring.splitlines()[0]
    assert first.endswith((".", "?", ")")), f"{first!r} is not a sentence on one line"


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_a_module_fits_into_400_lines(module):
    assert len(module.read_text().splitlines()) <= LONGEST


def test_every_seam_is_on_one_page():
    text = (ROOT / "src" / "mayfly" / "ports.py").read_text()
    last_import = max(
        node.end_lineno or 0
        for node in ast.parse(text).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
    assert len(text.splitlines()[last_import:]) <= 350
