"""Pools as an operator declares them."""

from typing import Any

import msgspec
import pytest

from mayfly.model.errors import InvalidSettings
from mayfly.model.pools import Convention, Pool, VariantRule, checked, warnings


def test_good_pools_come_back_as_they_are():
    pools = (Pool(name="linux"), Pool(name="arm64", max=1, max_per_owner=1))
    assert checked(pools, Convention.SEQUENCE) == pools


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"name": ""}, "use printable ASCII"),
        ({"name": "lïnux"}, "use printable ASCII"),
        ({"name": "a,b"}, "without commas"),
        ({"name": "a\tb"}, "use printable ASCII"),
        ({"name": "a/b"}, "must not contain '/'"),
        ({"name": "Self-Hosted"}, "nor be 'self-hosted'"),
        ({"max": 0}, "max is 0; it must be at least 1"),
        ({"max_per_owner": 0}, "max_per_owner is 0"),
        ({"idle_buffer": 1}, "need a launcher"),
        ({"overflow_after_seconds": 1.0}, "need a launcher"),
        ({"launcher": "cloud", "idle_buffer": 5}, "idle_buffer is 5"),
        ({"launcher": "cloud", "idle_buffer": -1}, "idle_buffer is -1"),
        ({"launcher": "cloud", "overflow_after_seconds": -1.0}, "must not be negative"),
        ({"launcher": "cloud", "start_deadline_seconds": 0.0}, "must be more than 0"),
        ({"variants": ("a",)}, 'variant = "absent"'),
    ],
)
def test_a_bad_pool_is_refused_with_a_sentence(facts: dict[str, Any], words: str):
    pool = Pool(**{"name": "linux", **facts})
    with pytest.raises(InvalidSettings, match=r"^pool .* in mayfly\.toml: ") as refused:
        checked((pool,), Convention.SEQUENCE)
    assert words in str(refused.value)


def test_two_pools_of_one_name_are_refused_without_regard_to_case():
    with pytest.raises(InvalidSettings, match="declared twice"):
        checked((Pool(name="linux"), Pool(name="LINUX")), Convention.SEQUENCE)


def test_the_only_private_label_becomes_the_own_label():
    pools = checked(
        (Pool(name="a", labels=("linux", "a")), Pool(name="b", labels=("LINUX", "b"))),
        Convention.MATCH,
    )
    assert [pool.own for pool in pools] == ["a", "b"]


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ({}, 'needs labels = ["…"]'),
        ({"labels": ("linux",)}, "add a label no other pool has"),
        ({"labels": ("linux", "x", "y")}, "one of x, y"),
        ({"labels": ("linux", "x"), "own": "linux"}, "and of no other pool's"),
        ({"labels": ("linux", "x"), "own": "z"}, "must be one of its labels"),
    ],
)
def test_a_pool_without_an_own_label_is_refused(first: dict[str, Any], words: str):
    pools = (Pool(name="a", **first), Pool(name="b", labels=("linux", "b")))
    with pytest.raises(InvalidSettings) as refused:
        checked(pools, Convention.MATCH)
    assert words in str(refused.value)


def test_optional_variants_are_warned_of():
    pools = (Pool(name="a", variant=VariantRule.OPTIONAL), Pool(name="b"))
    (warning,) = warnings(pools)
    assert warning.startswith("pool 'a'")


def test_an_unknown_setting_is_refused():
    with pytest.raises(msgspec.ValidationError, match="colour"):
        msgspec.convert({"name": "linux", "colour": "red"}, Pool)
