"""A load generator of its own process: distinct signed deliveries over kept-alive connections."""

import argparse
import asyncio
import hashlib
import hmac
import json
import sys
import time
import uuid
from typing import cast
from urllib.parse import urlsplit

import uvloop

FILL = "x" * 9_300
"""Makes a delivery as large as GitHub's own: about 11 KB."""


def delivery(number: int, secret: bytes, labels: list[str], repositories: int) -> bytes:
    """One whole HTTP request: a `workflow_job` of its own, signed."""
    repository = f"repo-{number % repositories}"
    body = json.dumps(
        {
            "action": "queued",
            "workflow_job": {
                "id": 10_000_000 + number,
                "run_id": 5_000_000 + number,
                "run_attempt": 1,
                "status": "queued",
                "conclusion": None,
                "name": "build",
                "workflow_name": "CI",
                "head_branch": "main",
                "labels": labels,
                "runner_id": None,
                "runner_name": None,
                "html_url": f"https://github.example/bench/{repository}/runs/{number}",
                "created_at": "2026-11-22T06:00:00Z",
                "started_at": "2026-11-22T06:00:00Z",
                "completed_at": None,
                "steps": [],
            },
            "repository": {
                "name": repository,
                "full_name": f"bench/{repository}",
                "owner": {"login": "bench", "type": "Organization"},
                "description": FILL,
            },
            "organization": {"login": "bench"},
            "sender": {"login": "bench"},
            "installation": {"id": 1},
        }
    ).encode()
    signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
    head = (
        "POST /webhooks/github HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"X-GitHub-Event: workflow_job\r\nX-GitHub-Delivery: {uuid.UUID(int=number)}\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """Sends one request after another; counts what is answered 202."""

    def __init__(self, requests: list[bytes], done: asyncio.Future[None]) -> None:
        self.requests = requests
        self.done = done
        self.accepted = 0
        self.refused: bytes = b""
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by shape only
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) < length:
            return
        if b" 202 " in head[:20]:
            self.accepted += 1
        else:
            self.refused = head
        self._buffer = b""
        self._next()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        if self.requests:
            self.transport.write(self.requests.pop())
        else:
            self.transport.close()


async def run(url: str, requests: list[bytes], connections: int) -> tuple[float, int]:
    """Seconds it took, and how many were accepted."""
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    shares = [requests[place::connections] for place in range(connections)]
    futures = [loop.create_future() for _ in shares]
    began = time.perf_counter()
    pairs = zip(shares, futures, strict=True)
    made = [
        await loop.create_connection(
            lambda share=share, future=future: Connection(share, future),  # type: ignore[misc]  # mypy cannot infer defaults of a lambda
            str(address.hostname),
            int(address.port or 80),
        )
        for share, future in pairs
    ]
    await asyncio.gather(*futures)
    refused = next((protocol.refused for _, protocol in made if protocol.refused), b"")
    if refused:
        print(refused.decode(), file=sys.stderr)
    return time.perf_counter() - began, sum(protocol.accepted for _, protocol in made)


def main() -> None:
    """Prints {seconds, accepted} as JSON; the first tenth only warms up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--secret", required=True)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--repositories", type=int, default=50)
    options = parser.parse_args()
    secret = options.secret.encode()
    requests = [
        delivery(options.first + number, secret, ["self-hosted", "linux"], options.repositories)
        for number in range(options.count)
    ]
    warm, measured = requests[: options.count // 10], requests[options.count // 10 :]

    async def both() -> tuple[float, int]:
        await run(options.url, warm, options.connections)
        return await run(options.url, measured, options.connections)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds, accepted = runner.run(both())
    print(json.dumps({"seconds": seconds, "accepted": accepted, "sent": options.count * 9 // 10}))


if __name__ == "__main__":
    main()
