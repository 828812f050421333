"""The edge reflector: put together, and run in the foreground or inside another host."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from mayfly.backends import OpenBus
from mayfly.cli.backends import backend
from mayfly.cli.edge_settings import EdgeSettings, RefusedJobs, load
from mayfly.cli.wiring import kept_apart
from mayfly.engine.admission import Admission
from mayfly.engine.clock import SystemClock
from mayfly.engine.news import News
from mayfly.engine.plane import Edge
from mayfly.engine.reflecting import EdgeIntake
from mayfly.model.requests import EVENTS
from mayfly.store.declared import DeclaredAccessRules, NoRules
from mayfly.telemetry import Telemetry, configure_logs
from mayfly.web.app import Front
from mayfly.web.edge import build_edge
from mayfly.web.hosting import Hosted
from mayfly.web.server import serve


async def reflect_forever(settings: EdgeSettings) -> None:
    """Until SIGTERM or SIGINT; accepted requests are finished."""
    configure_logs(json=settings.file.log.json, level=settings.file.log.level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    news, server = News(SystemClock()), settings.file.server
    app = hosted(settings)
    await app.start()
    async with serve(app, server.host, server.port) as url:
        news.publish("reflector.started", url=url, bus=settings.file.bus.backend)
        await stop.wait()
        news.publish("reflector.stopped", url=url)


def hosted(settings: EdgeSettings) -> Hosted:
    """The edge reflector as an ASGI callable that opens what it needs by itself."""
    return Hosted(partial(open_edge, settings), SystemClock())


def function(path: Path) -> Hosted:
    """The same for a host of functions, from its settings file, with its logs in order."""
    settings = load(path)
    configure_logs(json=settings.file.log.json, level=settings.file.log.level)
    return hosted(settings)


@asynccontextmanager
async def open_edge(settings: EdgeSettings) -> AsyncIterator[Front]:
    """Everything but the listening socket, for as long as the context lives."""
    file, pools, clock = settings.file, settings.pools, SystemClock()
    open_bus: OpenBus = backend("buses", file.bus.backend).open_bus
    telemetry, news = Telemetry([pool.name for pool in pools]), News(clock)
    async with AsyncExitStack() as stack:
        url = settings.bus_url.reveal()
        bus = await stack.enter_async_context(open_bus(url, clock, [EVENTS]))
        kept = await kept_apart(file.access_rules, settings.access_key, clock, stack)
        access = DeclaredAccessRules(settings.rules, kept or NoRules())
        intake = EdgeIntake(
            bus,
            Admission(pools, file.labels.convention, access),
            news,
            telemetry,
            prefix=file.runner_prefix,
            forwards_refused=file.refused_jobs is RefusedJobs.FORWARD,
        )
        edge = Edge(pools=pools, access=access, bus=bus, clock=clock, intake=intake, news=news)
        yield build_edge(
            edge, secrets=settings.webhook_secrets, tokens=file.tokens, telemetry=telemetry
        )
