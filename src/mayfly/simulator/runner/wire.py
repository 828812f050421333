"""The way to GitHub: a little HTTP client, and the patience to ask again."""

from __future__ import annotations

import json
import socket
import time

TYPE_CHECKING = False  # typing's own, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Json: TypeAlias = Any
    Reply: TypeAlias = tuple[int, Json]

GIVE_UP_SECONDS = 60.0


class Server:
    """HTTP by hand: http.client would double the time to start."""

    def __init__(self, url: str, token: str) -> None:
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        host, _, port = authority.partition(":")
        self.secure = scheme == "https"
        self.address = (host, int(port or (443 if self.secure else 80)))
        self.authority = authority
        self.path = "/" + path.rstrip("/")
        self.token = token

    def call(self, method: str, path: str, body: object = None, timeout: float = 15.0) -> Reply:
        """(status, JSON); raises OSError when there is no whole answer."""
        payload = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {self.path}{path} HTTP/1.1\r\nHost: {self.authority}\r\n"
            f"Authorization: Bearer {self.token}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        with socket.create_connection(self.address, timeout=timeout) as raw:
            stream = self._secured(raw) if self.secure else raw
            stream.sendall(head.encode() + payload)
            return _answer(_read_all(stream))

    def _secured(self, raw: socket.socket) -> socket.socket:
        import ssl  # noqa: PLC0415 - half of a start, and simulators speak plain HTTP

        context = ssl.create_default_context()
        return context.wrap_socket(raw, server_hostname=self.address[0])


def patiently(call: Callable[[], Reply]) -> Reply:
    """Repeat a call while GitHub cannot answer, for a minute at most."""
    deadline, pause = time.monotonic() + GIVE_UP_SECONDS, 0.1
    while True:
        try:
            status, reply = call()
            if status < 500:
                return status, reply
            problem = OSError(f"GitHub answered {status}")
        except OSError as error:
            problem = error
        if time.monotonic() + pause > deadline:
            raise problem
        time.sleep(pause)
        pause = min(2.0, pause * 2)


def _read_all(stream: socket.socket) -> bytes:
    parts: list[bytes] = []
    while True:
        part = stream.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _answer(raw: bytes) -> Reply:
    head, found, body = raw.partition(b"\r\n\r\n")
    if not found:
        raise OSError("the connection closed without an answer")
    status = int(head.split(b" ", 2)[1])
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(body) < int(value):
            raise OSError("the connection closed within an answer")
    try:
        return status, json.loads(body) if body else None
    except ValueError:
        return status, None
