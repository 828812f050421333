"""Reviews: queued jobs are decided again when the access rules are others than before."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from mayfly.model.access import AccessRule
from mayfly.model.errors import MayflyError
from mayfly.ports import AccessRules

log = structlog.get_logger("mayfly")


class Reviews:
    """Every control plane looks for itself, because only it knows what it has not written yet.

    Whoever changes a rule here reviews at once. This is for what others change: another control
    plane, another program, and mayfly.toml before the start.
    """

    def __init__(
        self, access: AccessRules, review: Callable[[], Awaitable[None]], period: timedelta
    ) -> None:
        self._access = access
        self._review = review
        self._period = period
        self._seen: list[AccessRule] | None = None
        self._again = False
        self._failing = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Turns happen while this is open, the first one at once."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def turn(self) -> None:
        """A review if the rules have changed, and another in the next turn.

        The second is for what a control plane has decided by the rules it had read before, and
        written, and that has died without looking again. Transient: the turn is to be repeated.
        """
        rules = await self._access.rules()
        changed = rules != self._seen
        if changed or self._again:
            await self._review()
        self._seen, self._again = rules, changed

    async def _run(self) -> None:
        while True:
            try:
                await self.turn()
            except MayflyError as error:
                if not self._failing:  # as long as it lasts it is no news
                    log.warning("review.failed", reason=str(error))
                self._failing = True
            except Exception:  # top of the loop: the next turn tries again
                log.exception("review.stumbled")
            else:
                self._failing = False
            await asyncio.sleep(self._period.total_seconds())
