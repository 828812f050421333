"""The store in memory: for tests, simulations and a first look; gone with the process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeVar

from mayfly.model.access import AccessRule, first_allowing
from mayfly.model.deadlines import Deadlines
from mayfly.ports import AccessRules, Clock, Ledger
from mayfly.store.ledger import TransactionalLedger
from mayfly.store.memory_tables import MemoryTables
from mayfly.store.tables import Tables

T = TypeVar("T")


@asynccontextmanager
async def open_store(
    url: str, clock: Clock, deadlines: Deadlines
) -> AsyncIterator[tuple[Ledger, AccessRules]]:
    """An empty store; `url` is not used."""
    del url
    yield TransactionalLedger(MemoryTransactions(), clock, deadlines), MemoryAccessRules()


class MemoryTransactions:
    """One step at a time, undone when it raises."""

    def __init__(self) -> None:
        self.tables = MemoryTables()

    async def write(self, step: Callable[[Tables], T]) -> T:
        try:
            result = step(self.tables)
        except BaseException:
            self.tables.undo()
            raise
        self.tables.keep()
        return result

    async def read(self, step: Callable[[Tables], T]) -> T:
        return step(self.tables)

    async def leads(self, period: timedelta) -> bool | None:
        del period
        return None

    async def resign(self) -> None:
        """Nothing to give back."""


class MemoryAccessRules:
    """Access rules in a list."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str, str, str | None], AccessRule] = {}

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        return first_allowing(self._rules, owner, repository, label)

    async def rules(self) -> list[AccessRule]:
        return sorted(self._rules.values(), key=str)

    async def grant(self, rule: AccessRule) -> None:
        self._rules.setdefault(rule.identity, rule)

    async def revoke(self, rule: AccessRule) -> bool:
        return self._rules.pop(rule.identity, None) is not None
