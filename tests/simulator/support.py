"""What tests of the simulator share: a client with credentials, a receiver of webhooks."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import uvicorn
from msgspec import Struct
from msgspec.structs import replace

from mayfly.simulator import Settings, Simulator, generate_app_key, serve

from .openapi import validate

# Made once: a client would read the machine's certificates anew for every test.
TRUST = ssl.create_default_context()
PRIVATE_KEY, PUBLIC_KEY = generate_app_key()

REPOSITORY = "/repos/octo-org/octo-repo"
RUNNERS = f"{REPOSITORY}/actions/runners"

ONE_JOB = """
name: CI
jobs:
  build:
    runs-on: [self-hosted, linux]
    steps:
      - run: echo hello
"""


def app_token(
    *,
    issuer: str = "4711",
    issued: float = -60,
    expires: float = 540,
    key: str = PRIVATE_KEY,
    **claims: object,
) -> str:
    """A JWT of the App; times are seconds from now."""
    now = int(time.time())
    payload: dict[str, object] = {
        "iss": issuer,
        "iat": now + int(issued),
        "exp": now + int(expires),
    }
    return jwt.encode(payload | claims, key, algorithm="RS256")


class Client:
    """Calls the API, and checks every answer against GitHub's description."""

    def __init__(self, http: httpx.AsyncClient, sim: Simulator) -> None:
        self.http = http
        self.sim = sim
        self._token: str | None = None

    async def call(
        self, method: str, path: str, *, token: str | None = None, **options: Any
    ) -> httpx.Response:
        headers = options.pop("headers", {})
        if token:
            headers = headers | {"authorization": f"Bearer {token}"}
        return await self.http.request(method, path, headers=headers, **options)

    async def app(self, method: str, path: str, **options: Any) -> httpx.Response:
        """As the App."""
        return await self.call(method, path, token=app_token(), **options)

    async def repo(self, method: str, path: str, **options: Any) -> httpx.Response:
        """As the installation on octo-org."""
        if self._token is None:
            self._token = await self.token()
        return await self.call(method, path, token=self._token, **options)

    async def token(self, login: str = "octo-org", **asked: object) -> str:
        installation = self.sim.world.accounts.installation_of(login)
        assert installation is not None
        path = f"/app/installations/{installation.id}/access_tokens"
        answer = await self.app("POST", path, json=asked)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    async def jitconfig(self, name: str, *labels: str, runners: str = RUNNERS) -> str:
        """The JIT config of a new runner."""
        body = {"name": name, "runner_group_id": 1, "labels": labels or ("self-hosted", "linux")}
        answer = await self.repo("POST", f"{runners}/generate-jitconfig", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["encoded_jit_config"])

    async def control(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A call to the control API that must succeed."""
        answer = await self.http.request(method, f"/_simulator{path}", **options)
        assert answer.is_success, answer.text
        return answer


@asynccontextmanager
async def simulated(settings: Settings | None = None) -> AsyncIterator[Client]:
    """A running simulator with a client."""
    chosen = replace(settings or Settings(), app_public_key=PUBLIC_KEY)

    async def check(response: httpx.Response) -> None:
        await response.aread()
        body = response.json() if response.content else None
        validate(response.request.method, response.request.url.path, response.status_code, body)

    async with (
        serve(chosen) as sim,
        httpx.AsyncClient(
            base_url=sim.url,
            event_hooks={"response": [check]},
            timeout=60,
            trust_env=False,
            verify=TRUST,
        ) as http,
    ):
        yield Client(http, sim)


class Received(Struct, frozen=True, kw_only=True):
    """One POST as it arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def action(self) -> str:
        return str(self.payload.get("action"))


class Receiver:
    """A webhook address; `status` is what it answers, `answering` may hold it back."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 202
        self.seen: list[Received] = []
        self.answering = asyncio.Event()
        self.answering.set()

    @property
    def actions(self) -> list[str]:
        return [received.action for received in self.seen]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append(Received(headers=headers, body=body))
        await self.answering.wait()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"thanks"})


class QuietServer(uvicorn.Server):
    """uvicorn in the test's own event loop."""

    async def quietly(self, listener: socket.socket) -> None:
        await self._serve([listener])


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A running webhook receiver."""
    app = Receiver()
    # Listening before serving: a delivery cannot come too early.
    listener = socket.create_server(("127.0.0.1", 0))
    app.url = f"http://127.0.0.1:{listener.getsockname()[1]}/webhooks/github"
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, log_level="critical")
    server = QuietServer(config)
    serving = asyncio.create_task(server.quietly(listener))
    try:
        yield app
    finally:
        app.answering.set()
        server.should_exit = True
        await serving
