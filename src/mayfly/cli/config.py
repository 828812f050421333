"""`mayfly config`: check mayfly.toml, or print one to start from."""

import asyncio
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
# intake = "pull"    # no webhooks and no secret: the App's delivery log is read every 20 s

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

NEEDS = {
    "push": "the event workflow_job, and an active webhook: the URL https://HOST/webhooks/github, "
    "the content type application/json and the same secret",
    "pull": "the event workflow_job, and an active webhook with any URL, where nothing has to "
    "answer: only then GitHub keeps the log of deliveries that is read here",
    "bus": "the event workflow_job, and an active webhook: the URL of the edge reflector with "
    "/webhooks/github, the content type application/json and the edge reflector's secret",
}
"""What has to be set at the App itself, by intake."""


@app.command()
def check(config: ConfigFile = Path("mayfly.toml")) -> None:
    """Read the settings and their secrets as `serve` would; say what is wrong or surprising."""
    with as_sentences():
        from mayfly.cli.backends import backend
        from mayfly.cli.launchers import check as check_launchers
        from mayfly.cli.settings import load
        from mayfly.cli.surprises import surprises
        from mayfly.database import checked

        settings = load(config)
        for kind, name, url in (
            ("stores", settings.file.store.backend, settings.store_url),
            ("buses", settings.file.bus.backend, settings.bus_url),
        ):
            backend(kind, name)
            if name == "sql":
                checked(url.reveal())
        if (rules := settings.file.access_rules.backend) is not None:
            backend("access_rules", rules)
        asyncio.run(check_launchers(settings))
        for surprise in surprises(settings):
            typer.echo(f"warning: {surprise}")
        names = ", ".join(pool.name for pool in settings.pools)
        typer.echo(
            f"{config} is good: pools {names}; {len(settings.rules)} declared access rule(s)"
        )
        typer.echo(f"the App at GitHub needs {NEEDS[settings.file.github.intake]}")


@app.command()
def example() -> None:
    """Print a mayfly.toml to start from."""
    typer.echo(EXAMPLE, nl=False)
