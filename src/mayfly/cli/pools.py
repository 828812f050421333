"""`mayfly pools`: pools and how full they are."""

import typer

from mayfly.cli.failures import as_sentences
from mayfly.cli.tables import AsJson, show

app = typer.Typer(no_args_is_help=True)
_COLUMNS = (
    ("POOL", "name"),
    ("VARIANT", "variant"),
    ("VARIANTS", "variants"),
    ("SCOPE", "scope"),
    ("MAX", "max"),
    ("USED", "used"),
    ("QUEUED", "queued"),
    ("TO BE MADE", "open"),
    ("LAUNCHING", "launching"),
)


@app.callback()
def _group() -> None:
    """Keeps `list` a command of its own."""


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the pools of mayfly.toml with their use."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.web.views import PoolView

        show(calls.get("/v1/pools", list[PoolView]), _COLUMNS, as_json=as_json, empty="no pools")
