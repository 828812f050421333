"""What a person sees of the demo: live on a terminal, plain lines elsewhere, a table at the end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mayfly.web.views import JobView

COLORS = {
    "success": "green",
    "failure": "red",
    "refused": "yellow",
    "in_progress": "cyan",
    "queued": "dim",
}


class Screen(Protocol):
    """Shows the jobs as they are now."""

    def show(self, jobs: Sequence[JobView]) -> None: ...


@contextmanager
def screen(console: Console) -> Iterator[Screen]:
    """Live where there is a terminal, else a line for each change."""
    if not console.is_terminal:
        yield Lines(console)
        return
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        yield Moving(live)


class Moving:
    """A table that moves."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, jobs: Sequence[JobView]) -> None:
        self._live.update(_table(jobs, closing=False))


class Lines:
    """One line when a job's state or decision changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[int, str] = {}

    def show(self, jobs: Sequence[JobView]) -> None:
        for job in jobs:
            now = status(job)
            if self._seen.get(job.id) != now:
                self._seen[job.id] = now
                runner = f" on {job.runner}" if job.runner else ""
                self._console.print(
                    f"{job.repository:20} {job.name:8} {now}{runner}", highlight=False
                )


def closing_table(console: Console, jobs: Sequence[JobView]) -> None:
    """Every job: labels, decision and why, runner, wait, result."""
    if not console.is_terminal:
        console.width = 200
    console.print(_table(jobs, closing=True))


def status(job: JobView) -> str:
    """One word."""
    if job.decision != "admitted":
        return "refused"
    return job.conclusion or job.state


def _table(jobs: Sequence[JobView], *, closing: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headings = ["JOB", "REPOSITORY", "LABELS", "RUNNER", "WAITED", "RESULT"]
    if closing:
        headings[3:3] = ["DECISION", "WHY"]
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for job in jobs:
        word = status(job)
        cells = [job.name, job.repository, ", ".join(job.labels)]
        if closing:
            cells += ["admitted" if job.decision == "admitted" else "refused", job.sentence]
        waited = f"{job.waited_seconds:.1f} s" if job.runner else "-"
        cells += [job.runner or "-", waited]
        table.add_row(*map(Text, cells), Text(word, COLORS.get(word, "")))
    return table
