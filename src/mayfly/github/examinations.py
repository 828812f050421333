"""Asking GitHub all that a control plane depends on; reads only, and every call has a deadline."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from socket import gaierror
from typing import NamedTuple, TypeVar

from mayfly.github.answers import App, Hook, Installation, Rate, RatePage, read
from mayfly.github.calls import Answer, Request
from mayfly.github.deliverylog import DeliveryLog
from mayfly.github.judgements import (
    Needs,
    judge_app,
    judge_clock,
    judge_deliveries,
    judge_hook,
    judge_installations,
    judge_rates,
)
from mayfly.github.listings import Listings
from mayfly.github.refusals import Asked
from mayfly.github.sessions import PAGE, Sessions
from mayfly.model.deliveries import Attempt
from mayfly.model.errors import GitHubRefused, GitHubUnreachable, MayflyError, RefusalKind
from mayfly.model.findings import Finding, failed, good, unchecked, wrong
from mayfly.model.jobs import InstallationId
from mayfly.ports import Clock

_T = TypeVar("_T")

MOST_RATES = 20
"""Installations whose rate limit is asked for; each takes a token of its own."""
DEPENDENT = (
    "clock",
    "permissions",
    "event",
    "webhook",
    "deliveries",
    "installations",
    "rate limit",
)
"""Checks that say nothing until GitHub has answered once."""
_NONE = frozenset({404})


class _Trouble(NamedTuple):
    """A question that had no answer."""

    finding: Finding


class Examination:
    """One look at the App. Tokens of installations are made for it, and nothing else."""

    def __init__(self, sessions: Sessions, needs: Needs, clock: Clock) -> None:
        self._sessions = sessions
        self._needs = needs
        self._clock = clock
        self._listings = Listings(sessions)

    async def findings(self) -> AsyncIterator[Finding]:
        """What was found, check by check; never raises for what GitHub says or does not say."""
        answer = await _answered("GitHub", self._app())
        if isinstance(answer, _Trouble):
            yield answer.finding
            for check in DEPENDENT:
                yield unchecked(check, "it needs GitHub's answer")
            return
        app, said = answer
        yield good("GitHub", f"the key is accepted: App {app.name!r} ({app.id})")
        yield judge_clock(self._clock.now(), said.said_at)
        for finding in judge_app(app, self._needs):
            yield finding
        hook, attempts, installations = await asyncio.gather(
            _answered("webhook", self._hook()),
            _answered("deliveries", self._attempts()),
            _answered("installations", self._listings.installations()),
        )
        yield hook.finding if isinstance(hook, _Trouble) else judge_hook(hook, self._needs)
        if isinstance(attempts, _Trouble):
            yield attempts.finding
        else:
            yield judge_deliveries(attempts, self._needs)
        if isinstance(installations, _Trouble):
            yield installations.finding
            yield unchecked("rate limit", "it needs the installations")
            return
        for finding in judge_installations(installations, self._needs):
            yield finding
        yield await self._rates(installations)

    async def _app(self) -> tuple[App, Answer]:
        request = Request("GET", "app", self._sessions.as_app("look at the App"))
        answer = await self._sessions.ask(None, request)
        return read(answer.data, App, request.asked.what), answer

    async def _hook(self) -> Hook | None:
        asked = self._sessions.as_app("look at the webhook")
        request = Request("GET", "app/hook/config", asked, expected=_NONE)
        answer = await self._sessions.ask(None, request)
        return None if answer.status in _NONE else read(answer.data, Hook, asked.what)

    async def _attempts(self) -> list[Attempt] | None:
        found: list[Attempt] = []
        try:
            async with aclosing(DeliveryLog(self._sessions).attempts()) as attempts:
                async for attempt in attempts:
                    found.append(attempt)
                    if len(found) == PAGE:
                        break
        except GitHubRefused as error:
            if error.kind is RefusalKind.DELIVERY_GONE:
                return None
            raise
        return found

    async def _rates(self, installations: Sequence[Installation]) -> Finding:
        asked = [one for one in installations if one.suspended_at is None][:MOST_RATES]
        if not asked:
            return unchecked("rate limit", "no installation can be asked")
        answers = await asyncio.gather(
            *(_answered("rate limit", self._rate(one.installation)) for one in asked)
        )
        rates: list[tuple[str, Rate]] = []
        for installation, answer in zip(asked, answers, strict=True):
            if isinstance(answer, _Trouble):
                return answer.finding
            if answer is not None:
                rates.append((installation.owner, answer))
        return judge_rates(rates)

    async def _rate(self, installation: InstallationId) -> Rate | None:
        asked = Asked("look at the rate limit", f"installation {installation}")
        # A server whose rate limits are switched off has no such page.
        answer = await self._sessions.ask(
            installation, Request("GET", "rate_limit", asked, expected=_NONE)
        )
        return (
            None
            if answer.status in _NONE
            else read(answer.data, RatePage, asked.what).resources.core
        )


async def _answered(check: str, question: Awaitable[_T]) -> _T | _Trouble:
    try:
        return await question
    except GitHubUnreachable as error:
        return _Trouble(wrong(check, str(error).partition("; ")[0], _way_out(error)))
    except MayflyError as error:
        return _Trouble(failed(check, error))


def _way_out(error: GitHubUnreachable) -> str:
    """What lies beneath decides who can help."""
    beneath = list(_chain(error))
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in beneath):
        return (
            "when the certificate is of a private authority, name a file with that authority's "
            "certificate in SSL_CERT_FILE"
        )
    if any(isinstance(one, ssl.SSLError) for one in beneath):
        return "see that github.api_url names a port that speaks TLS, and what proxy is in between"
    if any(isinstance(one, gaierror) for one in beneath):
        return "correct the host in github.api_url, or this machine's DNS"
    return "see that this machine may reach github.api_url, through its firewall and proxy"


def _chain(error: BaseException | None) -> Sequence[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
