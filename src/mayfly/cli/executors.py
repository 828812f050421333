"""`mayfly executors`: which executors there are, and which of them shall not serve any more."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from mayfly.cli.failures import NO, as_sentences
from mayfly.cli.tables import AsJson, show, word

if TYPE_CHECKING:  # views import msgspec structs of the whole operator API
    from mayfly.web.views import ExecutorView

app = typer.Typer(no_args_is_help=True)
Machine = Annotated[
    str | None, typer.Argument(help="As `executors list` shows it, or a host with all its slots.")
]
Pool = Annotated[
    str | None, typer.Option("--pool", help="Any one of this pool; with --all: every one of it.")
]
All = Annotated[bool, typer.Option("--all", help="Every executor.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Shown in `executors list`.")]
Wait = Annotated[
    float | None,
    typer.Option("--wait", min=0, metavar="SECONDS", help="Until it is done; else exit code 3."),
]
_LOOK_SECONDS = 1.0
_NOBODY = "no executor is known; `mayfly executor` starts one"
_COLUMNS = (
    ("MACHINE", "machine"),
    ("POOL", "pool"),
    ("STATE", "state"),
    ("SERVICE", "service"),
    ("CLAIM", "claim"),
    ("JOB", "job_id"),
    ("LAST SEEN", "last_seen"),
    ("WHY", "reason"),
)


@app.command("list")
def list_(
    pool: Annotated[str | None, typer.Option(help="Only this pool.")] = None,
    as_json: AsJson = False,
) -> None:
    """List executors: idle, busy or absent, in service or not, and why not."""
    with as_sentences():
        show(_known(pool), _COLUMNS, as_json=as_json, empty=_NOBODY)


@app.command()
def drain(
    machine: Machine = None,
    pool: Pool = None,
    everything: All = False,
    reason: Reason = None,
    wait: Wait = None,
    as_json: AsJson = False,
) -> None:
    """Let executors finish their job and take no other until they are returned; says which."""
    with as_sentences():
        told = _told("drain", machine, pool, everything=everything, reason=reason)
        _answer(told, wait, _works, as_json=as_json)


@app.command()
def shutdown(
    machine: Machine = None,
    pool: Pool = None,
    everything: All = False,
    wait: Wait = None,
    as_json: AsJson = False,
) -> None:
    """Let executors finish their job and exit with 42; says which."""
    with as_sentences():
        told = _told("shutdown", machine, pool, everything=everything)
        _answer(told, wait, _is_there, as_json=as_json)


@app.command("return")
def return_(
    machine: Machine = None, pool: Pool = None, everything: All = False, as_json: AsJson = False
) -> None:
    """Let executors serve again, their failures forgotten; says which."""
    with as_sentences():
        told = _told("return", machine, pool, everything=everything)
        show(told, _COLUMNS, as_json=as_json, empty=_NOBODY)


def _known(pool: str | None = None) -> "list[ExecutorView]":
    from mayfly.cli import calls
    from mayfly.web.views import ExecutorView

    return calls.get("/v1/executors", list[ExecutorView], pool=pool)


def _told(
    verb: str, machine: str | None, pool: str | None, *, everything: bool, reason: str | None = None
) -> "list[ExecutorView]":
    """The executors that were told; the control plane's no is exit code 3."""
    from mayfly.cli import calls
    from mayfly.model.protocol import ExecutorsOrder
    from mayfly.web.views import ExecutorView

    if machine is None and pool is None and not everything:
        raise typer.BadParameter("name a machine, or say --pool POOL or --all")
    if machine is not None and everything:
        raise typer.BadParameter("name a machine or say --all, but not both")
    order = ExecutorsOrder(machine=machine, pool=pool, everything=everything, reason=reason)
    try:
        return calls.post(f"/v1/executors/{verb}", list[ExecutorView], order)
    except calls.Declined as no:
        typer.echo(word(no))
        raise typer.Exit(NO) from no


def _answer(
    told: "list[ExecutorView]",
    wait: float | None,
    lasts: "Callable[[ExecutorView], bool]",
    *,
    as_json: bool,
) -> None:
    """Show them as they are at last; exit code 3 when what is waited for still lasts with one."""
    over = True
    if wait is not None:
        told, over = _waited(told, wait, lasts)
    show(told, _COLUMNS, as_json=as_json, empty=_NOBODY)
    if not over:
        raise typer.Exit(NO)


def _works(executor: "ExecutorView") -> bool:
    return executor.claim is not None


def _is_there(executor: "ExecutorView") -> bool:
    return executor.state != "absent"


def _waited(
    told: "list[ExecutorView]", seconds: float, lasts: "Callable[[ExecutorView], bool]"
) -> "tuple[list[ExecutorView], bool]":
    """The executors as they were seen last, and whether it was over with all of them in time.

    One that has ended is not known any more.
    """
    last = {(one.pool, one.machine): one for one in told}
    deadline = time.monotonic() + seconds
    while True:
        now = {(one.pool, one.machine): one for one in _known()}
        last |= {key: now[key] for key in last if key in now}
        over = not any(lasts(one) for key, one in last.items() if key in now)
        if over or time.monotonic() >= deadline:
            return list(last.values()), over
        time.sleep(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
