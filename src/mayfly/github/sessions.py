"""Speaking for the App or for one of its installations: tokens, budgets and pages."""

from collections.abc import AsyncIterator
from datetime import datetime

from mayfly.github.answers import IssuedToken, read
from mayfly.github.budgets import Budgets
from mayfly.github.calls import Answer, Calls, Credential, Request, TokenRejected
from mayfly.github.refusals import Asked
from mayfly.github.secrets import Secret
from mayfly.github.tokens import AppKey, InstallationToken, InstallationTokens
from mayfly.model.errors import GitHubRefused, GitHubUnreachable, RefusalKind
from mayfly.model.jobs import InstallationId
from mayfly.ports import Clock

PAGE = 100  # the most GitHub gives at once
_MOST_PAGES = 200  # 20,000 items; more than a runner group or a run can have

_MAY_BE_STALE = frozenset({RefusalKind.MISSING_PERMISSION, RefusalKind.NOT_INSTALLED})
"""A token remembers what was granted when it was made; a new one may open more."""


_OF_THE_KEY = frozenset({RefusalKind.BAD_KEY, RefusalKind.CLOCK_SKEW})
"""The next JWT may be better: of another key, or by a clock that was put right."""


class Sessions:
    """Requests made in somebody's name; `None` is the App itself, with its key."""

    def __init__(self, key: AppKey, calls: Calls, budgets: Budgets, clock: Clock) -> None:
        self._key = key
        self._clock = clock
        self._calls = calls
        self._budgets = budgets
        self._tokens = InstallationTokens(self._new_token, clock)

    async def close(self) -> None:
        """Ends what is under way."""
        await self._tokens.close()

    def as_app(self, what: str, where: str = "the App") -> Asked:
        """What the App asks for itself."""
        return Asked(what, where, by=self._key.app_id)

    def seconds_until(self, at: datetime | None) -> float:
        """How long it is until then; 0 when it is over or not known."""
        return 0.0 if at is None else max(0.0, (at - self._clock.now()).total_seconds())

    async def ask(self, installation: InstallationId | None, request: Request) -> Answer:
        """GitHub's answer; GitHubRefused, RateLimited or GitHubUnreachable."""
        if installation is None:
            return await self._ask_as_app(request)
        try:
            return await self._attempt(installation, request)
        except TokenRejected:
            pass  # ended early or revoked
        except GitHubRefused as error:
            if error.kind not in _MAY_BE_STALE:
                raise
        try:
            return await self._attempt(installation, request)
        except TokenRejected as error:
            raise GitHubUnreachable(
                f"could not {request.asked.what}: GitHub does not accept a token it has just issued"
            ) from error

    async def pages(
        self, installation: InstallationId | None, request: Request, key: str
    ) -> AsyncIterator[object]:
        """Every item of every page; `key` is the list in an answer that is an object."""
        seen = 0
        for page in range(1, _MOST_PAGES + 1):
            query = {**request.query, "per_page": PAGE, "page": page}
            answer = await self.ask(installation, request._replace(query=query))
            items, total = _listed(answer, key, request.asked.what)
            for item in items:
                yield item
            seen += len(items)
            if not items or not (answer.following or seen < total):
                return

    async def _ask_as_app(self, request: Request) -> Answer:
        credential = await self._key.credential()
        try:
            return await self._calls.send(request, credential, self._budgets.of(None))
        except GitHubRefused as error:
            if error.kind in _OF_THE_KEY:
                self._key.drop(credential)
            raise

    async def _attempt(self, installation: InstallationId, request: Request) -> Answer:
        credential = await self._tokens.get(installation)
        try:
            return await self._calls.send(request, credential, self._budgets.of(installation))
        except (TokenRejected, GitHubRefused) as error:
            if isinstance(error, TokenRejected) or error.kind in _MAY_BE_STALE:
                self._tokens.drop(installation, credential)
            raise

    async def _new_token(self, installation: InstallationId) -> InstallationToken:
        asked = self.as_app("open the installation", f"installation {installation}")
        path = f"app/installations/{int(installation)}/access_tokens"
        answer = await self._ask_as_app(Request("POST", path, asked, first=True))
        issued = read(answer.data, IssuedToken, asked.what)
        return InstallationToken(
            Credential(Secret(issued.token), issued.permissions), issued.expires_at
        )


def _listed(answer: Answer, key: str, what: str) -> tuple[list[object], int]:
    if answer.data is None:
        return [], 0
    if not key:
        return read(answer.data, list[object], what), 0
    data = read(answer.data, dict[str, object], what)
    return read(data.get(key), list[object], what), read(data.get("total_count", 0), int, what)
