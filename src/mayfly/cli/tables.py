"""Tables for people, JSON for programs."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def show(
    rows: Sequence[msgspec.Struct], columns: Sequence[tuple[str, str]], *, as_json: bool, empty: str
) -> None:
    """The rows as a table of (heading, field), or as JSON; `empty` says what to do next."""
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    if not rows:
        typer.echo(empty)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, _ in columns:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(word(getattr(row, field))) for _, field in columns))
    console = Console()
    console.width = console.width if console.is_terminal else 200
    console.print(table)


def word(value: object) -> str:
    """One cell: text from strangers keeps no control characters."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, tuple | list):
        return ", ".join(word(item) for item in value)
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))
