"""Releases: which version of GitHub's runner is given jobs, and for how long."""

from datetime import timedelta

import pytest

from mayfly.model.releases import MINIMUM, Outlook, Release, Version, days_left, version_in
from tests.fakes.clocks import NOON

V330, V331, V332 = Version(2, 330, 0), Version(2, 331, 0), Version(2, 332, 0)


def release(version: Version, age: float) -> Release:
    """First seen so many days ago."""
    return Release(version, NOON - timedelta(days=age))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2.330.0", V330),
        ("v2.330.0", V330),
        ("actions-runner-linux-x64-2.330.0.tar.gz", V330),
        ("actions-runner-win-arm64-2.330.0.zip", V330),
        ("actions-runner-linux-x64-2.330.0-noruntime.tar.gz", V330),
        ("", None),
        ("next", None),
        ("2.330", None),
        ("2.330.0.1", V330),
        ("2.3300000000.0", None),
    ],
)
def test_a_version_is_found_in_a_name(text: str, version: Version | None):
    assert version_in(text) == version


def test_versions_compare_by_their_numbers():
    assert Version(2, 99, 9) < MINIMUM < V330 < Version(2, 330, 1) < Version(2, 1000, 0)
    assert str(V330) == "2.330.0"


@pytest.mark.parametrize(
    ("version", "releases", "days"),
    [
        (V332, [release(V332, 100)], 30.0),  # nothing newer
        (V332, [release(V331, 100)], 30.0),  # newer than what was seen
        (V331, [release(V332, 0)], 30.0),
        (V331, [release(V332, 20.5)], 9.5),
        (V330, [release(V331, 25), release(V332, 3)], 5.0),  # by the first newer one
        (V331, [release(V331, 25), release(V332, 3)], 27.0),
        (V330, [release(V332, 25), release(V331, 3)], 5.0),  # a repair of an older line comes later
        (V331, [release(V332, 30)], 0.0),
        (V331, [release(V332, 50)], 0.0),
        (MINIMUM, [release(V332, 1)], 29.0),
        (Version(2, 328, 9), [release(V332, 1)], 0.0),  # below the minimum
        (Version(2, 311, 0), [release(Version(2, 311, 0), 90)], 30.0),  # what a server offers
    ],
)
def test_a_version_is_given_jobs_for_30_days_after_the_next_one(
    version: Version, releases: list[Release], days: float
):
    assert days_left(version, releases, NOON) == days


@pytest.mark.parametrize(
    ("days", "outdated", "refused"),
    [(30.0, False, False), (10.1, False, False), (10.0, True, False), (0.1, True, False)],
)
def test_the_last_ten_days_are_told(days: float, *, outdated: bool, refused: bool):
    outlook = Outlook(days, "m1", V330, V332)
    assert (outlook.outdated, outlook.refused) == (outdated, refused)


def test_no_days_left_means_refused():
    outlook = Outlook(0.0, "m1", V330, V332)
    assert (outlook.outdated, outlook.refused) == (True, True)


@pytest.mark.parametrize(
    ("days", "words"),
    [(0.0, "no jobs any more;"), (0.1, "after 1 more day(s);"), (9.0, "after 9 more day(s);")],
)
def test_the_sentence_says_how_long_and_what_to_do(days: float, words: str):
    sentence = Outlook(days, "m1", V330, V332).sentence
    assert sentence.startswith("machine m1 runs version 2.330.0 of GitHub's runner")
    assert words in sentence
    assert sentence.endswith("install 2.332.0")
