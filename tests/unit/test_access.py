"""Access rules as values."""

import pytest

from mayfly.model.access import AccessRule, by_identity, first_allowing, parsed_subject
from mayfly.model.errors import InvalidSettings

OWNER = AccessRule(owner="Octo", label="linux")
REPOSITORY = AccessRule(owner="octo", repository="hello", label="Linux")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (OWNER, "AllowOwner Octo → linux"),
        (REPOSITORY, "AllowRepository octo/hello → Linux"),
        (
            AccessRule(owner="octo", label="linux", declared=True),
            "AllowOwner octo → linux (declared in mayfly.toml)",
        ),
    ],
)
def test_a_rule_says_what_it_is(rule: AccessRule, words: str):
    assert str(rule) == words


def test_case_does_not_make_another_rule():
    assert OWNER.identity == AccessRule(owner="OCTO", label="LINUX").identity
    assert OWNER.identity != REPOSITORY.identity


def test_a_repository_named_none_is_not_the_whole_owner():
    named_none = AccessRule(owner="octo", repository="None", label="linux")
    assert first_allowing(by_identity([named_none]), "octo", "hello", "linux") is None


def test_the_wider_rule_and_the_declared_one_are_named_first():
    declared = AccessRule(owner="octo", label="linux", declared=True)
    assert first_allowing(by_identity([REPOSITORY, declared]), "OCTO", "Hello", "linux") == declared
    assert first_allowing(by_identity([REPOSITORY, OWNER]), "octo", "hello", "linux") == OWNER
    assert first_allowing(by_identity([REPOSITORY, OWNER]), "octo", "world", "linux") == OWNER
    assert first_allowing(by_identity([REPOSITORY]), "octo", "world", "linux") is None


@pytest.mark.parametrize(
    ("text", "parts"), [("octo", ("octo", None)), ("octo/hello.py", ("octo", "hello.py"))]
)
def test_a_subject_is_an_owner_or_a_repository(text: str, parts: tuple[str, str | None]):
    assert parsed_subject(text) == parts


@pytest.mark.parametrize("text", ["", "octo/", "/hello", "a/b/c", "*", "octo/ ", "o cto"])
def test_what_is_neither_grants_nothing(text: str):
    with pytest.raises(InvalidSettings, match="neither OWNER nor OWNER/REPOSITORY"):
        parsed_subject(text)
