"""`mayfly launches`: executors that were started where there was work."""

from typing import Annotated

import typer

from mayfly.cli.failures import as_sentences
from mayfly.cli.tables import AsJson, show

app = typer.Typer(no_args_is_help=True)
_COLUMNS = (
    ("LAUNCH", "id"),
    ("POOL", "pool"),
    ("PHASE", "phase"),
    ("WANTED", "wanted_at"),
    ("WORKED", "worked"),
    ("MISUSED", "misused"),
    ("WHY", "detail"),
)


@app.callback()
def _group() -> None:
    """Keeps `list` a command of its own."""


@app.command("list")
def list_(
    pool: Annotated[str | None, typer.Option(help="Only this pool.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List launched executors of the last day; MISUSED counts tickets that came in vain."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.web.launches_api import LaunchView

        given = {"limit": limit} if pool is None else {"limit": limit, "pool": pool}
        rows = calls.get("/v1/launches", list[LaunchView], **given)
        show(rows, _COLUMNS, as_json=as_json, empty="no executor was started")
