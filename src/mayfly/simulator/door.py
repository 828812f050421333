"""The way in: every call passes here to be counted, limited, and disturbed on purpose."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from mayfly.simulator.etags import Tagged
from mayfly.simulator.faults import ApiRule
from mayfly.simulator.limits import MINUTE, Budget, resource_of
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.tokens import credential
from mayfly.simulator.world import World

PRIMARY = "API rate limit exceeded for {asker}."
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)
GHES_PREFIX = "/api/v3"
WHO, IF_NONE_MATCH = b"authorization", b"if-none-match"


class Door:
    """An ASGI application in front of the routes."""

    def __init__(self, app: ASGIApp, world: World, templates: Sequence[str]) -> None:
        self._app = app
        self._world = world
        self._name = _namer(templates)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] != ScopeType.HTTP or path.startswith("/_"):
            await self._app(scope, receive, send)
            return
        if path.startswith(GHES_PREFIX + "/"):
            # GitHub Enterprise Server keeps the same API under this prefix.
            path = path.removeprefix(GHES_PREFIX)
            scope["path"] = path
        await self._call(scope, receive, send, path)

    async def _call(self, scope: HTTPScope, receive: Receive, send: Send, path: str) -> None:
        world, method, endpoint = self._world, scope["method"], self._name(path)
        world.calls[f"{method} {endpoint}"] += 1
        asker = self._asker(scope)
        scope["mayfly.asker"] = asker  # type: ignore[typeddict-unknown-key]  # ASGI scopes are open
        refused = self._over_limit(method, path, endpoint, asker)
        budget = self._budget(method, path, asker)
        # Read when the answer goes out: what turns out to be unchanged has cost nothing.
        reply = _with_headers(send, lambda: self._budget(method, path, asker).headers())
        fault = world.mischief.for_call(method, path)
        await _dawdle(world.mischief.faults.latency_ms + (fault.latency_ms if fault else 0))
        if refused is not None:
            await _refuse(reply, refused)
        elif fault is None or fault.only_latency:
            await self._app(scope, receive, self._tagged(reply, scope, path, asker))
        else:
            if fault.when == "after":
                await self._app(scope, receive, _swallow)
            await self._strike(fault, reply, asker, budget)

    async def _strike(self, fault: ApiRule, send: Send, asker: str, budget: Budget) -> None:
        match fault.limit:
            case "primary":
                drained = Budget(
                    resource=budget.resource,
                    limit=budget.limit,
                    used=budget.limit,
                    reset=int(self._world.now().timestamp()) + (fault.retry_after or MINUTE),
                )
                refusal = Refusal(403, PRIMARY.format(asker=asker), headers=dict(drained.headers()))
            case "secondary":
                wait = str(fault.retry_after or MINUTE)
                refusal = Refusal(
                    429 if fault.status == 429 else 403, SECONDARY, headers={"retry-after": wait}
                )
            case None if fault.status is None:
                await _hang_up(send)
                return
            case None:
                headers = {"retry-after": str(fault.retry_after)} if fault.retry_after else {}
                message = fault.message or MESSAGES.get(fault.status or 500, "Server Error")
                refusal = Refusal(fault.status or 500, message, headers=headers)
        await _refuse(send, refusal)

    def _tagged(self, send: Send, scope: HTTPScope, path: str, asker: str) -> Send:
        if scope["method"] != "GET" or path == "/rate_limit":
            return send
        headers = dict(scope["headers"])
        known, secret = (headers.get(h, b"").decode("latin-1") for h in (IF_NONE_MATCH, WHO))

        def unchanged() -> None:
            if secret:
                self._world.limits.forgive(asker, resource_of("GET", path))

        return Tagged(send, known, secret, unchanged)

    def _over_limit(self, method: str, path: str, endpoint: str, asker: str) -> Refusal | None:
        if path == "/rate_limit":
            return None
        limits, now = self._world.limits, self._world.now().timestamp()
        wait = limits.overrun(asker, endpoint, method, now)
        if wait is not None:
            return Refusal(403, SECONDARY, headers={"retry-after": str(wait)})
        _, granted = limits.spend(asker, resource_of(method, path), now)
        return None if granted else Refusal(403, PRIMARY.format(asker=asker))

    def _budget(self, method: str, path: str, asker: str) -> Budget:
        now = self._world.now().timestamp()
        return self._world.limits.peek(asker, resource_of(method, path), now)

    def _asker(self, scope: Scope) -> str:
        """Whose budget a call is on; GitHub counts per installation."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        secret = credential(headers.get(WHO, b"").decode("latin-1"))
        token = self._world.tokens.issued.get(secret)
        if token is not None:
            return f"installation ID {token.installation_id}"
        return f"app ID {self._world.settings.app_id}" if secret.count(".") == 2 else "anonymous"


MESSAGES = {
    403: "Forbidden",
    404: "Not Found",
    429: "Too many requests",
    500: "Server Error",
    502: "Server Error",
    503: "Service Unavailable",
}


def _namer(templates: Sequence[str]) -> Callable[[str], str]:
    """From a path to its endpoint's template; a literal segment beats a placeholder."""
    split = sorted((t.split("/") for t in templates), key=lambda parts: "".join(parts).count("{"))

    def name(path: str) -> str:
        parts = path.split("/")
        for template in split:
            if len(template) == len(parts) and all(
                t == p or t.startswith("{") for t, p in zip(template, parts, strict=True)
            ):
                return "/".join(template)
        return path

    return name


async def _dawdle(milliseconds: int) -> None:
    if milliseconds:
        await asyncio.sleep(milliseconds / 1000)


def _with_headers(send: Send, budget: Callable[[], dict[str, str]]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            extra = budget() | {"x-github-request-id": secrets.token_hex(8).upper()}
            named = {name.lower() for name, _ in message["headers"]}
            encoded = [(name.encode(), value.encode()) for name, value in extra.items()]
            kept = [pair for pair in encoded if pair[0] not in named]
            message["headers"] = [*message["headers"], *kept]
        await send(message)

    return sending


async def _swallow(message: Message) -> None:
    """Nobody hears the answer."""


async def _refuse(send: Send, refusal: Refusal) -> None:
    body = json.dumps(refusal.body()).encode()
    headers = [(n.encode(), v.encode()) for n, v in refusal.headers.items()]
    headers += [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    start: Any = {"type": "http.response.start", "status": refusal.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _hang_up(send: Send) -> None:
    """Close the connection in the middle of an answer: the server drops what is unfinished."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"4096")]
    start: Any = {"type": "http.response.start", "status": 200, "headers": headers}
    await send(start)
