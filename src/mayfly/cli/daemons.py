"""`mayfly serve`, `reflect`, `executor`, `simulator` and `demo`: the commands that keep running."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mayfly.cli.failures import as_sentences


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings file.")] = Path(
        "mayfly.toml"
    ),
) -> None:
    """Run the control plane until SIGTERM or Ctrl-C; what was accepted is finished first."""
    with as_sentences():
        import uvloop

        from mayfly.cli.serving import serve_forever
        from mayfly.cli.settings import load

        uvloop.run(serve_forever(load(config)))


def reflect(
    config: Annotated[Path, typer.Option("--config", "-c", help="Its settings file.")] = Path(
        "reflector.toml"
    ),
) -> None:
    """Run an edge reflector: webhooks in, proven events onto the bus, no App key and no ledger.

    A control plane with intake = "bus" records them.
    """
    with as_sentences():
        import uvloop

        from mayfly.cli.edge_settings import load
        from mayfly.cli.reflecting import reflect_forever

        uvloop.run(reflect_forever(load(config)))


def executor(
    pool: Annotated[str, typer.Option(envvar="MAYFLY_POOL", help="The pool to serve.")],
    url: Annotated[
        str, typer.Option("--url", envvar="MAYFLY_URL", help="The control plane.")
    ] = "http://127.0.0.1:8080",
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="MAYFLY_TOKEN_FILE", help="The executor's token; or MAYFLY_TOKEN."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", envvar="MAYFLY_CONFIG", help="How this machine runs a runner."
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One job, then exit.")] = False,
    variant: Annotated[list[str] | None, typer.Option(help="Served; may be repeated.")] = None,
    machine: Annotated[
        str | None, typer.Option(envvar="MAYFLY_MACHINE", help="Default: the host's name.")
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(envvar="MAYFLY_STATE_DIR", help="Slots and fresh directories."),
    ] = None,
) -> None:
    """Serve a pool on this machine: one fresh runner for each claim, cleaned up afterwards.

    Exit codes: 0 job done, 1 internal error, 2 wrong settings, 42 told to shut down,
    with --once otherwise the runner's own code.
    """
    with as_sentences():
        from mayfly.cli.executing import execute

        code = execute(
            pool=pool,
            url=url,
            token_file=token_file,
            config=config,
            once=once,
            variants=tuple(variant or ()),
            machine=machine,
            state_dir=state_dir,
        )
    raise typer.Exit(code)


def simulator(
    webhook_url: Annotated[str | None, typer.Option(help="Where deliveries go.")] = None,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8070,
    app_key: Annotated[
        Path, typer.Option(help="The App's private key; made when there is none.")
    ] = Path("simulator-app.pem"),
    webhook_secret_file: Annotated[
        Path, typer.Option(help="The webhook's secret; made when there is none.")
    ] = Path("simulator-webhook-secret"),
    workflow: Annotated[
        list[Path] | None, typer.Option(help="Dispatched at start; may be repeated.")
    ] = None,
    owner: Annotated[str, typer.Option(help="Has the App installed.")] = "octo-org",
    repository: Annotated[list[str] | None, typer.Option(help="Of the owner.")] = None,
    runner_flow: Annotated[
        Literal["v1", "v2"], typer.Option(help="How a runner of GitHub's protocol gets its job.")
    ] = "v1",
    runner_encryption: Annotated[
        Literal["sha1", "sha256", "plain"], typer.Option(help="How its messages are sealed.")
    ] = "sha1",
) -> None:
    """Run GitHub in a box on loopback: for trying out, for tests, never for real jobs."""
    with as_sentences():
        from mayfly.cli.simulating import simulate

        simulate(
            webhook_url=webhook_url,
            port=port,
            app_key=app_key,
            secret_file=webhook_secret_file,
            workflows=tuple(workflow or ()),
            owner=owner,
            repositories=tuple(repository or ("octo-repo",)),
            runner_flow=runner_flow,
            runner_encryption=runner_encryption,
        )


def demo(
    store: Annotated[
        str, typer.Option(help="Where the ledger is: sqlite, or postgres at MAYFLY_STORE_URL.")
    ] = "sqlite",
    bus: Annotated[
        str,
        typer.Option(
            help="Where runner requests wait: sql (the ledger's database), sqlite, memory, or "
            "postgres, rabbitmq, servicebus at MAYFLY_BUS_URL."
        ),
    ] = "sql",
    scale: Annotated[
        str, typer.Option(help="parked executors, or zero: they start when 12 jobs are queued.")
    ] = "parked",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the work directory.")] = False,
) -> None:
    """Run 8 workflow jobs end to end on this machine, against a simulated GitHub.

    What it makes on a server is called mayfly_demo_… and removed afterwards.

    Without a url a server is on this machine, with its usual port and user.
    """
    with as_sentences():
        from mayfly.cli.demo import Wanted, run_demo

        code = run_demo(Wanted(store, bus, keep, scale))
    raise typer.Exit(code)
