"""The rows of launches in memory."""

from mayfly.model.launches import LaunchId, LaunchPhase, LaunchRecord
from mayfly.store.memory_executors import ABSENT, Set


class MemoryLaunches:
    """Rows in a dictionary, by id."""

    def __init__(self, set_row: Set) -> None:
        self._set = set_row
        self._rows: dict[LaunchId, LaunchRecord] = {}
        self._live: dict[LaunchId, None] = {}
        self._tokens: dict[str, LaunchId] = {}

    def find(self, launch: LaunchId) -> LaunchRecord | None:
        return self._rows.get(launch)

    def of_token(self, token: str) -> LaunchRecord | None:
        launch = self._tokens.get(token)
        return self._rows.get(launch) if launch else None

    def live(self, pool: str) -> list[LaunchRecord]:
        return [row for id_ in sorted(self._live) if (row := self._rows[id_]).pool == pool]

    def live_pools(self) -> set[str]:
        return {self._rows[id_].pool for id_ in self._live}

    def newest(self, limit: int, pool: str | None = None) -> list[LaunchRecord]:
        rows = [row for row in self._rows.values() if pool in {None, row.pool}]
        return sorted(rows, key=lambda row: row.id, reverse=True)[:limit]

    def put(self, launch: LaunchRecord) -> None:
        before = self._rows.get(launch.id)
        if before is not None and before.token is not None:
            self._set(self._tokens, before.token, ABSENT)
        if launch.token is not None:
            self._set(self._tokens, launch.token, launch.id)
        self._set(self._rows, launch.id, launch)
        over = launch.phase is LaunchPhase.OVER
        self._set(self._live, launch.id, ABSENT if over else None)

    def forget(self, over_before: float) -> None:
        for row in list(self._rows.values()):
            if row.phase is LaunchPhase.OVER and row.phase_at <= over_before:
                self._set(self._rows, row.id, ABSENT)
                if row.token is not None:
                    self._set(self._tokens, row.token, ABSENT)
