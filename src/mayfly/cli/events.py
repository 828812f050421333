"""`mayfly events`: what is happening now."""

import typer

from mayfly.cli.failures import as_sentences
from mayfly.cli.tables import AsJson, word

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `tail` a command of its own."""


@app.command()
def tail(as_json: AsJson = False) -> None:
    """Follow events until interrupted."""
    with as_sentences():
        import msgspec

        from mayfly.cli import calls
        from mayfly.engine.news import Item

        for line in calls.lines("/v1/events"):
            if not line.startswith("data:"):
                continue
            text = line.removeprefix("data:").strip()
            if as_json:
                typer.echo(text)
                continue
            item = msgspec.json.decode(text, type=Item)
            fields = " ".join(f"{name}={word(value)}" for name, value in item.fields.items())
            typer.echo(f"{item.at:%H:%M:%S} {item.event:22} {fields}")
