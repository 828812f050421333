"""Running an executor with the driver its machine's settings name."""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from mayfly import executor
from mayfly.cli.environment import decoded, path_hook, read_secret, variable
from mayfly.drivers import process
from mayfly.executor import Settings, Token, default_state_dir
from mayfly.model.errors import InvalidSettings


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An executor's settings file."""

    runner: dict[str, Any]
    """`[runner]`: the settings of the process driver."""


def execute(
    *,
    pool: str,
    url: str,
    token_file: Path | None,
    config: Path | None,
    once: bool,
    variants: tuple[str, ...],
    machine: str | None,
    state_dir: Path | None,
) -> int:
    """The executor's exit code."""
    if token_file:
        secret: str | None = read_secret(token_file, "the executor's token")
    else:
        secret = variable("MAYFLY_TOKEN")
    if not secret:
        raise InvalidSettings(
            "the executor has no token; give --token-file or MAYFLY_TOKEN. "
            "`mayfly token new NAME --role executor --pool POOL` makes one"
        )
    settings = Settings(
        server=url,
        pool=pool,
        token=Token(secret),
        state_dir=state_dir or default_state_dir(os.environ),
        machine=machine,
        variants=variants,
        once=once,
    )
    return asyncio.run(executor.run(settings, partial(process.open_driver, _runner(config))))


def _runner(config: Path | None) -> process.Settings:
    if config is None:
        raise InvalidSettings(
            "the executor does not know its runner; give --config FILE with "
            '[runner] command = ["bin/Runner.Listener", "run"] and template = "DIRECTORY"'
        )
    runner = decoded(config, File).runner
    try:
        return msgspec.convert(runner, process.Settings, dec_hook=path_hook)
    except msgspec.ValidationError as error:
        raise InvalidSettings(f"{config}: [runner] {error}") from error
