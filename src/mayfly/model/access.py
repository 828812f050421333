"""Access rules: who may use which pool, and the decision about one workflow job."""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NewType

import msgspec

from mayfly.model.errors import InvalidSettings

Scope = NewType("Scope", str)
"""Where a runner is registered: `repos/OWNER/REPO` or `orgs/OWNER`, a path of GitHub's API."""

Identity = tuple[str, str, str | None]
"""Label, owner and repository in lower case: what makes two rules the same rule."""


class AccessRule(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """AllowRepository(owner, repository, label), or AllowOwner(owner, label) without a repository.

    `label` is the pool's name. Compared without regard to case, as GitHub compares names.
    """

    label: str
    owner: str
    repository: str | None = None
    declared: bool = False
    """Declared in mayfly.toml, so it cannot be changed at run time."""

    @property
    def covers_owner(self) -> bool:
        """True for AllowOwner, which covers every repository of the owner."""
        return self.repository is None

    @property
    def subject(self) -> str:
        """`owner`, or `owner/repository`."""
        return self.owner if self.repository is None else f"{self.owner}/{self.repository}"

    @property
    def identity(self) -> Identity:
        """What makes two rules the same rule."""
        repository = None if self.repository is None else self.repository.lower()
        return (self.label.lower(), self.owner.lower(), repository)

    def __str__(self) -> str:
        kind = "AllowOwner" if self.covers_owner else "AllowRepository"
        origin = " (declared in mayfly.toml)" if self.declared else ""
        return f"{kind} {self.subject} → {self.label}{origin}"


class Reason(StrEnum):
    """Why a workflow job gets no runner from Mayfly."""

    NOT_SELF_HOSTED = "not_self_hosted"
    NO_POOL_NAMED = "no_pool_named"
    UNKNOWN_POOL = "unknown_pool"
    INVALID_LABEL = "invalid_label"
    TOO_MANY_LABELS = "too_many_labels"
    VARIANT_MISSING = "variant_missing"
    VARIANT_NOT_ALLOWED = "variant_not_allowed"
    AMBIGUOUS = "ambiguous"
    NOT_ALLOWED = "not_allowed"
    NO_INSTALLATION = "no_installation"
    PENDING_CHECK = "pending_check"
    """Not yet: the access rules cannot be read. Decided again until they can."""


class Admitted(msgspec.Struct, frozen=True, kw_only=True, tag="admitted"):
    """The job may have a runner of `pool`, registered at `scope`, because of `rule`."""

    pool: str
    variant: str | None
    scope: Scope
    rule: str


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The job gets no runner; `sentence` says what, where and what to do."""

    reason: Reason
    sentence: str

    @property
    def pending(self) -> bool:
        """No decision yet, and none that replaces an admission."""
        return self.reason is Reason.PENDING_CHECK


Decision = Admitted | Refused


GITHUB_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
"""Accounts and repositories have no other characters at GitHub, so none is left to be escaped."""


def parsed_subject(text: str) -> tuple[str, str | None]:
    """`OWNER` or `OWNER/REPOSITORY` in its parts; InvalidSettings for anything else.

    `OWNER/` is no owner: a script whose variable is empty must not grant everything.
    """
    owner, slash, repository = text.partition("/")
    names = [owner, repository] if slash else [owner]
    if not all(GITHUB_NAME.fullmatch(name) for name in names):
        raise InvalidSettings(f"{text!r} is neither OWNER nor OWNER/REPOSITORY, as in octo/hello")
    return owner, repository if slash else None


def by_identity(rules: Iterable[AccessRule]) -> dict[Identity, AccessRule]:
    """The rules, found by what they allow."""
    return {rule.identity: rule for rule in rules}


def first_allowing(
    rules: Mapping[Identity, AccessRule], owner: str, repository: str, label: str
) -> AccessRule | None:
    """The rule that lets `owner/repository` use `label`; AllowOwner is named before a finer one."""
    label, owner = label.lower(), owner.lower()
    return rules.get((label, owner, None)) or rules.get((label, owner, repository.lower()))
