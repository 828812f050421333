"""Labels a stranger writes, and the pool they mean."""

import pytest

from mayfly.model.access import Reason, Refused
from mayfly.model.labels import LONGEST_LABEL, Fit, fit, flaw_of, normal
from mayfly.model.pools import Convention, Pool, VariantRule, checked

SEQUENCE = (
    Pool(name="linux"),
    Pool(name="board", variant=VariantRule.REQUIRED, variants=("Purecap", "hybrid")),
    Pool(name="any", variant=VariantRule.OPTIONAL),
    Pool(name="needs", variant=VariantRule.REQUIRED),
)
MATCH = checked(
    (
        Pool(name="small", labels=("linux", "x64", "small")),
        Pool(name="gpu", labels=("linux", "x64", "GPU")),
    ),
    Convention.MATCH,
)


def by_sequence(*labels: str) -> Fit | Refused:
    return fit(labels, SEQUENCE, Convention.SEQUENCE)


def by_match(*labels: str) -> Fit | Refused:
    return fit(labels, MATCH, Convention.MATCH)


@pytest.mark.parametrize(
    ("labels", "pool", "variant"),
    [
        (("self-hosted", "linux"), "linux", None),
        (("Self-Hosted", "LINUX"), "linux", None),
        (("self-hosted", "board", "PURECAP"), "board", "purecap"),
        (("self-hosted", "any"), "any", None),
        (("self-hosted", "any", "Whatever"), "any", "whatever"),
        (("self-hosted", "needs", "x"), "needs", "x"),
    ],
)
def test_the_sequence_names_pool_and_variant(
    labels: tuple[str, ...], pool: str, variant: str | None
):
    found = by_sequence(*labels)
    assert isinstance(found, Fit)
    assert (found.pool.name, found.variant) == (pool, variant)


@pytest.mark.parametrize(
    ("labels", "reason", "words"),
    [
        ((), Reason.NOT_SELF_HOSTED, "first label"),
        (("ubuntu-latest",), Reason.NOT_SELF_HOSTED, "ubuntu-latest"),
        (("linux", "self-hosted"), Reason.NOT_SELF_HOSTED, "first label"),
        (("self-hosted",), Reason.NO_POOL_NAMED, "known pools: linux, board, any, needs"),
        (("self-hosted", "windows"), Reason.UNKNOWN_POOL, "no pool is named 'windows'"),
        (("self-hosted", "any", "x", "y"), Reason.TOO_MANY_LABELS, "remove ['y']"),
        (("self-hosted", "board"), Reason.VARIANT_MISSING, "one of Purecap, hybrid"),
        (("self-hosted", "needs"), Reason.VARIANT_MISSING, "as the third label"),
        (("self-hosted", "linux", "x"), Reason.VARIANT_NOT_ALLOWED, "remove the label 'x'"),
        (("self-hosted", "board", "x"), Reason.VARIANT_NOT_ALLOWED, "it has Purecap, hybrid"),
        (("self-hosted", "li,nux"), Reason.INVALID_LABEL, "contains a comma"),
    ],
)
def test_a_refusal_says_why_and_what_to_do(labels: tuple[str, ...], reason: Reason, words: str):
    found = by_sequence(*labels)
    assert isinstance(found, Refused)
    assert found.reason is reason
    assert words in found.sentence


def test_no_pools_at_all_is_said():
    found = fit(("self-hosted", "x"), (), Convention.SEQUENCE)
    assert isinstance(found, Refused)
    assert found.sentence.endswith("known pools: none")


@pytest.mark.parametrize(
    ("label", "flaw"),
    [
        ("linux", None),
        ("x" * LONGEST_LABEL, None),
        ("", "is empty"),
        ("x" * (LONGEST_LABEL + 1), "is longer than 256 characters"),
        ("a,b", "contains a comma"),
        ("línux", "contains a non-ASCII character"),
        ("a\x1b[31m", "contains a control character"),
        ("a\nb", "contains a control character"),
    ],
)
def test_flaws_of_a_label(label: str, flaw: str | None):
    assert flaw_of(label) == flaw


def test_normal_labels_have_no_case_order_or_repetition():
    assert normal(["Linux", "self-hosted", "LINUX"]) == ("linux", "self-hosted")


@pytest.mark.parametrize("labels", [("gpu",), ("self-hosted", "Linux", "GPU"), ("x64", "gpu")])
def test_a_match_needs_the_pools_own_label(labels: tuple[str, ...]):
    found = by_match(*labels)
    assert isinstance(found, Fit)
    assert found.pool.name == "gpu"


@pytest.mark.parametrize(
    ("labels", "reason", "words"),
    [
        (("linux", "x64"), Reason.AMBIGUOUS, "'small' (pool small) or 'GPU' (pool gpu)"),
        (("self-hosted",), Reason.AMBIGUOUS, "do not say which pool"),
        (("gpu", "small"), Reason.UNKNOWN_POOL, "no pool has all of the labels"),
        (("windows",), Reason.UNKNOWN_POOL, "small (linux, x64, small)"),
        ((), Reason.UNKNOWN_POOL, "no pool has all"),
    ],
)
def test_labels_that_match_no_single_pool_are_refused(
    labels: tuple[str, ...], reason: Reason, words: str
):
    found = by_match(*labels)
    assert isinstance(found, Refused)
    assert found.reason is reason
    assert words in found.sentence
