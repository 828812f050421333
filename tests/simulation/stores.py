"""The store: one database for all control planes, and each one's way to it, cut by a kill."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from mayfly.model.access import AccessRule
from mayfly.store.memory import MemoryAccessRules, MemoryTransactions
from mayfly.store.memory_tables import MemoryTables
from mayfly.store.tables import Tables
from tests.simulation.faults import Faults
from tests.simulation.processes import Process

T = TypeVar("T")

SLOW_EVERY = 0.05
"""So often a transaction waits for its turn, and what was read before may have changed."""


class WatchedTables(MemoryTables):
    """Shows each transaction to its watcher before it is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.watch: Callable[[], None] = lambda: None

    def keep(self) -> None:
        self.watch()
        super().keep()


class Database:
    """Lives on, whatever happens to those who write to it."""

    def __init__(self) -> None:
        self.tables = WatchedTables()
        self.transactions = MemoryTransactions()
        self.transactions.tables = self.tables
        self.access = MemoryAccessRules()


class Connection:
    """store.tables.Transactions for one process: a kill falls before a write or after it."""

    def __init__(self, database: Database, process: Process, faults: Faults) -> None:
        self._transactions = database.transactions
        self._process = process
        self._faults = faults
        self._dice = faults.dice("write")

    async def write(self, step: Callable[[Tables], T]) -> T:
        await self._turn()
        self._die_perhaps("plane killed before a write")
        result = await self._transactions.write(step)
        self._die_perhaps("plane killed after a write")
        return result

    async def read(self, step: Callable[[Tables], T]) -> T:
        await self._turn()
        return await self._transactions.read(step)

    async def leads(self, period: timedelta) -> bool | None:
        return await self._transactions.leads(period)

    async def resign(self) -> None:
        await self._transactions.resign()

    async def _turn(self) -> None:
        self._process.check()
        slow = self._dice.random() < SLOW_EVERY
        await asyncio.sleep(self._dice.uniform(0.001, 0.1) if slow else 0)
        self._process.check()

    def _die_perhaps(self, fault: str) -> None:
        if self._faults.strikes(fault):
            self._process.kill()
            self._process.check()


class AccessConnection:
    """ports.AccessRules for one process."""

    def __init__(self, database: Database, process: Process) -> None:
        self._rules = database.access
        self._process = process

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        self._process.check()
        return await self._rules.find(owner, repository, label)

    async def rules(self) -> list[AccessRule]:
        return await self._rules.rules()

    async def grant(self, rule: AccessRule) -> None:
        self._process.check()
        await self._rules.grant(rule)

    async def revoke(self, rule: AccessRule) -> bool:
        self._process.check()
        return await self._rules.revoke(rule)
