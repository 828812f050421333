"""`mayfly doctor`: look at everything a control plane needs, and change nothing."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mayfly.cli.failures import FAILED, as_sentences
from mayfly.cli.tables import AsJson, word

if TYPE_CHECKING:
    from mayfly.model.findings import Finding

_MARKS = {"good": ("✓", "green"), "warning": ("!", "yellow"), "wrong": ("✗", "bold red")}
_UNCHECKED = ("-", "dim")


def doctor(
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings file.")] = Path(
        "mayfly.toml"
    ),
    as_json: AsJson = False,
) -> None:
    """Check settings, store, bus and the App at GitHub; say what is wrong and what to do.

    Nothing is changed. Exit codes: 0 all is well, 1 something is wrong, 2 unusable settings.
    """
    with as_sentences():
        import asyncio

        import msgspec

        from mayfly.cli.checkup import examine
        from mayfly.cli.settings import load
        from mayfly.engine.clock import SystemClock
        from mayfly.model.findings import Verdict
        from mayfly.telemetry import configure_logs

        settings = load(config)
        # What an adapter logs on the way stands in a finding, too.
        configure_logs(json=False, level="error")
        findings = asyncio.run(examine(settings, config, SystemClock()))
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(findings)).decode())
        else:
            _show(findings)
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        raise typer.Exit(FAILED)


def _show(findings: "list[Finding]") -> None:
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(_table(findings))
    else:
        for finding in findings:
            mark, _ = _MARKS.get(finding.verdict.value, _UNCHECKED)
            typer.echo(f"{mark} {finding.check}: {word(finding.sentence)}")
    typer.echo(_sum(findings))


def _table(findings: "list[Finding]") -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        mark, style = _MARKS.get(finding.verdict.value, _UNCHECKED)
        said = Text(word(finding.found), style="dim" if style == "dim" else "")
        if finding.remedy is not None:
            said.append(f"\n→ {word(finding.remedy)}", style="bold")
        table.add_row(Text(mark, style), Text(finding.check, no_wrap=True), said)
    return table


def _sum(findings: "list[Finding]") -> str:
    counts = Counter(finding.verdict.value for finding in findings)
    return (
        f"{counts['wrong']} wrong, {counts['warning']} warning(s), {counts['good']} good, "
        f"{counts['unchecked']} not checked"
    )
