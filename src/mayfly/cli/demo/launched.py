"""Executors that the demo's control plane has started: they outlive it unless they are ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec

from mayfly.cli.demo.endings import to_its_end
from mayfly.launchers.process import ProcessLauncher, Settings
from mayfly.model.errors import Transient
from mayfly.model.launches import LaunchPhase, LaunchState
from mayfly.web.launches_api import LaunchView

_POOL = "linux"
_END_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_RUNNING = {LaunchState.STARTING, LaunchState.RUNNING}


@asynccontextmanager
async def launched(made: Path) -> AsyncIterator[None]:
    """None of them runs afterwards."""
    try:
        yield
    finally:
        await to_its_end(_ended(made))


async def all_over(client: httpx.AsyncClient) -> list[LaunchView]:
    """Every launch, once none of them runs any more. Transient when one goes on."""
    async with asyncio.timeout(_END_SECONDS):
        while True:
            answer = (await client.get("/v1/launches?limit=1000")).raise_for_status()
            launches = msgspec.json.decode(answer.content, type=list[LaunchView])
            if all(launch.phase == LaunchPhase.OVER.value for launch in launches):
                return launches
            await asyncio.sleep(_LOOK_SECONDS)


async def _ended(made: Path) -> None:
    settings = Settings(config=made, state_dir=made / "launches", grace_seconds=_END_SECONDS / 2)
    launcher = ProcessLauncher(settings, "")
    try:
        async with asyncio.timeout(_END_SECONDS):
            while living := [
                one for one in await launcher.launched(_POOL) if one.state in _RUNNING
            ]:
                for one in living:
                    await launcher.stop(_POOL, one.id)
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError as error:
        raise Transient("an executor that was started goes on") from error
