"""The executors' rows in memory."""

from collections.abc import Callable
from typing import Any

from mayfly.model.executors import Executor

ABSENT = object()
"""Set in a row's place, it removes the row."""
Set = Callable[[dict[Any, Any], Any, Any], None]
"""Sets a row so that it can be undone."""


class MemoryExecutors:
    """Rows in a dictionary, by pool and machine."""

    def __init__(self, set_row: Set) -> None:
        self._set = set_row
        self._rows: dict[tuple[str, str], Executor] = {}

    def find(self, pool: str, machine: str) -> Executor | None:
        return self._rows.get((pool, machine))

    def every(self, pool: str | None) -> list[Executor]:
        return [row for key, row in sorted(self._rows.items()) if pool in {None, key[0]}]

    def put(self, executor: Executor) -> None:
        self._set(self._rows, (executor.pool, executor.machine), executor)

    def drop(self, executor: Executor) -> None:
        self._set(self._rows, (executor.pool, executor.machine), ABSENT)

    def forget(self, heard_before: float) -> None:
        for executor in list(self._rows.values()):
            if not executor.reason and executor.heard_at <= heard_before:
                self.drop(executor)
