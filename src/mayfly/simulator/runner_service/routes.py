"""All endpoints of the runner service: a few in GitHub's API, most at addresses of their own."""

from __future__ import annotations

from functools import cached_property
from typing import Final

from litestar import Litestar
from litestar.datastructures import State
from litestar.types import Receive, Scope, Send

from mayfly.simulator.refusals import Refusal
from mayfly.simulator.runner_service import (
    admin_routes,
    broker_routes,
    hand_routes,
    job_routes,
    listener_routes,
    registration_routes,
    run_routes,
)
from mayfly.simulator.runner_service.definitions import BROKER, RUN, TENANT
from mayfly.simulator.runner_service.faults import Fault, answer_fault, answer_refusal

IN_THE_API: Final = [registration_routes.trade, *admin_routes.ROUTES, *hand_routes.ROUTES]
"""What answers in the words of GitHub's API."""

_ADDRESSES: Final = (f"{TENANT}/", f"{RUN}/", f"{BROKER}/")


def is_for_the_service(path: str) -> bool:
    """Whether a path is at the service's own address."""
    return path.startswith(_ADDRESSES)


class ServiceApplication:
    """The service's own address, as an ASGI application.

    It is made with the first call: most simulators meet no runner of this kind, and are started by
    the hundred.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._made(scope, receive, send)

    @cached_property
    def _made(self) -> Litestar:
        return Litestar(
            route_handlers=[
                *registration_routes.ROUTES,
                *listener_routes.ROUTES,
                *job_routes.ROUTES,
                *broker_routes.ROUTES,
                *run_routes.ROUTES,
            ],
            state=self._state,
            exception_handlers={Fault: answer_fault, Refusal: answer_refusal},
            openapi_config=None,
            logging_config=None,
        )
