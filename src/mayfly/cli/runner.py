"""`mayfly runner`: GitHub's runner program on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from mayfly.cli.failures import as_sentences
from mayfly.cli.tables import AsJson, show

app = typer.Typer(no_args_is_help=True)
StateDir = Annotated[
    Path | None, typer.Option(help="The executor's; the cache is `runners` in it.")
]
_COLUMNS = (("RELEASE", "release"), ("DIRECTORY", "directory"), ("NEWEST", "newest"))


@app.command()
def install(
    url: Annotated[
        str, typer.Option("--url", envvar="MAYFLY_URL", help="The control plane.")
    ] = "http://127.0.0.1:8080",
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="MAYFLY_TOKEN_FILE", help="The executor's token; or MAYFLY_TOKEN."),
    ] = None,
    state_dir: StateDir = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="Certificates to trust instead of the usual ones.")
    ] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Allow http:// to another host's control plane.")
    ] = False,
) -> None:
    """Install the newest release of GitHub's runner: download, check, unpack, once.

    Run it as the user the executor runs as, with the executor's token. Executors at work are not
    disturbed: each job has a copy of its own. Without a connection, what is installed stays.
    """
    with as_sentences():
        from mayfly.cli.installing import install_newest

        install_newest(
            url=url,
            token_file=token_file,
            state_dir=state_dir,
            ca_file=ca_file,
            plain_http=plain_http,
        )


@app.command("list")
def list_(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """List the releases that are installed on this machine, newest first."""
    with as_sentences():
        from mayfly.cli.installing import InstalledRelease, installed_releases

        found: list[InstalledRelease] = installed_releases(state_dir)
        show(
            found,
            _COLUMNS,
            as_json=as_json,
            empty="no release is installed; `mayfly runner install`",
        )
