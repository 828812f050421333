"""How every end-to-end test ends: nothing is left, and the books are right."""

from tests.e2e.programs import named_after, until
from tests.e2e.stage import Stage
from tests.fakes.counters import in_database
from tests.fakes.rows import SQLITE, rows_of


async def check_nothing_is_left(stage: Stage) -> None:
    """Executors end, then GitHub, machine and ledger hold nothing of what was."""
    await stage.quiet()
    await stage.end_executors()
    await until(lambda: not at_github(stage), f"no runner of ours at GitHub: {at_github(stage)}")
    await until(lambda: not open_ends(stage), f"no open end in the ledger: {open_ends(stage)}")
    executors = [program for program in stage.programs if program.name.startswith("executor")]
    assert [left for program in executors for left in program.survivors()] == []
    planes = {f"{program.pid} " for program in stage.programs if program.running}
    left = [line for line in named_after(stage.directory) if not line.startswith(tuple(planes))]
    assert left == [], "processes that should be gone"
    assert stage.work_directories() == []
    assert stage.github.watched.wrong == [], "answers GitHub would not give"
    check_books(stage)


def check_books(stage: Stage) -> None:
    """Counters equal a recount, and the database is sound."""
    if not _is_there(stage):
        return
    stored, recounted = in_database(stage.places.store)
    assert stored == recounted
    if stage.database.exists():
        assert rows(stage, "PRAGMA integrity_check") == [("ok",)]


def rows(stage: Stage, query: str) -> list[tuple[object, ...]]:
    """What the ledger's database says."""
    (found,) = rows_of(stage.places.store, query)
    return [tuple(row) for row in found]


def at_github(stage: Stage) -> list[str]:
    """Runners of ours that GitHub has."""
    return [name for name in stage.github.runners() if name.startswith("e2e-")]


def open_ends(stage: Stage) -> list[tuple[object, ...]]:
    """Names on the worklist, and live claims."""
    if not _is_there(stage):
        return []
    live = "SELECT id, state, detail FROM claim WHERE state IN ({})".format(
        "'claimed', 'minting', 'registered', 'busy'"
    )
    return rows(stage, "SELECT name, claim FROM registration") + rows(stage, live)


def _is_there(stage: Stage) -> bool:
    """A file that no control plane has made must not be made by a look at it."""
    return stage.database.exists() or not stage.places.store.startswith(SQLITE)
