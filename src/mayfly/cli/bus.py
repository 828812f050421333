"""`mayfly bus`: what waits on the bus, what is dead, and making it empty."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from mayfly.cli.failures import as_sentences
from mayfly.cli.tables import AsJson, show

if TYPE_CHECKING:  # opening a bus imports its backend, which `--help` need not wait for
    from mayfly.cli.buses import Opened

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True)
dead = typer.Typer(no_args_is_help=True)
app.add_typer(dead, name="dead", help="Messages nobody is given any more.")

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Open the bus this file names; default: mayfly.toml."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", envvar="MAYFLY_URL", help="Ask a control plane, as an operator."),
]
Pools = Annotated[list[str] | None, typer.Option("--pool", help="May be repeated; default: all.")]
Most = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Of each pool.")]


class Count(msgspec.Struct, frozen=True):
    """So many messages of a pool."""

    pool: str
    messages: int


class Seen(msgspec.Struct, frozen=True):
    """A message of a pool; `reason` when it is dead."""

    pool: str
    published_at: datetime
    text: str
    reason: str | None = None


_MESSAGES = (("POOL", "pool"), ("PUBLISHED", "published_at"), ("MESSAGE", "text"))
_DEAD = (*_MESSAGES, ("WHY", "reason"))


@app.command()
def declare(
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings file.")] = Path(
        "mayfly.toml"
    ),
) -> None:
    """Make on the server what the bus needs for the pools of mayfly.toml. Idempotent."""
    with as_sentences():
        from mayfly.cli.buses import declared

        for line in asyncio.run(declared(config)):
            typer.echo(line)


@app.command()
def depth(
    pool: Pools = None, config: Config = None, url: Url = None, as_json: AsJson = False
) -> None:
    """Count the runner requests that wait, those that are leased left out."""
    with as_sentences():
        _show_counts(_on_bus(_depths, pool, config, url), "WAITING", as_json=as_json)


@app.command()
def peek(
    pool: Pools = None,
    limit: Most = 20,
    config: Config = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show runner requests that wait, without taking them."""

    async def look(opened: "Opened") -> list[Seen]:
        return [
            Seen(name, one.published_at, one.text)
            for name in opened.pools
            for one in await opened.bus.peek(name, limit)
        ]

    with as_sentences():
        seen = _on_bus(look, pool, config, url)
        show(seen, _MESSAGES, as_json=as_json, empty="nothing waits")


@app.command()
def drain(
    pool: Pools = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    config: Config = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Remove every runner request that waits; the control plane rings again for what is open."""

    async def empty(opened: "Opened") -> list[Count]:
        if not yes:
            waiting = sum(count.messages for count in await _depths(opened))
            typer.confirm(f"remove {waiting} messages of {', '.join(opened.pools)}?", abort=True)
        return [Count(name, await opened.bus.drain(name)) for name in opened.pools]

    with as_sentences():
        _show_counts(_on_bus(empty, pool, config, url), "REMOVED", as_json=as_json)


@dead.command("list")
def list_(
    pool: Pools = None,
    limit: Most = 20,
    config: Config = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show messages nobody is given any more, and why."""

    async def look(opened: "Opened") -> list[Seen]:
        return [
            Seen(name, one.published_at, one.text, one.reason)
            for name in opened.pools
            for one in await opened.bus.dead(name, limit)
        ]

    with as_sentences():
        seen = _on_bus(look, pool, config, url)
        show(seen, _DEAD, as_json=as_json, empty="no message is dead")


@dead.command()
def requeue(
    pool: Pools = None, config: Config = None, url: Url = None, as_json: AsJson = False
) -> None:
    """Let every dead message wait again, as if it had never been leased."""

    async def again(opened: "Opened") -> list[Count]:
        return [Count(name, await opened.bus.requeue(name)) for name in opened.pools]

    with as_sentences():
        _show_counts(_on_bus(again, pool, config, url), "REQUEUED", as_json=as_json)


async def _depths(opened: "Opened") -> list[Count]:
    return [Count(name, await opened.bus.depth(name)) for name in opened.pools]


def _show_counts(counts: list[Count], heading: str, *, as_json: bool) -> None:
    show(counts, (("POOL", "pool"), (heading, "messages")), as_json=as_json, empty="no pools")


def _on_bus(
    do: "Callable[[Opened], Awaitable[list[T]]]",
    pools: list[str] | None,
    config: Path | None,
    url: str | None,
) -> list[T]:
    """What `do` finds on the bus the options choose."""
    from mayfly.cli.buses import Choice, opened

    async def done() -> list[T]:
        async with opened(Choice(config, url, tuple(pools or ()))) as bus:
            return await do(bus)

    return asyncio.run(done())
