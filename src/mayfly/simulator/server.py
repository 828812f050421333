"""Starts and stops a simulator on a loopback port."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Receive, Scope, Send

from mayfly.simulator import (
    app_routes,
    control_routes,
    control_state_routes,
    manifest_routes,
    protocol_routes,
    release_routes,
    run_routes,
    runner_routes,
)
from mayfly.simulator.door import Door
from mayfly.simulator.refusals import Refusal
from mayfly.simulator.runner_service import routes as runner_service_routes
from mayfly.simulator.runner_service.service import RunnerService
from mayfly.simulator.settings import Settings
from mayfly.simulator.simulation import Simulator
from mayfly.simulator.world import World

log = logging.getLogger(__name__)


class LoopbackServer(uvicorn.Server):
    """uvicorn inside somebody else's event loop: it leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve(settings: Settings | None = None) -> AsyncIterator[Simulator]:
    """A simulated GitHub on `settings.port`, until the block ends."""
    chosen = settings or Settings()
    with socket.create_server((chosen.host, chosen.port), backlog=2048) as listener:
        port = listener.getsockname()[1]
        url = f"http://{chosen.host}:{port}"
        world = World(chosen, url)
        simulator = Simulator(url, chosen, world)
        server = LoopbackServer(_config(application(simulator)))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            world.open()
            yield simulator
        finally:
            await world.close()
            server.should_exit = True
            await serving


def run(settings: Settings) -> None:
    """Serve until the process is told to stop, as a program of its own."""

    async def until_told() -> None:
        told = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        async with serve(settings) as simulator:
            print(f"simulated GitHub at {simulator.url}", flush=True)  # noqa: T201 - its one line
            await told.wait()

    asyncio.run(until_told())


def application(simulator: Simulator) -> Door:
    """The ASGI application: routes behind the door."""
    world = simulator.world
    state = State({"world": world, "simulator": simulator, "runner_service": RunnerService(world)})
    app = Litestar(
        route_handlers=[
            *app_routes.ROUTES,
            *runner_routes.ROUTES,
            *run_routes.ROUTES,
            *release_routes.ROUTES,
            *manifest_routes.ROUTES,
            *protocol_routes.ROUTES,
            *runner_service_routes.IN_THE_API,
            *control_routes.ROUTES,
            *control_state_routes.ROUTES,
        ],
        state=state,
        exception_handlers={
            Refusal: _refused,
            HTTPException: _http_error,
            Exception: _broken,
        },
        openapi_config=None,
        logging_config=None,
    )
    templates = [route.path_format for route in app.routes]
    return Door(_beside(app, runner_service_routes.ServiceApplication(state)), world, templates)


def _beside(app: Litestar, service: runner_service_routes.ServiceApplication) -> ASGIApp:
    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        wanted = runner_service_routes.is_for_the_service(scope["path"])
        await (service if wanted else app)(scope, receive, send)

    return either


def _refused(_: Request[Any, Any, State], refusal: Refusal) -> Response[Any]:
    return Response(
        refusal.body(),
        status_code=refusal.status,
        headers=refusal.headers,
        media_type="application/json",
    )


def _http_error(request: Request[Any, Any, State], error: HTTPException) -> Response[Any]:
    # GitHub has no 405: what it does not serve is not found.
    if error.status_code in {404, 405}:
        return _refused(request, Refusal(404, "Not Found"))
    return _refused(request, Refusal(error.status_code, str(error.detail)))


def _broken(request: Request[Any, Any, State], error: Exception) -> Response[Any]:
    log.error("simulator.failed", exc_info=error)
    return _refused(request, Refusal(500, f"the simulator is broken: {error!r}"))


def _config(app: Door) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        # Longer than any client keeps an idle connection, so that none breaks under a request.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=2,
    )
