"""The ledger's verbs about launches, each one transaction."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TypeVar

from mayfly.model.deadlines import Deadlines
from mayfly.model.launches import (
    Launched,
    LaunchId,
    LaunchPhase,
    LaunchRecord,
    Plan,
    Redemption,
    TicketRefused,
)
from mayfly.model.pools import Pool
from mayfly.ports import Clock
from mayfly.store import launching
from mayfly.store.tables import Tables, Transactions
from mayfly.store.turns import Turn

T = TypeVar("T")


class TransactionalLaunches:
    """ports.Launches over any Transactions."""

    def __init__(self, transactions: Transactions, clock: Clock, deadlines: Deadlines) -> None:
        self._transactions = transactions
        self._clock = clock
        self._deadlines = deadlines

    async def scale(self, pool: Pool, *, overflows: bool) -> Plan:
        now, fresh = self._clock.now(), self._clock.new_id
        return await self._write(
            lambda turn: launching.scale(turn, pool, fresh, now, overflows=overflows)
        )

    async def ticketed(self, launch: LaunchId, ticket: str, seconds: float) -> bool:
        return await self._write(lambda turn: launching.ticketed(turn, launch, ticket, seconds))

    async def accepted(self, launch: LaunchId) -> None:
        await self._write(lambda turn: launching.accepted(turn, launch))

    async def refused(self, launch: LaunchId, sentence: str, retry_at: datetime | None) -> None:
        # Ledger time is no platform's; only how long that is from now means the same to both.
        wait = (retry_at - self._clock.now()).total_seconds() if retry_at else 0.0
        await self._write(lambda turn: launching.refused(turn, launch, sentence, wait))

    async def surveyed(self, pool: str, seen: Sequence[Launched]) -> list[LaunchId]:
        return await self._write(lambda turn: launching.surveyed(turn, pool, seen))

    async def strand(self, pools: Collection[str]) -> list[LaunchRecord]:
        return await self._write(lambda turn: launching.strand(turn, pools))

    async def redeem(self, redemption: Redemption) -> LaunchRecord | TicketRefused:
        return await self._write(lambda turn: launching.redeem(turn, redemption))

    async def bearer(self, token: str) -> LaunchRecord | None:
        def step(tables: Tables) -> LaunchRecord | None:
            launch = tables.launches.of_token(token)
            at = tables.clock().ledger_seconds
            if launch is None or launch.phase is LaunchPhase.OVER or at > launch.token_until:
                return None
            return launch

        return await self._transactions.read(step)

    async def newest(self, limit: int, pool: str | None = None) -> list[LaunchRecord]:
        return await self._transactions.read(lambda tables: tables.launches.newest(limit, pool))

    async def _write(self, act: Callable[[Turn], T]) -> T:
        return await self._transactions.write(lambda tables: act(Turn(tables, self._deadlines)))
