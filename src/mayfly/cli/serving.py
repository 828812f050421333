"""Running the control plane in the foreground."""

import asyncio
import gc
import signal
from datetime import timedelta

import structlog

from mayfly.cli.settings import Settings
from mayfly.cli.wiring import open_plane
from mayfly.engine.intake import Intake
from mayfly.model.errors import MayflyError
from mayfly.telemetry import configure_logs
from mayfly.web.server import serve

REVIEW_PAUSE = timedelta(milliseconds=250)
"""Between two pages of 500 jobs: 100,000 take under two minutes, at a tenth of a core."""

REVIEW_AGAIN = timedelta(seconds=20)
"""After one that failed: as soon as a turn would."""

log = structlog.get_logger("mayfly")


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
            review = asyncio.create_task(_review(running.plane.intake))
            await stop.wait()
            review.cancel()
            running.plane.news.publish("server.stopped", url=url)


async def _review(intake: Intake) -> None:
    """mayfly.toml may have changed since the queued jobs were decided."""
    while True:
        try:
            return await intake.review(pause=REVIEW_PAUSE)
        except MayflyError as error:
            log.warning("review.failed", reason=str(error))
        await asyncio.sleep(REVIEW_AGAIN.total_seconds())
