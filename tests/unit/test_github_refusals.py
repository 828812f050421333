"""GitHub's refusals, in its own words, and what they are turned into."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mayfly.github.refusals import Asked, Refusal, error_of, read_refusal
from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    RateLimited,
    RefusalKind,
)

NOW = datetime(2025, 11, 3, 10, 0, tzinfo=UTC)
APP = Asked("open the installation", "installation 5", by="4711")
MINT = Asked("mint runner m-1 for octo-org/octo-repo", "octo-org/octo-repo", "administration=write")
ISSUED_AT = (
    "'Issued at' claim ('iat') must be an Integer representing the time that the assertion "
    "was issued"
)
EXPIRED = (
    "'Expiration time' claim ('exp') must be a numeric value representing the future time at "
    "which the assertion expires"
)
ALLOW_LIST = (
    "Although you appear to have the correct authorization credentials, the `octo-org` "
    "organization has an IP allow list enabled, and your IP address is not permitted to access "
    "this resource."
)
NOT_ACCESSIBLE = "Resource not accessible by integration"
RUNNERS_DISABLED = "Forbidden: Repository level self-hosted runners are disabled on this repository"
GROUP_FULL = "Invalid Argument - Runner group 1 has reached max limit of 10000 runners."


def error(asked=MINT, status=403, message="", headers=None, granted=None) -> Any:
    return error_of(Refusal(status, message, headers or {}), asked, NOW, granted)


@pytest.mark.parametrize(
    ("asked", "status", "message", "kind"),
    [
        (APP, 401, "A JSON web token could not be decoded", RefusalKind.BAD_KEY),
        (APP, 401, "Integration must generate a public key", RefusalKind.BAD_KEY),
        (APP, 401, "Bad credentials", RefusalKind.BAD_KEY),
        (APP, 404, "Integration not found", RefusalKind.BAD_KEY),
        (APP, 401, ISSUED_AT, RefusalKind.CLOCK_SKEW),
        (
            APP,
            401,
            "'Expiration time' claim ('exp') is too far in the future",
            RefusalKind.CLOCK_SKEW,
        ),
        (APP, 401, EXPIRED, RefusalKind.CLOCK_SKEW),
        (APP, 403, "This installation has been suspended", RefusalKind.SUSPENDED),
        (MINT, 403, "This installation has been suspended", RefusalKind.SUSPENDED),
        (APP, 404, "Not Found", RefusalKind.NOT_INSTALLED),
        (MINT, 403, NOT_ACCESSIBLE, RefusalKind.MISSING_PERMISSION),
        (MINT, 404, "Not Found", RefusalKind.REPOSITORY_GONE),
        (MINT, 301, "Moved Permanently", RefusalKind.REPOSITORY_GONE),
        (MINT, 451, "Repository access blocked", RefusalKind.REPOSITORY_GONE),
        (MINT, 403, ALLOW_LIST, RefusalKind.ADDRESS_NOT_ALLOWED),
        (MINT, 403, RUNNERS_DISABLED, RefusalKind.RUNNERS_DISABLED),
        (
            MINT,
            422,
            "Actions has been disabled for this repository.",
            RefusalKind.ACTIONS_DISABLED,
        ),
        (MINT, 422, GROUP_FULL, RefusalKind.GROUP_FULL),
        (
            MINT,
            409,
            "Already exists - A runner with the name *** already exists.",
            RefusalKind.NAME_EXISTS,
        ),
        (MINT, 422, "Validation Failed: labels must be unique", RefusalKind.INVALID_REQUEST),
        (MINT, 400, "Problems parsing JSON", RefusalKind.INVALID_REQUEST),
        (MINT, 403, "Must have admin rights to Repository.", RefusalKind.MISSING_PERMISSION),
        (MINT, 403, "something nobody has seen before", RefusalKind.UNKNOWN),
        (MINT, 403, "", RefusalKind.UNKNOWN),
        (MINT, 422, "", RefusalKind.UNKNOWN),
        (MINT, 418, "I'm a teapot", RefusalKind.UNKNOWN),
        (MINT, 304, "", RefusalKind.UNKNOWN),
        (APP, 301, "Moved Permanently", RefusalKind.UNKNOWN),
        (APP, 422, "Invalid cursor", RefusalKind.INVALID_REQUEST),
    ],
)
def test_each_refusal_has_its_kind(asked, status, message, kind):
    refused = error(asked, status, message)
    assert isinstance(refused, GitHubRefused)
    assert refused.kind is kind


SENTENCES = [
    (APP, 403, "This installation has been suspended", "unsuspend it under Settings"),
    (MINT, 403, NOT_ACCESSIBLE, "lacks the permission administration=write"),
    (MINT, 403, "Must have admin rights to Repository.", "grant it administration=write"),
    (MINT, 403, RUNNERS_DISABLED, "an organization owner has to allow them"),
    (MINT, 422, "Actions has been disabled for this repository.", "enable it under Settings"),
    (MINT, 403, ALLOW_LIST, "organization owner has to add it"),
    (MINT, 422, GROUP_FULL, "remove runners that are offline"),
    (MINT, 409, "Already exists", "a runner of this name exists already"),
    (MINT, 404, "Not Found", "renamed or deleted"),
    (MINT, 429, "", "rate limit for octo-org/octo-repo is used up until 10:01:00 UTC"),
    (MINT, 403, "You have exceeded a secondary rate limit.", "secondary rate limit"),
    (APP, 401, "A JSON web token could not be decoded", "private key is not one of GitHub App"),
    (APP, 401, ISSUED_AT, "set the clock, for example with NTP"),
    (APP, 404, "Integration not found", "correct app_id"),
    (APP, 404, "Not Found", "an owner has to install the App again"),
]


@pytest.mark.parametrize(("asked", "status", "message", "advice"), SENTENCES)
def test_each_refusal_tells_a_person_what_to_do_and_where(asked, status, message, advice):
    said = str(error(asked, status, message))
    assert advice in said
    assert any(word in said for word in (asked.where, asked.what, "App 4711", "this machine"))


def test_no_two_refusals_have_the_same_sentence():
    said = {str(error(asked, status, message)) for asked, status, message, _ in SENTENCES}
    assert len(said) == len(SENTENCES)


def test_an_answer_nobody_foresaw_says_what_it_takes_to_foresee_it():
    said = str(error(MINT, 418, "I'm a teapot", {"x-github-request-id": "AB12:3F:99"}))
    assert "418" in said
    assert '"I\'m a teapot"' in said
    assert "AB12:3F:99" in said


@pytest.mark.parametrize("request_id", ["", "AB\x1b[2J", "a b", "x" * 200, "{what}"])
def test_a_request_id_that_is_none_is_not_repeated(request_id):
    said = str(error(MINT, 418, "no", {"x-github-request-id": request_id}))
    assert "(it has none)" in said


def test_the_sentence_about_the_clock_says_how_far_it_is_off():
    headers = {"date": "Mon, 03 Nov 2025 09:53:00 GMT"}
    said = str(error(APP, 401, "'Expiration time' claim ('exp') is too far", headers))
    assert "wrong by 420 s (it is ahead)" in said


def test_a_repository_outside_of_the_installation_is_told_from_a_missing_permission():
    without = error(MINT, 403, NOT_ACCESSIBLE, granted={"administration": "read"})
    outside = error(MINT, 403, NOT_ACCESSIBLE, granted={"administration": "write"})
    assert without.kind is RefusalKind.MISSING_PERMISSION
    assert outside.kind is RefusalKind.NOT_INSTALLED
    assert "list of repositories" in str(outside)


def test_the_permission_github_names_counts_more_than_what_we_know():
    headers = {"x-accepted-github-permissions": "checks=write,actions=read; administration=write"}
    for granted, kind in (
        ({"checks": "write"}, RefusalKind.MISSING_PERMISSION),
        ({"checks": "write", "actions": "write"}, RefusalKind.NOT_INSTALLED),
        ({"administration": "admin"}, RefusalKind.NOT_INSTALLED),
    ):
        refused = error(MINT, 403, NOT_ACCESSIBLE, headers, granted)
        assert refused.kind is kind, granted
    assert "checks=write,actions=read" in str(error(MINT, 403, NOT_ACCESSIBLE, headers))


@pytest.mark.parametrize(
    ("status", "message", "headers", "seconds"),
    [
        (429, "", {}, 60),
        (429, "Too many requests", {"retry-after": "7"}, 7),
        (403, "You have exceeded a secondary rate limit.", {"retry-after": "30"}, 30),
        (403, "You have exceeded a secondary rate limit.", {}, 60),
        (403, "You have triggered an abuse detection mechanism.", {}, 60),
        (
            403,
            "API rate limit exceeded for installation ID 5.",
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW.timestamp()) + 900)},
            900,
        ),
        (
            403,
            "API rate limit exceeded",
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW.timestamp()) - 9)},
            1,
        ),
        (429, "", {"retry-after": "Mon, 03 Nov 2025 10:02:00 GMT"}, 120),
        (429, "", {"retry-after": "-5"}, 60),
        (429, "", {"retry-after": "٣"}, 60),
        (429, "", {"retry-after": "9" * 400}, 24 * 3600),
        (429, "", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, 60),
    ],
)
def test_a_rate_limit_says_when_to_come_back(status, message, headers, seconds):
    limited = error(MINT, status, message, headers)
    assert isinstance(limited, RateLimited)
    assert limited.retry_at == NOW + timedelta(seconds=seconds)


def test_a_refusal_with_the_last_call_of_the_hour_is_still_the_refusal():
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1762164000"}
    assert error(MINT, 403, "This installation has been suspended", headers).kind is (
        RefusalKind.SUSPENDED
    )


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 599])
def test_a_broken_github_may_have_done_it(status):
    broken = error(MINT, status, "Server Error", {"retry-after": "3"})
    assert isinstance(broken, GitHubUnreachable)
    assert broken.retry_at == NOW + timedelta(seconds=3)


def test_githubs_words_are_collected_from_wherever_they_stand():
    for body, said in (
        (b'{"message": "Forbidden", "errors": "runners are disabled"}', "runners are disabled"),
        (b'{"message": "Validation Failed", "errors": ["too long"]}', "too long"),
        (b'{"message": "No", "errors": [{"message": "bad field"}, 3]}', "bad field"),
        (b'{"message": "Nothing more"}', "Nothing more"),
    ):
        assert said in read_refusal(403, {}, body).message
    for body in (b"", b"<html>", b"[]", b'{"message": 3}', b"[" * 100_000):
        assert read_refusal(403, {}, body).message == ""


def test_what_github_quotes_of_strangers_cannot_steer_a_terminal():
    said = str(error(MINT, 422, "label \x1b[2J\n" + "x" * 1000))
    assert said.isprintable()
    assert len(said) < 400


def test_braces_in_githubs_words_are_words():
    assert "{what} {0}" in str(error(MINT, 422, "label {what} {0}"))
