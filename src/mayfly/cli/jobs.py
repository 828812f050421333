"""`mayfly jobs`: workflow jobs, and why one waits."""

from typing import Annotated

import msgspec
import typer

from mayfly.cli.failures import NO, as_sentences
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
_STALLED = (
    ("JOB", "job_id"),
    ("POOL", "pool"),
    ("SCOPE", "scope"),
    ("LABELS", "labels"),
    ("QUEUED", "queued"),
    ("FAILURES", "failures"),
    ("MACHINES", "machines"),
    ("WHY", "reason"),
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
        nothing = "no jobs yet; `mayfly config check` says what the App at GitHub has to be like"
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


@app.command()
def stalled(as_json: AsJson = False) -> None:
    """List jobs without a runner that are tried once an hour only, and why; one of each group."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.web.views import StallView

        rows = calls.get("/v1/stalled", list[StallView])
        show(rows, _STALLED, as_json=as_json, empty="nothing is stalled")
        if rows and not as_json:
            typer.echo("each is tried once an hour, and at once after: mayfly jobs retry JOB")


@app.command()
def retry(job: JobId) -> None:
    """Forget the failures before a job, so that it may have a runner; exit code 3 when no help."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.engine.retries import Retried

        try:
            retried = calls.post(f"/v1/jobs/{job}/retry", Retried)
        except calls.Declined as no:
            typer.echo(word(no))
            raise typer.Exit(NO) from no
        typer.echo(word(retried.sentence))
