"""Serving the app in this process: uvicorn without its own signals, logs and surprises."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, Protocol

import uvicorn
from litestar.types import Receive, Scope, Send

from mayfly.model.errors import InvalidSettings

_IDLE: Final = 75
"""Seconds a connection is kept: longer than clients keep theirs, so that none finds it closed."""
_BACKLOG: Final = 2048


class Served(Protocol):
    """An ASGI application whose waits can be ended."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
    def end_waits(self) -> None: ...


@asynccontextmanager
async def serve(
    app: Served,
    host: str,
    port: int,
    *,
    patience: timedelta = timedelta(seconds=5),
) -> AsyncIterator[str]:
    """The app's address while the context lives; port 0 takes a free one.

    At the end no new request is taken, long polls end at once, and other requests have `patience`.
    """
    with _listening(host, port) as listener:
        server = uvicorn.Server(_config(app, patience))
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[listener])
        ticking = asyncio.create_task(server.main_loop(), name="uvicorn")
        try:
            yield _address(listener)
        finally:
            server.should_exit = True
            app.end_waits()
            await ticking
            await server.shutdown(sockets=[listener])


def _config(app: Served, patience: timedelta) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="on",
        loop="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the client's address
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=max(1, round(patience.total_seconds())),
    )


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InvalidSettings(
            f"cannot listen on {host} port {port}: {error.strerror}; "
            "set another address in mayfly.toml or stop what uses this one"
        ) from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
