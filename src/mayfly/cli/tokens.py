"""`mayfly token`: make a bearer token; only its hash is kept."""

from typing import Annotated

import typer

from mayfly.cli.failures import as_sentences

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `new` a command of its own."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose it is; shown in logs.")],
    role: Annotated[str, typer.Option(help="executor, operator or metrics.")] = "executor",
    pool: Annotated[list[str] | None, typer.Option(help="For executors; may be repeated.")] = None,
) -> None:
    """Print a fresh token to standard output and its entry for mayfly.toml to standard error."""
    with as_sentences():
        from mayfly.cli.settings import as_toml
        from mayfly.model.errors import InvalidSettings
        from mayfly.web.tokens import Role, new_token

        if role not in set(Role):
            raise InvalidSettings(f"role {role!r} is unknown; use {', '.join(Role)}")
        plain, token = new_token(name, Role(role), tuple(pool or ()))
        typer.echo("# add this to mayfly.toml; the token itself is shown only now", err=True)
        typer.echo(as_toml(token), err=True)
        typer.echo(plain)
