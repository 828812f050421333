"""`mayfly access`: who may use which pool."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mayfly.cli.failures import NO, as_sentences
from mayfly.cli.tables import AsJson, show

if TYPE_CHECKING:
    from mayfly.model.access import AccessRule

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


@app.command("export")
def export() -> None:
    """Print the rules that can be changed at run time, a line of JSON for each."""
    with as_sentences():
        from mayfly.cli import rule_lines

        for line in rule_lines.written(rule for rule in _rules() if not rule.declared):
            typer.echo(line)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `mayfly access export` has printed.")],
) -> None:
    """Grant the rules of a file, all of them or, when a line is wrong, none."""
    with as_sentences():
        from mayfly.cli import calls, rule_lines
        from mayfly.model.access import by_identity
        from mayfly.web.views import PoolView

        text = rule_lines.text_of(file)
        pools = [pool.name for pool in calls.get("/v1/pools", list[PoolView])]
        rules, known = rule_lines.read(text, pools, str(file)), by_identity(_rules())
        new = [rule for rule in rules if rule.identity not in known]
        for rule in new:
            calls.put(
                "/v1/access",
                {"owner": rule.owner, "repository": rule.repository, "label": rule.label},
            )
        typer.echo(f"{len(new)} new, {len(rules) - len(new)} there already")


def _rules() -> "list[AccessRule]":
    from mayfly.cli import calls
    from mayfly.model.access import AccessRule
    from mayfly.web.views import RuleView

    return [
        AccessRule(
            label=rule.label,
            owner=rule.owner,
            repository=rule.repository,
            declared=rule.declared,
        )
        for rule in calls.get("/v1/access", list[RuleView])
    ]
