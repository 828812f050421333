"""Running the control plane in the foreground."""

import asyncio
import signal

from mayfly.cli.settings import Settings
from mayfly.cli.wiring import open_plane
from mayfly.telemetry import configure_logs
from mayfly.web.server import serve


async def serve_forever(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; accepted requests are finished."""
    log = settings.file.log
    configure_logs(json=log.json, level=log.level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_plane(settings) as running:
        server = settings.file.server
        async with serve(running.app, server.host, server.port) as url:
            running.plane.news.publish("server.started", url=url)
            await stop.wait()
            running.plane.news.publish("server.stopped", url=url)
