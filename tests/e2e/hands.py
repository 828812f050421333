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
from mayfly.model.protocol import Finished, Granted, Outcome
from tests.e2e.stage import Stage

_POOL = "linux"
_GONE = 404


class InstantDriver:
    """Speaks to GitHub as a runner does; nothing is run."""

    def __init__(self, github: httpx.AsyncClient) -> None:
        self._github = github

    async def prepare(self, claim: Granted) -> None:
        """There is nothing to prepare."""

    async def run(self, name: str, jit_config: str) -> Finished:
        files = {file: msgspec.json.decode(text) for file, text in unpacked(jit_config).items()}
        session = await self._said("session", files[".credentials"]["Data"]["Token"])
        token = session["session"]
        if (job := await self._job(token)) is not None:
            await self._said(f"jobs/{job}/acquire", token)
            await self._said(f"jobs/{job}/complete", token, conclusion="success")
        return Finished(Outcome.DONE, 0, "")

    async def cleanup(self) -> None:
        """There is nothing to clean up."""

    async def _job(self, token: str) -> int | None:
        """What GitHub gives it; None when the runner is not wanted any more."""
        while True:
            answer = await self._github.get("message", headers=_bearer(token))
            if answer.status_code == _GONE:
                return None
            if answer.content:
                given: dict[str, int] = answer.raise_for_status().json()
                return given["job"]

    async def _said(self, path: str, token: str, **body: str) -> dict[str, str]:
        answer = await self._github.post(path, headers=_bearer(token), json=body)
        said: dict[str, str] = answer.raise_for_status().json()
        return said


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@asynccontextmanager
async def hands(stage: Stage, number: int) -> AsyncIterator[None]:
    """So many executors of the stage's first control plane; they end with the block."""
    shutdown = Shutdown()
    url = f"{stage.simulator.url}/_runner/"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as github:
        driver = InstantDriver(github)
        working = [_work(stage, f"hand-{each}", driver, shutdown) for each in range(number)]
        tasks = [asyncio.create_task(work) for work in working]
        try:
            yield
        finally:
            shutdown.end("the test")
            await asyncio.gather(*tasks)


async def _work(stage: Stage, machine: str, driver: InstantDriver, shutdown: Shutdown) -> None:
    settings = Settings(
        server=stage.address or stage.urls[0],
        pool=_POOL,
        token=Token(stage.executor_token),
        state_dir=stage.directory / "unused",
    )
    timing = Timing()
    async with open_client(settings, settings.token.reveal(), f"boot of {machine}") as client:
        started = StartedQuestion(client, timing)
        rounds = Rounds(settings, machine, client, driver, started, shutdown, timing)
        await rounds.run()
