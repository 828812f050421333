"""An edge reflector in front of a stage: its settings, and its process."""

import socket
from collections.abc import Sequence

import msgspec

from tests.e2e.programs import Program
from tests.e2e.stage import Stage

SETTINGS = """\
# reflector.toml
runner_prefix = "e2e"
webhook_secret_files = {secrets}
refused_jobs = "{refused}"

[server]
port = {port}

[bus]
backend = "{bus}"
url_file = "{url_file}"

[log]
level = "debug"
{pools}
"""
POOLS = """
[[pools]]
name = "linux"
max = 4

[[access]]
owner = "octo-org"
pool = "linux"
"""


def address() -> str:
    """Where an edge reflector will listen; GitHub is told before it does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def reflector(
    stage: Stage,
    at: str,
    bus: str,
    url: str,
    *,
    refused: str = "forward",
    secrets: Sequence[str] = ("webhook-secret",),
    name: str = "reflector",
) -> Program:
    """Started, and listening."""
    config = stage.secret(
        f"{name}.toml",
        SETTINGS.format(
            secrets=msgspec.json.encode(
                [str(stage.directory / "secrets" / file) for file in secrets]
            ).decode(),
            refused=refused,
            port=at.rpartition(":")[2],
            bus=bus,
            url_file=stage.secret("bus-url", url),
            pools=POOLS,
        ),
    )
    log = stage.directory / "logs" / f"{name}.log"
    program = await Program.started(name, log, "reflect", "--config", str(config))
    stage.programs.append(program)
    await program.logged("reflector.started")
    return program
