"""Hands: executors of this process, whose runners take a job and report success at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec

from mayfly.drivers.jitconfig import unpacked
from mayfly.executor import Settings, Timing, Token
from mayfly.executor.claims import StartedQuestion
from mayfly.executor.client import open_client
from mayfly.executor.loop import Rounds
from mayfly.executor.shutdown import Shutdown
from mayfly.model.protocol import Granted, Outcome
from mayfly.ports import Finished
from tests.e2e.stage import Stage

_POOL = "linux"
_GONE = 404


class InstantDriver:
    """Speaks to GitHub as a runner does; nothing is run."""

    async def prepare(self, claim: Granted) -> None:
        """There is nothing to prepare."""

    async def run(self, name: str, jit_config: str) -> Finished:
        files = {file: msgspec.json.decode(text) for file, text in unpacked(jit_config).items()}
        secret = files[".credentials"]["Data"]["Token"]
        async with httpx.AsyncClient(
            base_url=files[".runner"]["ServerUrl"], trust_env=False, timeout=60
        ) as github:
            session = await _said(github, "POST", "session", secret)
            await _one_job(github, session["session"])
        return Finished(Outcome.DONE, 0, "")

    async def cleanup(self) -> None:
        """There is nothing to clean up."""


async def _one_job(github: httpx.AsyncClient, token: str) -> None:
    given = None
    while given is None:
        answer = await github.get("message", headers=_bearer(token))
        if answer.status_code == _GONE:
            return
        given = answer.json() if answer.content else None
    await _said(github, "POST", f"jobs/{given['job']}/acquire", token)
    await _said(github, "POST", f"jobs/{given['job']}/complete", token, conclusion="success")


async def _said(
    github: httpx.AsyncClient, method: str, path: str, token: str, **body: str
) -> dict[str, str]:
    answer = await github.request(method, path, headers=_bearer(token), json=body)
    said: dict[str, str] = answer.raise_for_status().json()
    return said


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@asynccontextmanager
async def hands(stage: Stage, number: int) -> AsyncIterator[None]:
    """So many executors of the stage's first control plane; they end with the block."""
    shutdown = Shutdown()
    working = [asyncio.create_task(_work(stage, each, shutdown)) for each in range(number)]
    try:
        yield
    finally:
        shutdown.drain.set()
        await asyncio.gather(*working)


async def _work(stage: Stage, number: int, shutdown: Shutdown) -> None:
    settings = Settings(
        server=stage.urls[0],
        pool=_POOL,
        token=Token(stage.executor_token),
        state_dir=stage.directory / "unused",
    )
    timing = Timing()
    async with open_client(settings, f"boot-{number}") as client:
        started = StartedQuestion(client, timing)
        rounds = Rounds(
            settings, f"hand-{number}", client, InstantDriver(), started, shutdown, timing
        )
        await rounds.run()
