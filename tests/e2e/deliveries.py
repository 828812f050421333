"""Deliveries made by hand: GitHub's published payloads, signed, and any bytes there may be."""

import asyncio
import hashlib
import hmac
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from tests.e2e.stage import Stage
from tests.simulator.openapi import fixture

PATH = "/webhooks/github"


def published(name: str) -> bytes:
    """The bytes of one of GitHub's example payloads."""
    return fixture(f"webhooks/{name}.json").read_bytes()


def changed(name: str, **fields: Any) -> bytes:
    """An example payload with other top-level fields."""
    return msgspec.json.encode({**msgspec.json.decode(published(name)), **fields})


def signature(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def headers(stage: Stage, body: bytes, event: str = "workflow_job") -> dict[str, str]:
    return {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": "11111111-2222-3333-4444-555555555555",
        "x-hub-signature-256": signature(body, stage.webhook_secret),
    }


async def post(
    stage: Stage, body: bytes, event: str = "workflow_job", proof: bytes | None = None
) -> httpx.Response:
    """A delivery; `proof` stands in the place of its signature, and is left out when empty."""
    given = {name.encode(): value.encode() for name, value in headers(stage, body, event).items()}
    if proof is not None:
        given[b"x-hub-signature-256"] = proof
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        return await client.post(
            stage.urls[0] + PATH,
            content=body,
            headers={name: value for name, value in given.items() if value},
        )


async def post_raw(stage: Stage, head: bytes, body: bytes) -> int:
    """The status of an answer that may come before everything was sent."""
    url = urlsplit(stage.urls[0])
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % (PATH.encode(), head))
        writer.write(body)
        async with asyncio.timeout(20):
            status = await reader.readline()
        return int(status.split()[1])
    finally:
        writer.transport.abort()
