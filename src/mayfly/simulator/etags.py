"""Conditional requests: every GET's answer has an ETag, and the same answer again is a 304."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from litestar.types import HTTPResponseStartEvent, Message, Send


class Tagged:
    """Sends an answer with its ETag, or 304 and no body to an asker who has it already.

    GitHub's ETags are weak, and differ between tokens: what is kept under one is of no use under
    the next. Source: https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
    """

    def __init__(self, send: Send, known: str, secret: str, unchanged: Callable[[], None]) -> None:
        self._send = send
        self._known = {tag.strip() for tag in known.split(",")}
        self._hash = hashlib.sha256(secret.encode())
        self._unchanged = unchanged
        self._start: HTTPResponseStartEvent | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            self._start = message
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message["body"]
            if not message["more_body"]:
                await self._end(self._start)
        else:
            await self._send(message)

    async def _end(self, start: HTTPResponseStartEvent) -> None:
        self._hash.update(self._body)
        etag = f'W/"{self._hash.hexdigest()}"'
        body = bytes(self._body)
        headers = [*start["headers"], (b"etag", etag.encode())]
        if etag in self._known:
            self._unchanged()
            start["status"], headers, body = 304, [(b"etag", etag.encode())], b""
        start["headers"] = headers
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
