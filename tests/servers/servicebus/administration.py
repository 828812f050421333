"""What `ServiceBusAdministrationClient` speaks to: entities as Atom entries over HTTP.

Followed: learn.microsoft.com/rest/api/servicebus (a PUT of what exists is 409, a GET of what does
not is an empty feed, a subscription starts with the rule `$Default`). Plain HTTP, any token.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import HttpRequest

EMPTY = '<feed xmlns="http://www.w3.org/2005/Atom"></feed>'


class Administration:
    """Entities by path, as they were put."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.refuses_with: int | None = None
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        if self.refuses_with is not None:
            return web.Response(status=self.refuses_with)
        path = request.path.strip("/").lower()
        if request.method == "PUT":
            return self._put(path, await request.text())
        if request.method == "DELETE":
            gone = [one for one in self.entries if f"{one}/".startswith(f"{path}/")]
            for one in gone:
                del self.entries[one]
            return web.Response(status=200 if gone else 404)
        return _xml(self.entries.get(path, EMPTY))

    def _put(self, path: str, entry: str) -> web.Response:
        if path in self.entries:
            return web.Response(status=409)
        self.entries[path] = entry
        if path.count("/") == 2:
            self.entries[f"{path}/rules/$default"] = "everything"
        return _xml(entry, status=201)


def _xml(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="application/xml")


class PlainTransport(AioHttpTransport):  # type: ignore[misc] # azure.core exports it untyped
    """The client insists on TLS, even with a development connection string."""

    async def send(self, request: HttpRequest, **kwargs: Any) -> Any:
        request.url = request.url.replace("https://", "http://", 1)
        return await super().send(request, **kwargs)


@asynccontextmanager
async def opened_administration() -> AsyncIterator[Administration]:
    """An empty namespace on a port of its own."""
    administration = Administration()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", administration.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, administration.port = runner.addresses[0]
    try:
        yield administration
    finally:
        await runner.cleanup()
