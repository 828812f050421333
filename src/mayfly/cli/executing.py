"""Running an executor with the driver its machine's settings name."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from mayfly import executor
from mayfly.backends import OpenBus
from mayfly.calls import open_calls
from mayfly.cli.backends import backend
from mayfly.cli.environment import ENVIRONMENT, decoded, path_hook, read_secret, taken, variable
from mayfly.cli.installing import asked
from mayfly.drivers.runs import RunnerSettings
from mayfly.executor import Settings, Token, default_state_dir
from mayfly.executor.claims import StartedQuestion
from mayfly.model.errors import InvalidSettings
from mayfly.model.launches import Ticket
from mayfly.ports import Driver
from mayfly.releases import cache
from mayfly.releases.upkeep import kept_current

LAUNCHED_IDLE_SECONDS = 3600.0
"""A launched executor costs; one that the control plane has lost ends by itself."""


class Tuning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[executor]`: how it reaches the control plane, and how patient it is."""

    ca_file: Path | None = None
    """Certificates to trust instead of the usual ones."""
    plain_http: bool = False
    """Allow http:// to another host, where the token could be read on the way."""
    driver: str = "process"
    """How a runner runs: the name of an entry point `mayfly.drivers`; `[runner]` is its table."""
    bus: str = "remote"
    """Where it hears of work; `remote`: from the control plane."""
    bus_url_file: Path | None = None
    """A file with the url of another bus; or MAYFLY_BUS_URL."""
    idle_seconds: float | None = None
    """Exit with 0 when nothing came for so long; unset: wait for ever."""
    prepare_timeout_seconds: float = 900.0
    """From the claim to the registration; 15 min, so that a board can boot."""


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An executor's settings file."""

    runner: dict[str, Any]
    """`[runner]`: the settings of the driver that `[executor] driver` names."""
    executor: Tuning = Tuning()


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
    token = _proof(token_file)
    launched = isinstance(token, Ticket)
    file = _file(config)
    tuning = file.executor
    settings = Settings(
        server=url,
        pool=pool,
        token=token,
        state_dir=state_dir or default_state_dir(ENVIRONMENT),
        machine=machine,
        variants=variants,
        once=once or launched,
        ca_file=tuning.ca_file,
        plain_http=tuning.plain_http,
        idle_seconds=tuning.idle_seconds or (LAUNCHED_IDLE_SECONDS if launched else None),
        prepare_timeout_seconds=tuning.prepare_timeout_seconds,
    )
    open_driver = _driver(file, config, settings)
    work = executor.run(settings, open_driver, open_bus=_own_bus(tuning, pool))
    return asyncio.run(_to_the_end(work))


@asynccontextmanager
async def _current_driver(
    open_driver: executor.OpenDriver,
    releases: Path,
    settings: Settings,
    home: Path,
    started: StartedQuestion,
) -> AsyncIterator[Driver]:
    async with (
        open_calls(
            settings.server, settings.token.reveal(), caller="executor", ca_file=settings.ca_file
        ) as calls,
        open_driver(home, started) as driver,
        kept_current(releases, partial(asked, calls), ca_file=settings.ca_file),
    ):
        yield driver


def _proof(token_file: Path | None) -> Token | Ticket:
    """A ticket leaves the environment at once; a launched executor has no token yet."""
    ticket = taken("MAYFLY_TICKET")
    if ticket is None and (path := variable("MAYFLY_TICKET_FILE")) is not None:
        ticket = read_secret(Path(path), "the executor's ticket")
    if ticket is not None:
        return Ticket(Token(ticket).reveal())
    secret = read_secret(token_file, "the executor's token") if token_file else None
    secret = secret or variable("MAYFLY_TOKEN")
    if not secret:
        raise InvalidSettings(
            "the executor has no token; give --token-file or MAYFLY_TOKEN. "
            "`mayfly token new NAME --role executor --pool POOL` makes one"
        )
    return Token(secret)


def _own_bus(tuning: Tuning, pool: str) -> executor.OwnBus:
    """Nothing with `remote`: the executor API's own lease is settled with the claim."""
    if tuning.bus == "remote":
        return nullcontext
    if tuning.bus == "memory":
        raise InvalidSettings(
            '[executor] bus = "memory" is in the control plane\'s process; leave `bus` out'
        )
    # An executor that leases over HTTPS does not pay for this.
    from mayfly.engine.clock import SystemClock

    url = variable("MAYFLY_BUS_URL")
    if url is None and tuning.bus_url_file is not None:
        url = read_secret(tuning.bus_url_file, "the url of the bus")
    if url is None:
        raise InvalidSettings(
            f'[executor] bus = "{tuning.bus}" has no url; '
            "name its file in bus_url_file or set MAYFLY_BUS_URL"
        )
    open_bus: OpenBus = backend("buses", tuning.bus).open_bus
    return partial(open_bus, url, SystemClock(), [pool])


async def _to_the_end(run: Coroutine[Any, Any, int]) -> int:
    """A signal that comes while the program ends must not change its exit code."""
    try:
        return await run
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})


def _file(config: Path | None) -> File:
    if config is None:
        raise InvalidSettings(
            "the executor does not know its runner; give --config FILE with "
            '[runner] release = "newest" after `mayfly runner install`'
        )
    return decoded(config, File, 'write one with [runner] release = "newest"')


def _driver(file: File, config: Path | None, settings: Settings) -> executor.OpenDriver:
    """`open_driver` of the driver the file names, with its `[runner]` filled in.

    With `newest`, the upkeep of the releases it uses stands beside it.
    """
    module = backend("drivers", file.executor.driver)
    try:
        runner = msgspec.convert(file.runner, module.Settings, dec_hook=path_hook)
    except msgspec.ValidationError as error:
        raise InvalidSettings(f"{config}: [runner] {error}") from error
    if not isinstance(runner, RunnerSettings):
        return partial(module.open_driver, runner)  # its runner is not on this machine
    releases = runner.cache or cache.in_state_dir(settings.state_dir)
    found = msgspec.structs.replace(runner, cache=releases)
    open_driver = partial(module.open_driver, found)
    if found.release != cache.NEWEST or isinstance(settings.token, Ticket):
        return open_driver  # one that was launched ends before a newer release is of use to it
    return partial(_current_driver, open_driver, releases, settings)
