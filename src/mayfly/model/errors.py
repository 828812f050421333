"""What can go wrong; the class decides what happens next."""

from datetime import datetime
from enum import StrEnum


class MayflyError(Exception):
    """Everything Mayfly raises on purpose; its text is written for the person who reads it."""


class Transient(MayflyError):
    """Try again, not before `retry_at` where it is known."""

    def __init__(self, sentence: str, *, retry_at: datetime | None = None) -> None:
        super().__init__(sentence)
        self.retry_at = retry_at


class Permanent(MayflyError):
    """Trying again changes nothing; a person has to act."""


class StaleClaim(MayflyError):
    """The ledger has moved on: this claim, boot or generation is no longer the current one."""


class Unauthentic(MayflyError):
    """The caller has not proven who it is."""


class NotFound(MayflyError):
    """The named thing is not in the ledger."""


class InvalidSettings(MayflyError):
    """The configuration cannot be used; nothing was started (exit code 2)."""


def not_installed(what: str, extra: str, error: ImportError) -> InvalidSettings:
    """A backend whose packages come with an extra."""
    said = str(error) if error.name is None else f"there is no module {error.name}"
    return InvalidSettings(
        f"{what} cannot be used: {said}; run `pip install 'mayfly-runners[{extra}]'`"
    )


class RefusalKind(StrEnum):
    """Why GitHub said no, told apart because another person has to act on each."""

    BAD_KEY = "bad_key"
    CLOCK_SKEW = "clock_skew"
    SUSPENDED = "installation_suspended"
    NOT_INSTALLED = "repository_not_in_installation"
    MISSING_PERMISSION = "missing_permission"
    RUNNERS_DISABLED = "self_hosted_runners_disabled"
    ACTIONS_DISABLED = "actions_disabled"
    ADDRESS_NOT_ALLOWED = "address_not_on_allow_list"
    GROUP_FULL = "runner_group_full"
    NAME_EXISTS = "runner_name_exists"
    REPOSITORY_GONE = "repository_gone"
    INVALID_REQUEST = "invalid_request"
    DELIVERY_GONE = "delivery_gone"
    UNKNOWN = "unknown"


class GitHubRefused(Permanent):
    """GitHub understood and said no; `kind` tells who has to act."""

    def __init__(self, kind: RefusalKind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class GitHubUnreachable(Transient):
    """A time-out, a broken connection or a 5xx: the call may or may not have taken effect."""


class RateLimited(Transient):
    """GitHub's primary or secondary limit, or our own pacing in front of it."""
