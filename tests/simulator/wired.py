"""What tests of the runner protocol share: a wire, tokens, and a runner that listens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from msgspec import Struct

from mayfly.simulator import Settings

from .runner_client.configuring import Identity, configure, from_jit_config
from .runner_client.crypto import key_number
from .runner_client.listening import Listener
from .runner_client.working import Work, take
from .support import RUNNERS, TRUST, Client, simulated

LABELS = "runs-on: [self-hosted, linux]"
ONE_STEP = f"jobs: {{build: {{{LABELS}, steps: [{{run: echo hello}}]}}}}"


class Bench(Struct):
    """A simulated GitHub, and a wire to it."""

    github: Client
    http: httpx.AsyncClient
    place: Path

    @property
    def url(self) -> str:
        return f"{self.github.sim.url}/octo-org/octo-repo"

    def dispatch(self, yaml: str = ONE_STEP) -> int:
        return self.github.sim.dispatch("octo-org", "octo-repo", yaml).job_ids[0]

    async def token(self, kind: str = "registration-token") -> str:
        return str((await self.github.repo("POST", f"{RUNNERS}/{kind}")).json()["token"])

    async def registered(self, name: str = "wired", *, ephemeral: bool = True) -> Identity:
        return await configure(
            self.http, self.url, await self.token(), key_number(0), name=name, ephemeral=ephemeral
        )

    async def identity(self, mode: str, name: str = "wired") -> Identity:
        """A new runner, by `token` or by `jit`."""
        if mode == "token":
            return await self.registered(name)
        return from_jit_config(await self.github.jitconfig(name))

    async def listener(self, identity: Identity | None = None) -> Listener:
        """A runner that listens."""
        made = Listener(self.http, identity or await self.registered())
        await made.open()
        return made

    async def working(self, yaml: str = ONE_STEP) -> tuple[int, Work]:
        """(job, runner at work on it)."""
        job = self.dispatch(yaml)
        listener = await self.listener()
        message = await listener.poll()
        assert message is not None
        return job, await take(listener, message)

    async def runners(self) -> list[str]:
        listed = (await self.github.repo("GET", RUNNERS)).json()["runners"]
        return [runner["name"] for runner in listed]


@asynccontextmanager
async def bench(place: Path, settings: Settings | None = None) -> AsyncIterator[Bench]:
    """A bench, until the block ends."""
    async with (
        simulated(settings) as github,
        httpx.AsyncClient(timeout=20, trust_env=False, verify=TRUST) as http,
    ):
        yield Bench(github=github, http=http, place=place)
