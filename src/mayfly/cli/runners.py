"""`mayfly runners`: runners being made, at work, or left over."""

from typing import Annotated

import typer

from mayfly.cli.failures import NO, as_sentences
from mayfly.cli.tables import AsJson, show

app = typer.Typer(no_args_is_help=True)
_COLUMNS = (
    ("CLAIM", "claim"),
    ("STATE", "state"),
    ("POOL", "pool"),
    ("OWNER", "owner"),
    ("MACHINE", "machine"),
    ("RUNNER", "runner"),
    ("JOB", "job_id"),
    ("SINCE", "since"),
    ("WHY", "detail"),
)
_AT_GITHUB = (
    ("RUNNER", "name"),
    ("SCOPE", "scope"),
    ("STATUS", "status"),
    ("BUSY", "busy"),
    ("LABELS", "labels"),
    ("WHOSE", "whose"),
)


@app.callback()
def _group() -> None:
    """Keeps `list` a command of its own."""


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Ended ones too.")] = False,
    github: Annotated[
        bool, typer.Option("--github", help="What GitHub has, in all installations; finds leaks.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List runners; with --github, exit code 3 when one of ours was left behind."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.web.views import GitHubRunnerView, RunnerView

        if not github:
            rows = calls.get("/v1/runners", list[RunnerView], live=not everything)
            show(rows, _COLUMNS, as_json=as_json, empty="no runner is being made or at work")
            return
        found = calls.get("/v1/runners/github", list[GitHubRunnerView])
        show(
            found,
            _AT_GITHUB,
            as_json=as_json,
            empty="GitHub has no runner of this App",
        )
        if any(runner.whose == "leaked" for runner in found):
            raise typer.Exit(NO)
