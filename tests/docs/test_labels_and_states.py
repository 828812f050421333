"""labels.md shows sentences the code really says; states.md has the model's states and edges."""

import ast
import re

import pytest

from mayfly.engine.admission import decided, unchecked
from mayfly.model import launches, runners
from mayfly.model.access import Reason, Refused
from mayfly.model.jobs import JobState
from mayfly.model.labels import Fit, fit, flaw_of
from mayfly.model.pools import Convention, Pool, VariantRule, checked
from mayfly.model.runners import ClaimState
from tests.docs.pages import ROOT, reference, rows, sections, words
from tests.fakes.factories import event

LABELS = sections(reference("labels.md"))
STATES = sections(reference("states.md"))
SEQUENCE = (
    Pool(name="linux"),
    Pool(name="gpu", variant=VariantRule.REQUIRED, variants=("a100", "l4")),
)
MATCH = checked(
    (
        Pool(name="small", labels=("linux", "x64", "small")),
        Pool(name="big", labels=("linux", "x64", "gpu"), own="gpu"),
    ),
    Convention.MATCH,
)
REFUSALS = rows(LABELS["Refusals"])
BY_RULES = {"not_allowed", "no_installation", "pending_check"}
BY_LABELS = [row for row in REFUSALS if row[0].strip("`") not in BY_RULES]


def _labels(example: str) -> tuple[str, ...]:
    text = words(example)[0].strip("[]")
    separator = None if "as one label" in example else ", "
    if separator is None:
        first, _, rest = text.partition(", ")
        return (first, rest)
    return tuple(text.split(separator))


@pytest.mark.parametrize("row", BY_LABELS, ids=lambda row: row[1])
def test_a_refused_example_gets_the_reason_and_the_sentence_it_shows(row):
    reason, example, sentence = row
    convention = Convention.MATCH if example.startswith("match") else Convention.SEQUENCE
    pools = MATCH if convention is Convention.MATCH else SEQUENCE
    found = fit(_labels(example), pools, convention)
    assert isinstance(found, Refused)
    assert (f"`{found.reason.value}`", found.sentence) == (reason, sentence)


def test_the_sentence_for_a_job_without_a_rule_is_the_one_shown():
    job = event(owner="octo-org", repository="octo-repo")
    found = decided(job, Fit(pool=SEQUENCE[0], variant=None), None)
    assert isinstance(found, Refused)
    shown = {row[0].strip("`"): row[2] for row in REFUSALS}
    assert shown["not_allowed"] == found.sentence


def test_the_sentence_for_a_job_that_is_pending_a_check_is_the_one_shown():
    job = event(owner="octo-org", repository="octo-repo")
    shown = {row[0].strip("`"): row[2] for row in REFUSALS}
    assert shown["pending_check"] == unchecked(job, SEQUENCE[0]).sentence


def test_every_reason_is_documented():
    assert {row[0].strip("`") for row in REFUSALS} == {reason.value for reason in Reason}


def test_every_flaw_of_a_label_is_documented():
    flaws = {flaw_of(label) for label in ("", "a" * 257, "a,b", "ä", "\x07")}
    assert flaws - {"contains a comma"} <= set(words(LABELS["Refusals"]))


def test_an_admitted_example_names_its_pool_and_variant():
    for example, pool, *variant in rows(LABELS["sequence"]):
        found = fit(_labels(example), SEQUENCE, Convention.SEQUENCE)
        assert isinstance(found, Fit)
        assert f"`{found.pool.name}`" == pool.strip(" |")
        assert [f"`{found.variant}`"] == variant or found.variant is None


def test_every_state_of_a_job_is_documented():
    documented = [row[0].strip("`") for row in rows(STATES["Workflow jobs"])]
    assert documented == [state.word for state in JobState]


def test_every_state_of_a_claim_and_every_edge_is_documented():
    states = {row[0]: row[2] for row in rows(STATES["Claims"]) if row[-1] in {"yes", "no"}}
    assert states == {
        f"`{state.value}`": "yes" if state in runners.LIVE else "no" for state in ClaimState
    }
    edges = {
        tuple(words(f"{row[0]} {row[1]}"))
        for row in rows(STATES["Claims"])
        if row[0] not in states or row[-1] not in {"yes", "no"}
    }
    assert edges == {
        (before.value, after.value) for before, afters in runners._EDGES.items() for after in afters
    }


def test_every_phase_of_a_launch_is_documented():
    phases = {row[0]: row[2] for row in rows(STATES["Launches"])}
    assert phases == {
        f"`{phase.value}`": "yes" if phase in launches.SUPPLY else "no"
        for phase in launches.LaunchPhase
    }


def test_every_sentence_of_an_explanation_is_in_the_how_to():
    page = (ROOT / "docs" / "how-to" / "find-out-why-a-job-waits.md").read_text()
    tree = ast.parse((ROOT / "src" / "mayfly" / "engine" / "explanations.py").read_text())
    texts = {
        re.split(r"[:{]", part.value)[0].strip()
        for node in ast.walk(tree)
        if isinstance(node, ast.Return) and node.value is not None
        for part in ast.walk(node.value)
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and len(part.value) > 20
    }
    assert texts
    assert [text for text in texts if text not in page] == []
