"""What GitHub said about the App, its webhook and its installations, as findings; no I/O."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from mayfly.github.answers import App, Hook, Installation, Rate
from mayfly.github.refusals import has
from mayfly.model.deliveries import Attempt
from mayfly.model.findings import Finding, good, unchecked, warning, wrong

WORST_SKEW = timedelta(seconds=30)
"""GitHub takes a token up to a minute from the future, so more leaves no room for drift."""
RESERVE = 0.2
"""Repairs leave this share of an hour's calls to minting."""
_FEW_FAILURES = 0.1
_MOST_NAMED = 5
_PATH = "/webhooks/github"
_EVENT = "workflow_job"
_ACCEPT = "an owner accepts it under Settings → GitHub Apps"
_ORGANIZATION = "organization_"


class Needs(NamedTuple):
    """What the control plane's settings ask of the App."""

    permissions: Sequence[str]
    """As GitHub writes them: `administration=write`."""
    push: bool
    """Whether webhooks are taken; else the delivery log is read."""


def judge_clock(ours: datetime, theirs: datetime | None) -> Finding:
    """The machine's clock against the `Date` of GitHub's answer."""
    if theirs is None:
        return unchecked("clock", "GitHub's answer has no date")
    skew = ours - theirs
    seconds = round(abs(skew).total_seconds())
    if abs(skew) <= WORST_SKEW:
        return good("clock", f"within {max(seconds, 1)} s of GitHub's")
    way = "ahead of" if skew > timedelta(0) else "behind"
    return wrong(
        "clock", f"{seconds} s {way} GitHub's", "set this machine's clock, for example with NTP"
    )


def judge_app(app: App, needs: Needs) -> list[Finding]:
    """The App's own permissions and events."""
    missing = _missing(needs.permissions, app.permissions)
    permissions = good("permissions", ", ".join(needs.permissions))
    if missing:
        permissions = wrong(
            "permissions",
            f"the App lacks {', '.join(missing)}",
            f"grant it in the App's settings under Permissions & events, then {_ACCEPT}",
        )
    event = good("event", f"{_EVENT} is subscribed")
    if _EVENT not in app.events:
        event = wrong(
            "event",
            f"the App does not subscribe to {_EVENT}, so it hears of no job",
            "tick Workflow job in the App's settings under Permissions & events",
        )
    return [permissions, event]


def judge_hook(hook: Hook | None, needs: Needs) -> Finding:
    """How the webhook is set up; None when GitHub shows none."""
    if hook is None or not hook.url:
        address = f"the URL https://HOST{_PATH}" if needs.push else "any URL of yours"
        return wrong(
            "webhook",
            "the App has no active webhook",
            f"activate it in the App's settings, with {address}",
        )
    url = _shown(hook.url)
    if not needs.push:
        return good("webhook", f"active at {url}; with intake = pull nothing has to answer there")
    if trouble := _trouble_of(hook):
        return wrong("webhook", *trouble)
    if str(hook.insecure_ssl) not in {"0", "0.0"}:
        return warning(
            "webhook",
            f"GitHub does not verify the certificate of {url}",
            "enable SSL verification in the App's settings",
        )
    return good("webhook", f"{url}, JSON, with a secret")


def _trouble_of(hook: Hook) -> tuple[str, str] | None:
    """Why no delivery would be taken, and what to do."""
    if urlsplit(hook.url).path != _PATH:
        where = f"end it with {_PATH}, where the control plane takes webhooks"
        return f"its URL is {_shown(hook.url)}", where
    if hook.content_type != "json":
        choice = "choose application/json in the App's settings"
        return f"its content type is {hook.content_type}", choice
    if not hook.secret:
        repair = "set the secret of webhook_secret_files in the App's settings"
        return "it has no secret, so every delivery is refused", repair
    return None


def judge_deliveries(attempts: Sequence[Attempt] | None, needs: Needs) -> Finding:
    """The newest attempts, newest first; None when GitHub shows no log."""
    if attempts is None:
        return unchecked("deliveries", "GitHub shows no delivery log")
    if not needs.push:
        return good("deliveries", "the delivery log can be read")
    failed = [attempt for attempt in attempts if not attempt.succeeded]
    if not attempts:
        return good("deliveries", "none yet")
    found = f"{len(failed)} of the last {len(attempts)} failed"
    if not failed:
        return good("deliveries", found)
    newest = failed[0]
    found += f", the newest at {newest.delivered_at:%Y-%m-%d %H:%M:%S} UTC"
    if attempts[0].succeeded and len(failed) <= _FEW_FAILURES * len(attempts):
        return good("deliveries", f"{found}; what failed is fetched from the log")
    return warning("deliveries", f"{found} with {_status(newest)}", _repair(newest.status_code))


def judge_installations(installations: Sequence[Installation], needs: Needs) -> list[Finding]:
    """Who can be served. Some who cannot are a warning, and wrong when nobody is left."""
    if not installations:
        return [
            wrong(
                "installations",
                "the App is installed nowhere",
                "install it on an account whose repositories shall have runners",
            )
        ]
    suspended = [one for one in installations if one.suspended_at is not None]
    lacking = {
        one.owner: missing
        for one in installations
        if one.suspended_at is None
        and (missing := _missing(_asked_of(one, needs), one.permissions))
    }
    served = len(installations) - len(suspended) - len(lacking)
    troubled = warning if served else wrong
    findings = [good("installations", f"{served} of {len(installations)} can be served")]
    if suspended:
        findings.append(
            troubled(
                "installations",
                f"suspended on {_named(one.owner for one in suspended)}",
                "an owner there has to unsuspend the App under Settings → GitHub Apps",
            )
        )
    for permission in sorted({one for missing in lacking.values() for one in missing}):
        owners = _named(owner for owner, missing in lacking.items() if permission in missing)
        findings.append(
            troubled("installations", f"{permission} is not granted by {owners}", _ACCEPT)
        )
    return findings if served else findings[1:]


def judge_rates(rates: Sequence[tuple[str, Rate]]) -> Finding:
    """What owners' installations have left of their hour; the one with the least counts."""
    if not rates:
        return good("rate limit", "this GitHub has none")
    owner, rate = min(rates, key=lambda one: one[1].share)
    found = f"{rate.remaining:,} of {rate.limit:,} calls left for {owner}"
    if rate.share > RESERVE:
        return good("rate limit", found)
    until = datetime.fromtimestamp(rate.reset, UTC)
    return warning(
        "rate limit",
        found,
        f"repairs wait until {until:%H:%M:%S} UTC; see who else uses the App, or its installation",
    )


def _missing(needed: Iterable[str], granted: Mapping[str, str]) -> list[str]:
    return [permission for permission in needed if not has(permission, granted)]


def _asked_of(installation: Installation, needs: Needs) -> list[str]:
    """A personal account has nothing of an organization's to grant."""
    return [
        permission
        for permission in needs.permissions
        if installation.on_organization or not permission.startswith(_ORGANIZATION)
    ]


def _named(owners: Iterable[str]) -> str:
    names = sorted(owners)
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shown(url: str) -> str:
    """Without what may be a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _status(attempt: Attempt) -> str:
    return f"HTTP {attempt.status_code}" if attempt.status_code else "no answer"


def _repair(status: int) -> str:
    match status:
        case 401 | 403:
            return "the secret in the App's settings and that of webhook_secret_files differ"
        case 404 | 405:
            return f"the proxy does not pass {_PATH} on to the control plane"
        case 415 | 400:
            return "choose application/json in the App's settings, and let no proxy change the body"
        case _:
            return "see that `mayfly serve` runs and that GitHub can reach the webhook's URL"
