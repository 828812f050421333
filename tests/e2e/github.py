"""The simulated GitHub of an end-to-end test: every answer is held against GitHub's description."""

import os
import socket
from asyncio import create_task
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import uvicorn
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from mayfly.simulator import Settings, Simulator
from mayfly.simulator.server import LoopbackServer, application
from mayfly.simulator.world import World
from tests.simulator.openapi import FIXTURES, validate

DESCRIPTION = FIXTURES / "github-openapi.json"
_RUNNERS_OWN = "/actions/runner-registration"
"""Spoken by runner programs, and described nowhere."""


class Watched:
    """Passes calls on, and remembers answers GitHub would not give and the secrets it gave."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._described = DESCRIPTION.exists()
        assert self._described or not os.environ.get("CI"), f"there is no {DESCRIPTION}"
        self.wrong: list[str] = []
        self.jit_configs: list[str] = []
        self.tokens: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == ScopeType.HTTP
        method, path = scope["method"], scope["path"]
        status, body, whole = 0, b"", False

        async def sending(message: Message) -> None:
            nonlocal status, body, whole
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                body += message.get("body", b"")
                whole = not message.get("more_body", False)
            await send(message)

        await self._app(scope, receive, sending)
        if whole and not path.startswith("/_"):
            self._look(method, path, status, body)

    def _look(self, method: str, path: str, status: int, body: bytes) -> None:
        content = msgspec.json.decode(body) if body else None
        if isinstance(content, dict) and status == 201:
            if "encoded_jit_config" in content:
                self.jit_configs.append(content["encoded_jit_config"])
            if "token" in content:
                self.tokens.append(content["token"])
        if not self._described or path.endswith(_RUNNERS_OWN):
            return
        try:
            validate(method, path, status, content)
        except AssertionError as unlike:
            self.wrong.append(str(unlike))


class GitHub:
    """A running simulator and what was seen of its answers."""

    def __init__(self, simulator: Simulator, watched: Watched) -> None:
        self.simulator = simulator
        self.watched = watched

    def mints(self) -> int:
        """JIT configs asked for so far."""
        calls = self.simulator.calls.items()
        return sum(count for name, count in calls if name.endswith("/generate-jitconfig"))

    def runners(self) -> list[str]:
        """Names of the runners there are."""
        return [runner.name for runner in self.simulator.world.actions.runners.all.values()]


@asynccontextmanager
async def simulated(settings: Settings) -> AsyncIterator[GitHub]:
    """A simulator in this process, listening until the block ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        world = World(settings, url)
        simulator = Simulator(url, settings, world)
        watched = Watched(application(simulator))
        server = LoopbackServer(
            uvicorn.Config(
                watched,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="critical",
                timeout_keep_alive=120,
                timeout_graceful_shutdown=2,
            )
        )
        serving = create_task(server.serve(sockets=[listener]))
        world.open()
        try:
            yield GitHub(simulator, watched)
        finally:
            await world.close()
            server.should_exit = True
            await serving
