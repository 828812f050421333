"""Upkeep: a machine at work installs each new release by itself, beside the jobs that run."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mayfly.model.errors import MayflyError
from mayfly.model.releases import Offer
from mayfly.releases.cache import Busy
from mayfly.releases.installs import install

log = logging.getLogger(__name__)

Ask = Callable[[], Awaitable[Sequence[Offer]]]

PERIOD = 6 * 3600.0
"""A release is refused after 30 days, so hours are soon enough."""


@asynccontextmanager
async def kept_current(
    directory: Path, ask: Ask, *, ca_file: Path | None = None, period: float = PERIOD
) -> AsyncIterator[None]:
    """Look for a newer release now and every few hours, for as long as the context lives.

    What goes wrong is told and tried again: the releases that are there go on working.
    """
    looking = asyncio.create_task(_look_again_and_again(directory, ask, ca_file, period))
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait({looking})


async def _look_again_and_again(
    directory: Path, ask: Ask, ca_file: Path | None, period: float
) -> None:
    while True:
        try:
            # Of several executors on a machine one is enough, so no wait for another one's lock.
            found = await install(directory, await ask(), wait=0.0, ca_file=ca_file)
        except Busy:
            log.debug("another process installs already")
        except MayflyError as error:
            log.warning("release.not_installed reason=%r", str(error))
        except Exception:  # the top of a loop: an executor lives without it
            log.exception("release.not_installed reason='an internal error'")
        else:
            if found.fresh:
                log.info("release.installed version=%s", found.version)
        # Not in step: many machines are started together.
        await asyncio.sleep(period * random.uniform(0.75, 1.0))  # noqa: S311 - jitter, not a secret
