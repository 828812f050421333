"""A container engine that warns: it makes what it is asked for, and runs nothing."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web


class WarningEngine:
    """As much of Docker's API as comes before a container is started."""

    def __init__(self, warnings: Sequence[str]) -> None:
        self.containers: set[str] = set()
        self._warnings = list(warnings)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/_ping", self._ping)
        app.router.add_get("/{version}/containers/json", self._listed)
        app.router.add_get("/{version}/images/{name:.*}/json", self._image)
        app.router.add_post("/{version}/containers/create", self._created)
        app.router.add_post("/{version}/containers/{id}/kill", self._killed)
        app.router.add_delete("/{version}/containers/{id}", self._removed)
        return app

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="OK", headers={"Api-Version": "1.47"})

    async def _listed(self, _: web.Request) -> web.Response:
        return web.json_response([{"Id": each} for each in self.containers])

    async def _image(self, _: web.Request) -> web.Response:
        return web.json_response({"Id": "sha256:1"})

    async def _created(self, _: web.Request) -> web.Response:
        self.containers.add("c1")
        return web.json_response({"Id": "c1", "Warnings": self._warnings}, status=201)

    async def _killed(self, _: web.Request) -> web.Response:
        return web.json_response({"message": "container c1 is not running"}, status=409)

    async def _removed(self, request: web.Request) -> web.Response:
        self.containers.discard(request.match_info["id"])
        return web.Response(status=204)


@asynccontextmanager
async def opened_engine(socket: Path, *, warnings: Sequence[str]) -> AsyncIterator[WarningEngine]:
    """It listens there."""
    engine = WarningEngine(warnings)
    runner = web.AppRunner(engine.application())
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield engine
    finally:
        await runner.cleanup()
