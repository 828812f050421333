"""The yardstick: bare ASGI, HMAC and a batched insert, durable before 202; nothing else."""

import asyncio
import hashlib
import hmac
import json
import sqlite3
import sys
from queue import SimpleQueue
from threading import Thread
from typing import Any

import uvicorn

Waiting = tuple[str, bytes, "asyncio.Future[None]"]


class Writer:
    """One thread, one connection; everybody who waits shares a commit."""

    def __init__(self, path: str) -> None:
        self.queue: SimpleQueue[Waiting] = SimpleQueue()
        self.path = path
        Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        database = sqlite3.connect(self.path, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE event (id TEXT PRIMARY KEY, body BLOB)")
        while True:
            batch = [self.queue.get()]
            while not self.queue.empty():
                batch.append(self.queue.get())
            database.execute("BEGIN IMMEDIATE")
            database.executemany(
                "INSERT OR IGNORE INTO event VALUES (?, ?)", [(key, body) for key, body, _ in batch]
            )
            database.execute("COMMIT")
            batch[0][2].get_loop().call_soon_threadsafe(_resolve, batch)


def _resolve(batch: list[Waiting]) -> None:
    for _, _, future in batch:
        future.set_result(None)


def application(secret: bytes, writer: Writer) -> Any:
    """The ASGI callable."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = dict(scope["headers"])
        signature = b"sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest().encode()
        assert hmac.compare_digest(signature, headers[b"x-hub-signature-256"])
        event = json.loads(body)["workflow_job"]
        future = asyncio.get_running_loop().create_future()
        kept = json.dumps({"id": event["id"], "labels": event["labels"]}).encode()
        writer.queue.put((str(event["id"]), kept, future))
        await future
        start = {
            "type": "http.response.start",
            "status": 202,
            "headers": [(b"content-length", b"0")],
        }
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    return app


def main() -> None:
    """`bare.py PORT SECRET FILE`."""
    port, secret, path = sys.argv[1:]
    uvicorn.run(
        application(secret.encode(), Writer(path)),
        port=int(port),
        loop="uvloop",
        http="httptools",
        access_log=False,
        lifespan="off",
        log_level="warning",
    )


if __name__ == "__main__":
    main()
