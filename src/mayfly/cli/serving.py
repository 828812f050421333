"""Running the control plane in the foreground."""

import asyncio
import gc
import signal

from mayfly.cli.settings import Settings
from mayfly.cli.wiring import open_plane
from mayfly.telemetry import configure_logs
from mayfly.web.server import serve


async def serve_forever(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; accepted requests are finished."""
    configure_logs(json=settings.file.log.json, level=settings.file.log.level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_plane(settings) as running:
        # What was made at start stays; what a request makes dies by counting. Collecting cycles
        # every 700 objects would walk over both again and again.
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        server = settings.file.server
        async with serve(running.app, server.host, server.port) as url:
            intake = settings.file.github.intake.value
            running.plane.news.publish("server.started", url=url, intake=intake)
            await stop.wait()
            running.plane.news.publish("server.stopped", url=url)
