"""Access rules kept in the database."""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert  # SQLite took over its ON CONFLICT

from mayfly.database import Database
from mayfly.model.access import AccessRule, by_identity, first_allowing
from mayfly.ports import Clock
from mayfly.store.schema import access_rule

FRESH = timedelta(seconds=1)
"""How far behind another control plane's grants and revocations a decision may be."""


class SqlAccessRules:
    """Rules in the ledger's database, with a snapshot so that a webhook costs no query."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._snapshot: dict[tuple[str, str, str | None], AccessRule] = {}
        self._read_at: datetime | None = None
        self._changes = 0
        self._asked, self._answered = 0, 0

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        if self._read_at is None or self._clock.now() - self._read_at > FRESH:
            await self.rules()
        return first_allowing(self._snapshot, owner, repository, label)

    async def rules(self) -> list[AccessRule]:
        asked, changes = self._clock.now(), self._changes
        self._asked += 1
        number = self._asked
        found = await self._database.read(_all)
        if number > self._answered:  # or one that was asked later has overtaken it
            self._answered, self._snapshot = number, by_identity(found)
            self._read_at = asked if changes == self._changes else None  # else it may be too old
        return sorted(found, key=str)

    async def grant(self, rule: AccessRule) -> None:
        label, owner, repository = rule.identity
        row = {
            "label_key": label,
            "owner_key": owner,
            "repository_key": repository or "",
            "label": rule.label,
            "owner": rule.owner,
            "repository": rule.repository,
            "granted_at": int(self._clock.now().timestamp() * 1000),
        }
        statement = insert(access_rule).on_conflict_do_nothing()
        await self._database.write(lambda connection: connection.execute(statement, row).rowcount)
        self._forget()

    async def revoke(self, rule: AccessRule) -> bool:
        label, owner, repository = rule.identity
        statement = sa.delete(access_rule).where(
            access_rule.c.label_key == label,
            access_rule.c.owner_key == owner,
            access_rule.c.repository_key == (repository or ""),
        )
        gone = await self._database.write(lambda connection: connection.execute(statement).rowcount)
        self._forget()
        return gone > 0

    def _forget(self) -> None:
        """A change of our own is seen at once."""
        self._read_at, self._changes = None, self._changes + 1


def _all(connection: Connection) -> list[AccessRule]:
    rows = connection.execute(
        sa.select(access_rule.c.label, access_rule.c.owner, access_rule.c.repository)
    )
    return [
        AccessRule(label=label, owner=owner, repository=repository)
        for label, owner, repository in rows
    ]
