"""What GitHub says when it does not do what it is asked, and the sentence a person can act on."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from mayfly.model.errors import (
    GitHubRefused,
    GitHubUnreachable,
    MayflyError,
    RateLimited,
    RefusalKind,
)
from mayfly.model.httpdates import http_date

_LONGEST_QUOTE = 200
_LONGEST_HOLD = timedelta(hours=24)
_REQUEST_ID = re.compile(r"[0-9A-Za-z:-]{1,100}")
_UNNAMED_HOLD = timedelta(seconds=60)
"""GitHub asks for at least a minute when it names no time.

Source: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""


class Asked(NamedTuple):
    """What was asked of GitHub, in words for a person."""

    what: str
    """A verb phrase: `mint a runner for octo-org/octo-repo`."""
    where: str
    """What a person opens to repair it: `octo-org/octo-repo`, `organization octo-org`."""
    needs: str = ""
    """The permission it takes, as GitHub writes it: `administration=write`."""
    by: str = ""
    """The App's id when the App itself asks, with its key; empty for an installation."""


class Refusal(NamedTuple):
    """An answer of 300 or more."""

    status: int
    message: str
    headers: Mapping[str, str]

    @property
    def request_id(self) -> str:
        """By which GitHub's support finds the call; empty when there is none."""
        found = self.headers.get("x-github-request-id", "")
        return found if _REQUEST_ID.fullmatch(found) else ""


class _Row(NamedTuple):
    """One line of the table: who asked, which answer, and what it means."""

    asker: str
    statuses: frozenset[int]
    pattern: re.Pattern[str]
    kind: RefusalKind
    sentence: str


def _row(asker: str, statuses: set[int], pattern: str, kind: RefusalKind, sentence: str) -> _Row:
    compiled = re.compile(pattern, re.IGNORECASE)
    return _Row(asker, frozenset(statuses), compiled, kind, sentence)


_APP, _INSTALLATION, _ANY = "app", "installation", "any"

_ANSWERED = "could not {what}: GitHub answered {status} and said: {quote}"
_UNKNOWN = (
    "could not {what}: GitHub gave an answer Mayfly does not know, {status}, and said: {quote}; "
    "report it with its request id {request_id}"
)

_TABLE = (
    # GitHub's own words, as users report them; the first row that fits decides.
    _row(
        _APP,
        {401},
        r"'(issued at|expiration time)' claim",
        RefusalKind.CLOCK_SKEW,
        "the clock of this machine is wrong{skew}, so GitHub does not accept the App's token; "
        "set the clock, for example with NTP (GitHub said: {quote})",
    ),
    _row(
        _APP,
        {401},
        "",
        RefusalKind.BAD_KEY,
        "the private key is not one of GitHub App {by}; create a key in the App's settings and "
        "put it in place of this one, or correct app_id (GitHub said: {quote})",
    ),
    _row(
        _APP,
        {404},
        r"integration not found",
        RefusalKind.BAD_KEY,
        "GitHub knows no App {by}; correct app_id, or api_url if the App lives on another GitHub",
    ),
    _row(
        _ANY,
        {403},
        r"\bsuspended\b",
        RefusalKind.SUSPENDED,
        "the App is suspended on {where}; an owner there has to unsuspend it under "
        "Settings → GitHub Apps",
    ),
    _row(
        _ANY,
        {401, 403},
        r"ip allow list|ip address .* not permitted",
        RefusalKind.ADDRESS_NOT_ALLOWED,
        "the address of this machine is not on the IP allow list of {where}; an organization "
        "owner has to add it under Settings → Authentication security",
    ),
    _row(
        _ANY,
        {403, 404, 409, 422},
        r"self-hosted runners (are|have been) disabled",
        RefusalKind.RUNNERS_DISABLED,
        "repository-level self-hosted runners are disabled for {where}; an organization owner "
        "has to allow them under Settings → Actions → General → Runners",
    ),
    _row(
        _ANY,
        {403, 404, 409, 422},
        r"actions (is|are|has been|have been) (currently )?disabled",
        RefusalKind.ACTIONS_DISABLED,
        "GitHub Actions is disabled for {where}; enable it under Settings → Actions → General",
    ),
    _row(
        _ANY,
        {403, 409, 422},
        r"max(imum)? (limit|number) of [\d,]* ?runners|runner group .*(is full|max)",
        RefusalKind.GROUP_FULL,
        "the runner group of {where} is full; remove runners that are offline under "
        "Settings → Actions → Runners (GitHub said: {quote})",
    ),
    _row(
        _INSTALLATION,
        {409},
        "",
        RefusalKind.NAME_EXISTS,
        "could not {what}: a runner of this name exists already (GitHub said: {quote})",
    ),
    _row(
        _APP,
        {404},
        "",
        RefusalKind.NOT_INSTALLED,
        "{where} is not an installation of this App (any more); an owner has to install the App "
        "again, which gives it another id",
    ),
    _row(
        _INSTALLATION,
        {301, 302, 307, 308, 404, 410, 451},
        "",
        RefusalKind.REPOSITORY_GONE,
        "could not {what}: GitHub shows this installation no {where}; it was renamed or deleted, "
        "or it has to be added to the App's repositories under Settings → GitHub Apps",
    ),
    _row(
        _ANY,
        {403},
        r"must have admin rights",
        RefusalKind.MISSING_PERMISSION,
        "could not {what}: the App has not enough rights on {where}; grant it {needs} in the "
        "App's settings, then an owner has to accept it under Settings → GitHub Apps",
    ),
    _row(_ANY, {400, 422}, r"\S", RefusalKind.INVALID_REQUEST, _ANSWERED),
)


def error_of(
    refusal: Refusal, asked: Asked, now: datetime, granted: Mapping[str, str] | None = None
) -> MayflyError:
    """The error for an answer of 300 or more.

    `granted` are the permissions of the installation, which alone tell a missing permission from
    a repository the App is not installed on: GitHub says the same sentence for both.
    """
    if refusal.status >= 500 or refusal.status == 408:
        return GitHubUnreachable(
            _written(_ANSWERED, refusal, asked, now), retry_at=_retry_after(refusal, now)
        )
    if refusal.status == 403 and "not accessible by integration" in refusal.message.lower():
        return _not_accessible(asked, _needs(refusal, asked), granted)
    row = _fitting(refusal, asked)
    if row is not None:
        return GitHubRefused(row.kind, _written(row.sentence, refusal, asked, now))
    if _limited(refusal):
        return _rate_limited(refusal, asked, now)
    return GitHubRefused(RefusalKind.UNKNOWN, _written(_UNKNOWN, refusal, asked, now))


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """GitHub's words in an answer; `errors` belong to them and may be a text, a list or objects."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, RecursionError):
        return Refusal(status, "", headers)
    return Refusal(status, ": ".join(filter(None, (problem.message, problem.details))), headers)


class _Problem(msgspec.Struct, frozen=True):
    message: str = ""
    errors: object = None

    @property
    def details(self) -> str:
        errors = self.errors if isinstance(self.errors, list) else [self.errors]
        texts = (error.get("message") if isinstance(error, dict) else error for error in errors)
        return ", ".join(text for text in texts if isinstance(text, str))


def _fitting(refusal: Refusal, asked: Asked) -> _Row | None:
    asker = _APP if asked.by else _INSTALLATION
    rows = (row for row in _TABLE if row.asker in {_ANY, asker} and refusal.status in row.statuses)
    return next((row for row in rows if row.pattern.search(refusal.message)), None)


def _written(sentence: str, refusal: Refusal, asked: Asked, now: datetime) -> str:
    return sentence.format(
        what=asked.what,
        where=asked.where,
        by=asked.by,
        needs=_needs(refusal, asked) or "more",
        request_id=refusal.request_id or "(it has none)",
        status=refusal.status,
        quote=quoted(refusal.message),
        skew=_skew(refusal, now),
    )


def quoted(message: str) -> str:
    """GitHub's words, as they may be shown."""
    # What GitHub says may repeat what a stranger wrote; control characters stay out of terminals.
    shown = "".join(c if c.isprintable() else " " for c in message[:_LONGEST_QUOTE])
    return f'"{shown}"' if shown else "nothing"


def _skew(refusal: Refusal, now: datetime) -> str:
    theirs = http_date(refusal.headers.get("date", ""))
    if theirs is None:
        return ""
    seconds = round((now - theirs).total_seconds())
    return f" by {abs(seconds)} s (it is {'ahead' if seconds > 0 else 'behind'})"


def _needs(refusal: Refusal, asked: Asked) -> str:
    return refusal.headers.get("x-accepted-github-permissions", "")[:_LONGEST_QUOTE] or asked.needs


def _not_accessible(asked: Asked, needs: str, granted: Mapping[str, str] | None) -> GitHubRefused:
    if granted is not None and _satisfied(needs, granted):
        return GitHubRefused(
            RefusalKind.NOT_INSTALLED,
            f"could not {asked.what}: the App has the permission but not {asked.where} in its "
            "list of repositories; an owner has to add it under Settings → GitHub Apps",
        )
    return GitHubRefused(
        RefusalKind.MISSING_PERMISSION,
        f"could not {asked.what}: the App lacks the permission {needs or 'for it'}; grant it in "
        "the App's settings, then an owner has to accept it under Settings → GitHub Apps",
    )


_LEVELS = {"read": 1, "write": 2, "admin": 3}


def _satisfied(needs: str, granted: Mapping[str, str]) -> bool:
    """`a=write,b=read; c=read` means (a and b) or c."""
    return any(
        alternative.strip()
        and all(has(one.strip(), granted) for one in alternative.split(",") if one.strip())
        for alternative in needs.split(";")
    )


def has(permission: str, granted: Mapping[str, str]) -> bool:
    """Whether `name=level` is granted, or more."""
    name, _, level = permission.partition("=")
    return _LEVELS.get(granted.get(name, ""), 0) >= _LEVELS.get(level, 1)


def _limited(refusal: Refusal) -> bool:
    if refusal.status == 429:
        return True
    headers, message = refusal.headers, refusal.message.lower()
    return refusal.status == 403 and (
        "retry-after" in headers
        or headers.get("x-ratelimit-remaining") == "0"
        or "rate limit" in message
        or "abuse detection" in message
    )


def _rate_limited(refusal: Refusal, asked: Asked, now: datetime) -> RateLimited:
    retry_at = _retry_after(refusal, now) or _reset(refusal, now) or now + _UNNAMED_HOLD
    return RateLimited(
        f"could not {asked.what}: GitHub's rate limit for {asked.where} is used up until "
        f"{retry_at:%H:%M:%S} UTC (GitHub said: {quoted(refusal.message)})",
        retry_at=retry_at,
    )


def _retry_after(refusal: Refusal, now: datetime) -> datetime | None:
    text = refusal.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        # Ten digits are enough for any honest wait, and do not overflow a timedelta.
        return now + min(timedelta(seconds=int(text[:10])), _LONGEST_HOLD)
    at = http_date(text)
    return None if at is None else min(max(at, now), now + _LONGEST_HOLD)


def _reset(refusal: Refusal, now: datetime) -> datetime | None:
    text = refusal.headers.get("x-ratelimit-reset", "").strip()
    spent = refusal.headers.get("x-ratelimit-remaining") == "0"
    if not spent or not (text.isascii() and text.isdigit()):
        return None
    wait = timedelta(seconds=min(int(text[:12]) - now.timestamp(), _LONGEST_HOLD.total_seconds()))
    return now + max(wait, timedelta(seconds=1))
