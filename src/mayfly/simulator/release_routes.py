"""Where the runner's archives are: an address at github.com that leads to a store of files.

The store knows parts of a file (`Range`) and whether it is still the same (`If-Range`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Response, asgi, get
from litestar.params import FromPath
from litestar.types import HTTPScope, Receive, Scope, Send

from mayfly.simulator import archives
from mayfly.simulator.asking import Asked, world_of
from mayfly.simulator.faults import DownloadRule
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.world import World

_TURN_SECONDS = 0.05
_CHUNK = 256 * 1024


@get("/actions/runner/releases/download/{tag:str}/{filename:str}")
async def download(request: Asked, tag: FromPath[str], filename: FromPath[str]) -> Response[Any]:
    named = archives.named(filename)
    if named is None or tag != f"v{named[1]}":
        raise Refusal(404, "Not Found")
    store = f"{world_of(request).base}/_assets/{filename}"
    return Response(None, status_code=302, headers={"location": store})


@asgi("/_assets", is_mount=True, copy_scope=True)
async def asset(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's shape
    world: World = scope["litestar_app"].state["world"]
    named = archives.named(scope["path"].strip("/").rpartition("/")[2])
    if named is None:
        await _start(send, 404, {"content-length": "0"})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    content = archives.archive(*named, world.settings.runner_archive_bytes)
    etag = f'"{archives.sha256(content)[:32]}"'
    first = _first_byte(scope, etag)
    headers = {"etag": etag, "accept-ranges": "bytes", "content-type": "application/octet-stream"}
    if first >= len(content):
        await _start(send, 416, headers | {"content-range": f"bytes */{len(content)}"})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    rest = content[first:]
    if first:
        headers["content-range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
    headers["content-length"] = str(len(rest))
    await _start(send, 206 if first else 200, headers)
    await _sent(send, rest, world.mischief.for_download("interrupted", "corrupted", "slow"))


async def _sent(send: Send, content: bytes, fault: DownloadRule | None) -> None:
    if fault is None:
        await _body(send, content)
        return
    cut = min(fault.after_bytes, len(content) - 1)
    match fault.fault:
        case "corrupted":
            changed = bytes([content[cut] ^ 0xFF])
            await _body(send, content[:cut] + changed + content[cut + 1 :])
        case "interrupted":
            # The server drops the connection of an answer that is not finished.
            await _body(send, content[:cut], more=True)
        case _:
            step = max(1, int(fault.bytes_per_second * _TURN_SECONDS))
            for start in range(0, len(content), step):
                await _body(send, content[start : start + step], more=True)
                await asyncio.sleep(_TURN_SECONDS)
            await _body(send, b"")


async def _body(send: Send, content: bytes, *, more: bool = False) -> None:
    for start in range(0, len(content), _CHUNK):
        part = content[start : start + _CHUNK]
        await send({"type": "http.response.body", "body": part, "more_body": True})
    if not more:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _start(send: Send, status: int, headers: dict[str, str]) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    start: Any = {"type": "http.response.start", "status": status, "headers": encoded}
    await send(start)


def _first_byte(scope: Scope | HTTPScope, etag: str) -> int:
    """Where the part that is asked for begins; 0: it is the whole."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    asked = headers.get(b"range", "")
    start = asked.removeprefix("bytes=").removesuffix("-")
    same = headers.get(b"if-range", etag) == etag
    return int(start) if same and asked.endswith("-") and start.isdecimal() else 0


ROUTES = [download, asset]
