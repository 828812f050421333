"""`mayfly config`: check mayfly.toml, or print one to start from."""

from pathlib import Path
from typing import Annotated

import typer

from mayfly.cli.failures import as_sentences

app = typer.Typer(no_args_is_help=True)
ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The settings file.")]

EXAMPLE = """\
# mayfly.toml: `mayfly config check` says what is wrong with it.

[server]
host = "127.0.0.1"   # put a TLS proxy in front; GitHub must reach /webhooks/github
port = 8080

[store]
url = "sqlite:///mayfly.sqlite"

[github]
app_id = "Iv23li…"                          # the App's client id (or its numeric id)
private_key_file = "/etc/mayfly/app.pem"    # or MAYFLY_GITHUB_PRIVATE_KEY
webhook_secret_files = ["/etc/mayfly/webhook-secret"]   # or MAYFLY_WEBHOOK_SECRET

# runs-on: [self-hosted, linux]
[[pools]]
name = "linux"
max = 4

# Nobody may use a pool until a rule says so; `mayfly access allow` adds rules at run time.
[[access]]
owner = "my-org"     # repository = "one-repo" for a single repository
pool = "linux"

# `mayfly token new NAME --role executor --pool linux` prints such an entry and the token.
# [[tokens]]
# name = "rack-1"
# role = "executor"
# sha256 = "…"
# pools = ["linux"]
"""


@app.command()
def check(config: ConfigFile = Path("mayfly.toml")) -> None:
    """Read the settings and their secrets as `serve` would; say what is wrong or surprising."""
    with as_sentences():
        from mayfly.cli.backends import backend
        from mayfly.cli.settings import load
        from mayfly.model.pools import warnings

        settings = load(config)
        backend("stores", settings.file.store.backend)
        backend("buses", settings.file.bus.backend)
        for warning in warnings(settings.pools):
            typer.echo(f"warning: {warning}")
        known = {pool.name.lower() for pool in settings.pools}
        for token in settings.file.tokens:
            for pool in token.pools:
                if pool.lower() not in known:
                    typer.echo(f"warning: token {token.name!r} names pool {pool!r}, which is none")
        if not any(token.role == "executor" for token in settings.file.tokens):
            typer.echo("warning: no [[tokens]] with role executor, so no executor can connect; ")
            typer.echo("         make one with `mayfly token new NAME --role executor --pool …`")
        names = ", ".join(pool.name for pool in settings.pools)
        typer.echo(
            f"{config} is good: pools {names}; {len(settings.rules)} declared access rule(s)"
        )


@app.command()
def example() -> None:
    """Print a mayfly.toml to start from."""
    typer.echo(EXAMPLE, nl=False)
