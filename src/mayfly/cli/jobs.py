"""`mayfly jobs`: workflow jobs, and why one waits."""

from typing import Annotated

import msgspec
import typer

from mayfly.cli.failures import as_sentences
from mayfly.cli.tables import AsJson, show, word

app = typer.Typer(no_args_is_help=True)
JobId = Annotated[int, typer.Argument(help="GitHub's id: the number at the end of its URL.")]
_COLUMNS = (
    ("JOB", "id"),
    ("REPOSITORY", "repository"),
    ("NAME", "name"),
    ("LABELS", "labels"),
    ("STATE", "state"),
    ("DECISION", "decision"),
    ("RUNNER", "runner"),
    ("WAITED s", "waited_seconds"),
    ("RESULT", "conclusion"),
)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(help="Newest first.")] = 50,
    pool: Annotated[str | None, typer.Option(help="Only this pool.")] = None,
    state: Annotated[
        str | None, typer.Option(help="waiting, queued, in_progress or completed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List workflow jobs, newest first."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.web.views import JobView

        rows = calls.get("/v1/jobs", list[JobView], limit=limit, pool=pool, state=state)
        nothing = "no jobs yet; does the App's webhook point to https://HOST/webhooks/github ?"
        show(rows, _COLUMNS, as_json=as_json, empty=nothing)


@app.command("show")
def show_(job: JobId, as_json: AsJson = False) -> None:
    """Show everything known of one job."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.web.views import JobView

        attempts = calls.get(f"/v1/jobs/{job}", list[JobView])
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(attempts)).decode())
            return
        for view in attempts:
            for name, value in msgspec.structs.asdict(view).items():
                typer.echo(f"{name + ':':16}{word(value)}")
            typer.echo()


@app.command()
def explain(job: JobId, as_json: AsJson = False) -> None:
    """Say why a job waits, was refused, or ran where it ran."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.engine.explanations import Explanation

        why = calls.get(f"/v1/jobs/{job}/explain", Explanation)
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(why)).decode())
            return
        labels = ", ".join(why.labels)
        typer.echo(word(f"job {why.job_id} (attempt {why.attempt}) {why.repository}: {why.name}"))
        typer.echo(word(f"labels: {labels}; state: {why.state}"))
        typer.echo(word(why.summary))
        for fact in why.facts:
            typer.echo(f"  - {word(fact)}")
