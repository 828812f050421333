"""Statements for many rows, for the hot path: here alone it matters which dialect runs them."""

from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


class Many:
    """An insert of many rows: a row at a time for SQLite, an array a column for PostgreSQL.

    SQLite is spared SQLAlchemy's work for each row, and PostgreSQL a message for each.
    """

    def __init__(
        self,
        statement: Any,  # noqa: ANN401 - the dialect's insert has no common type
        names: Sequence[str],
        shared: Sequence[str] = (),
    ) -> None:
        """`names` are the columns that are written, `shared` what is the same in every row."""
        compiled = statement.compile(dialect=sqlite.dialect(), column_keys=names)
        self._text = str(compiled)
        self._row = itemgetter(*compiled.positiontup)
        self._names, self._shared = names, shared
        self._arrays = statement.from_select(names, _unnested(statement.table, names))

    def run(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        """Each row has a value for every name, and no key twice."""
        if not _is_postgres(connection):
            connection.exec_driver_sql(self._text, [self._row(row) for row in rows])
            return
        values: dict[str, Any] = {name: rows[0][name] for name in self._shared}
        for name in self._names:
            values[_all(name)] = [row[name] for row in rows]
        connection.execute(self._arrays, values)


class Among:
    """A query for the rows whose column has one of many values."""

    def __init__(self, query: sa.Select[Any], column: sa.Column[Any]) -> None:
        listed = sa.bindparam("among", expanding=True, type_=column.type)
        array = sa.bindparam("among", type_=postgresql.ARRAY(column.type))
        self._in = query.where(column.in_(listed))
        self._any = query.where(column == sa.any_(array))

    def rows(self, connection: sa.Connection, values: Collection[Any]) -> sa.Result[Any]:
        """In no order."""
        query = self._any if _is_postgres(connection) else self._in
        return connection.execute(query, {"among": list(values)})


def _unnested(table: sa.Table, names: Sequence[str]) -> sa.Select[Any]:
    columns = [table.c[name] for name in names]
    arrays = [
        sa.bindparam(_all(column.name), type_=postgresql.ARRAY(column.type)) for column in columns
    ]
    named = (sa.column(column.name, column.type) for column in columns)
    rows = sa.func.unnest(*arrays).table_valued(*named).render_derived(name="new")
    return sa.select(*(rows.c[name] for name in names))


def _all(name: str) -> str:
    return f"all_{name}"


def _is_postgres(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"
