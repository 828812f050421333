"""Pending checks: jobs that came while the access rules could not be read are decided later."""

from collections.abc import Awaitable, Callable, Sequence

from mayfly.model.jobs import WorkflowJob
from mayfly.ports import Ledger

PAGE = 500
"""Jobs that are decided in one transaction."""
PAGES_PER_TURN = 10
"""So that what an hour without rules left is done in a minute or two, and deliveries go on."""

DecideAgain = Callable[[Sequence[WorkflowJob]], Awaitable[bool]]
"""Puts the decisions of now on jobs; False when one of them is still pending a check."""


class PendingChecks:
    """Every turn the oldest ones, until the rules can be read."""

    def __init__(self, ledger: Ledger, decide_again: DecideAgain) -> None:
        self._ledger = ledger
        self._decide_again = decide_again

    async def turn(self, ledger_seconds: float) -> None:
        """Those that can be decided now."""
        del ledger_seconds  # they are due until they are decided
        for _ in range(PAGES_PER_TURN):
            page = await self._ledger.pending(PAGE)
            if not page or not await self._decide_again(page):
                return
