"""A GitHub whose every answer was laid down before: for those no simulator would give."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mayfly.github.app import GitHubApp, Settings, open_github
from mayfly.github.secrets import Secret
from mayfly.model.jobs import InstallationId

PEM = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    .decode()
)
API = "https://ghe.example/api/v3"
ONE = InstallationId(1)
TOKEN = "ghs_planted_token"
JOB = {
    "id": 11,
    "run_id": 7,
    "labels": ["self-hosted"],
    "created_at": "2025-11-03T10:00:00Z",
    "name": "a\0b",
}

Reply = httpx.Response | Exception
Route = Reply | list[Reply] | Callable[[httpx.Request], Reply]


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def new_id(self) -> str:
        raise NotImplementedError


def reply(status: int = 200, body: Any = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=named)


def token(**more: Any) -> httpx.Response:
    expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    return reply(201, {"token": TOKEN, "expires_at": expires} | more)


class CannedGitHub:
    """Answers each `METHOD /path` with what was laid down for it; a list is used up in order."""

    def __init__(self, routes: dict[str, Route]) -> None:
        self.routes: dict[str, Route] = {"POST /app/installations/1/access_tokens": _token} | routes
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path.removeprefix("/api/v3")
        route = self.routes.get(f"{request.method} {path}", reply(404, {"message": "Not Found"}))
        answer = route(request) if callable(route) else route
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def asked(self) -> list[str]:
        return [f"{r.method} {r.url.path.removeprefix('/api/v3')}" for r in self.requests]


def _token(_: httpx.Request) -> Reply:
    return token()


@asynccontextmanager
async def github(routes: dict[str, Route]) -> AsyncIterator[tuple[GitHubApp, CannedGitHub]]:
    canned = CannedGitHub(routes)
    settings = Settings(
        app_id="4711",
        private_key=Secret(PEM),
        api_url=API,
        call_seconds=5.0,
        mint_patience_seconds=1.0,
    )
    async with open_github(settings, SystemClock(), httpx.MockTransport(canned)) as app:
        yield app, canned
