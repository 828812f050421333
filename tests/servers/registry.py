"""A registry of images that has one, with or without a password; as much of it as a pull needs.

See https://distribution.github.io/distribution/spec/api/.
"""

import asyncio
import base64
import hashlib
import io
import json
import random
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HOST = "127.0.0.1"
_TLS = b"\x16"  # how a handshake begins; who tries it first is to try without at once
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_IMAGES = ("team/small", "team/private")


class Registry:
    """Answers, and keeps what it was asked for."""

    def __init__(self, size: int, password: str | None) -> None:
        self.port = 0
        self.asked: list[str] = []
        self._password = password
        layer = _layer(size)
        config = _config(layer)
        manifest = _manifest(config, layer)
        self._blobs = {_digest(blob): blob for blob in (layer, config)}
        self._manifests = {"1": manifest, _digest(manifest): manifest}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after another."""
        try:
            while (first := await reader.readexactly(1)) != _TLS:
                head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
                method, path, *_ = head.split(" ", 2)
                self.asked.append(path)
                status, kind, body, extra = self._found(path, head)
                lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *extra]
                lines += [f"Content-Type: {kind}", "", ""]
                writer.write("\r\n".join(lines).encode() + (b"" if method == "HEAD" else body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _found(self, path: str, head: str) -> tuple[str, str, bytes, list[str]]:
        if self._password is not None and _basic(self._password) not in head:
            return _error("401 Unauthorized", "UNAUTHORIZED", 'Www-Authenticate: Basic realm="x"')
        if path == "/v2/":
            return "200 OK", "application/json", b"{}", []
        name, _, rest = path.removeprefix("/v2/").partition("/manifests/")
        if rest:
            manifest = self._manifests.get(rest)
            if name not in _IMAGES or manifest is None:
                return _error("404 Not Found", "MANIFEST_UNKNOWN")
            return "200 OK", _MANIFEST, manifest, [f"Docker-Content-Digest: {_digest(manifest)}"]
        blob = self._blobs.get(path.rpartition("/")[2])
        if blob is None:
            return _error("404 Not Found", "BLOB_UNKNOWN")
        return "200 OK", "application/octet-stream", blob, []


@asynccontextmanager
async def opened_registry(
    *, size: int = 1000, password: str | None = None
) -> AsyncIterator[Registry]:
    """With an image of so many bytes; `password` is USER:PASSWORD."""
    registry = Registry(size, password)
    server = await asyncio.start_server(registry.answer, HOST, 0)
    registry.port = server.sockets[0].getsockname()[1]
    try:
        yield registry
    finally:
        server.close()


def _layer(size: int) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as files:
        entry = tarfile.TarInfo("content")
        entry.size = size
        files.addfile(entry, io.BytesIO(random.Random(1).randbytes(size)))
    return archive.getvalue()


def _config(layer: bytes) -> bytes:
    shape = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    return json.dumps(shape).encode()


def _manifest(config: bytes, layer: bytes) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _described("application/vnd.docker.container.image.v1+json", config),
            "layers": [_described("application/vnd.docker.image.rootfs.diff.tar", layer)],
        }
    ).encode()


def _described(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _basic(password: str) -> str:
    return f"Basic {base64.b64encode(password.encode()).decode()}"


def _error(status: str, code: str, *extra: str) -> tuple[str, str, bytes, list[str]]:
    body = json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]})
    return status, "application/json", body.encode(), list(extra)
