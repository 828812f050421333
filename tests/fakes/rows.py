"""Rows of a SQL database, through a connection of the test's own: it shares no code with ours."""

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

SQLITE = "sqlite:///"


def rows_of(url: str, *queries: str) -> list[list[Sequence[Any]]]:
    """What each query answers; one that changes rows is kept."""
    if url.startswith(SQLITE):
        with closing(sqlite3.connect(url.removeprefix(SQLITE))) as file, file:
            return [file.execute(query).fetchall() for query in queries]
    with ThreadPoolExecutor(1) as beside:  # the test's own event loop runs already
        return beside.submit(lambda: asyncio.run(_asked(url, queries))).result()


async def _asked(url: str, queries: Sequence[str]) -> list[list[Sequence[Any]]]:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        return [[tuple(row) for row in await connection.fetch(query)] for query in queries]
    finally:
        await connection.close()
