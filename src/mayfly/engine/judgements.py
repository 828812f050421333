"""Judgements: what was decided by the access rules and is not in the ledger yet."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

Judgement = asyncio.Future[None]


class Judgements:
    """Between a decision and its row the rules may change, and no review sees the job.

    So a review first waits for whoever may have decided by the rules of before.
    """

    def __init__(self) -> None:
        self._open: set[Judgement] = set()

    def begin(self) -> Judgement:
        """Before the rules are asked."""
        judgement: Judgement = asyncio.get_running_loop().create_future()
        self._open.add(judgement)
        return judgement

    def end(self, judgement: Judgement) -> None:
        """It is in the ledger, or never will be. Idempotent."""
        self._open.discard(judgement)
        if not judgement.done():
            judgement.set_result(None)

    @contextmanager
    def one(self) -> Iterator[None]:
        """One that is written before this is left."""
        judgement = self.begin()
        try:
            yield
        finally:
            self.end(judgement)

    async def written(self) -> None:
        """Until all that have begun by now have ended."""
        if self._open:
            await asyncio.wait(list(self._open))
