"""`mayfly`: the commands. Each imports what it needs, so that `--help` and executors start fast."""

from importlib.metadata import version as installed_version

import typer

from mayfly.cli import (
    access,
    bus,
    config,
    daemons,
    doctor,
    events,
    executors,
    jobs,
    launches,
    pools,
    runner,
    runners,
    tokens,
)

app = typer.Typer(
    name="mayfly",
    help="One fresh self-hosted runner for every queued GitHub Actions job, gone afterwards.",
    epilog="First time? `mayfly demo` shows everything on this machine, without GitHub. "
    "Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 the answer is no.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("serve")(daemons.serve)
app.command("reflect")(daemons.reflect)
app.command("executor")(daemons.executor)
app.command("simulator")(daemons.simulator)
app.command("demo")(daemons.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(jobs.app, name="jobs", help="Workflow jobs, and why one waits.")
app.add_typer(runners.app, name="runners", help="Runners being made, at work, or left over.")
app.add_typer(runner.app, name="runner", help="GitHub's runner program on this machine.")
app.add_typer(executors.app, name="executors", help="Executors, and whether they serve.")
app.add_typer(launches.app, name="launches", help="Executors that were started for work.")
app.add_typer(pools.app, name="pools", help="Pools and how full they are.")
app.add_typer(bus.app, name="bus", help="What waits on the bus, and what is dead.")
app.add_typer(access.app, name="access", help="Who may use which pool.")
app.add_typer(events.app, name="events", help="What is happening now.")
app.add_typer(config.app, name="config", help="mayfly.toml.")
app.add_typer(tokens.app, name="token", help="Bearer tokens for executors, operators and metrics.")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("mayfly-runners"))


def main() -> None:
    """The console script."""
    app()
