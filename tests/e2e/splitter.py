"""One webhook address in front of several control planes, as a load balancer would be."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import uvicorn
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from mayfly.simulator.server import LoopbackServer


class Splitter:
    """Each delivery goes to the next address; every fifth one to all of them."""

    def __init__(self, urls: Sequence[str], client: httpx.AsyncClient) -> None:
        self._urls = urls
        self._client = client
        self._numbers = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == ScopeType.HTTP
        number, body, more = next(self._numbers), b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body += message.get("body", b"")
            more = message.get("more_body", False)
        chosen = self._urls if number % 5 == 0 else [self._urls[number % len(self._urls)]]
        headers = [pair for pair in scope["headers"] if pair[0] != b"host"]
        addresses = [url + scope["path"] for url in chosen]
        answers = await asyncio.gather(
            *(self._client.post(url, content=body, headers=headers) for url in addresses)
        )
        status = max(answer.status_code for answer in answers)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def splitter(urls: Sequence[str]) -> AsyncIterator[str]:
    """The address of a splitter over `urls`."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            app = Splitter(urls, client)
            config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None)
            server = LoopbackServer(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                await serving
