"""metrics.md has every metric, its labels and their values, and no other."""

import re

import pytest

from mayfly.engine.leftovers import Whose
from mayfly.model.errors import RefusalKind
from mayfly.telemetry import (
    Correction,
    GitHubFailure,
    Ignored,
    LaunchRefusal,
    Telemetry,
    WebhookResult,
)
from tests.docs.pages import ROOT, reference, rows, words

PAGE = reference("metrics.md")


def _declared() -> dict[str, tuple[str, set[str]]]:
    found = {}
    for family in Telemetry(["linux"]).registry.collect():
        if family.name.startswith("mayfly_"):
            suffix = "_total" if family.type == "counter" else ""
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[family.name + suffix] = (family.type, labels)
    return found


def test_every_metric_is_documented_with_its_kind_and_labels():
    documented = {row[0].strip("`"): (row[1], set(words(row[2]))) for row in rows(PAGE)}
    assert documented == _declared()


def test_a_metric_that_any_page_names_exists():
    for page in ROOT.glob("docs/**/*.md"):
        assert set(re.findall(r"\bmayfly_[a-z_]+_[a-z]+\b", page.read_text())) <= set(_declared())


@pytest.mark.parametrize(
    "values", [WebhookResult, Ignored, Correction, RefusalKind, GitHubFailure, LaunchRefusal]
)
def test_every_value_of_a_label_is_documented(values):
    assert {value.value for value in values} <= set(words(PAGE))


def test_every_word_for_whose_a_runner_is_is_documented():
    page = ROOT / "docs" / "how-to" / "find-leaked-runners.md"
    assert [row[0].strip("`") for row in rows(page.read_text())] == [whose.value for whose in Whose]
