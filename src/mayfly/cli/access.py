"""`mayfly access`: who may use which pool."""

from typing import Annotated

import typer

from mayfly.cli.failures import NO, as_sentences
from mayfly.cli.tables import AsJson, show

app = typer.Typer(no_args_is_help=True)
Subject = Annotated[str, typer.Argument(help="OWNER, or OWNER/REPOSITORY.")]
PoolName = Annotated[str, typer.Argument(help="The pool: the second label of its jobs.")]
_COLUMNS = (("OWNER", "owner"), ("REPOSITORY", "repository"), ("POOL", "label"), ("RULE", "text"))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the rules; without one, nobody may use anything."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.web.views import RuleView

        nothing = "no rules, so nobody may use any pool; mayfly access allow OWNER[/REPO] POOL"
        rows = calls.get("/v1/access", list[RuleView])
        show(rows, _COLUMNS, as_json=as_json, empty=nothing)


@app.command()
def allow(subject: Subject, pool: PoolName) -> None:
    """Let an owner, or one repository, use a pool; jobs that wait for it go ahead at once."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.model.access import parsed_subject

        owner, repository = parsed_subject(subject)
        calls.put("/v1/access", {"owner": owner, "repository": repository, "label": pool})
        typer.echo(f"{subject} may use {pool}")


@app.command()
def revoke(subject: Subject, pool: PoolName) -> None:
    """Take a rule back; queued jobs are refused, running ones go on."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.model.access import parsed_subject

        owner, repository = parsed_subject(subject)
        calls.delete("/v1/access", owner=owner, repository=repository, label=pool)
        typer.echo(f"the rule for {subject} and {pool} is gone")


@app.command()
def check(subject: Subject, pool: PoolName) -> None:
    """Say whether OWNER/REPOSITORY may use a pool, and by which rule; exit code 3 when not."""
    with as_sentences():
        from mayfly.cli import calls
        from mayfly.model.access import parsed_subject
        from mayfly.model.errors import InvalidSettings
        from mayfly.web.views import AccessVerdict

        owner, repository = parsed_subject(subject)
        if repository is None:
            raise InvalidSettings(f"name a repository, as in {owner}/REPOSITORY")
        verdict = calls.get(
            "/v1/access/check", AccessVerdict, owner=owner, repository=repository, label=pool
        )
        typer.echo(verdict.sentence)
        if not verdict.allowed:
            raise typer.Exit(NO)
