"""The composition root: the parts of the control plane, each opened once and closed in order."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from mayfly.cli.backends import backend
from mayfly.cli.settings import Settings
from mayfly.engine.admission import Admission
from mayfly.engine.claims import Claims
from mayfly.engine.clock import SystemClock
from mayfly.engine.doorbells import Doorbells
from mayfly.engine.explanations import Explanations
from mayfly.engine.intake import Intake
from mayfly.engine.news import News
from mayfly.engine.plane import ControlPlane
from mayfly.engine.reconciler import Reconciler
from mayfly.github.app import open_github
from mayfly.ports import OpenBus, OpenStore
from mayfly.store.declared import DeclaredAccessRules
from mayfly.telemetry import Telemetry
from mayfly.web.app import Front, build


class Running(NamedTuple):
    """A control plane at work."""

    plane: ControlPlane
    app: Front


@asynccontextmanager
async def open_plane(settings: Settings) -> AsyncIterator[Running]:
    """Everything but the listening socket, for as long as the context lives."""
    file, pools, clock = settings.file, settings.pools, SystemClock()
    open_store: OpenStore = backend("stores", file.store.backend).open_store
    open_bus: OpenBus = backend("buses", file.bus.backend).open_bus
    telemetry, news = Telemetry([pool.name for pool in pools]), News(clock)
    async with AsyncExitStack() as stack:
        ledger, stored = await stack.enter_async_context(
            open_store(file.store.url, clock, file.deadlines)
        )
        bus = await stack.enter_async_context(open_bus(file.bus.url or file.store.url, clock))
        github = await stack.enter_async_context(open_github(settings.github, clock))
        access = DeclaredAccessRules(settings.rules, stored)
        admission = Admission(pools, file.labels.convention, access)
        doorbells = Doorbells(bus, pools, telemetry)
        intake = Intake(ledger, admission, doorbells, news, clock, telemetry)
        claims = Claims(
            pools=pools,
            ledger=ledger,
            bus=bus,
            github=github,
            admission=admission,
            record=intake.submit,
            doorbells=doorbells,
            news=news,
            telemetry=telemetry,
            deadlines=file.deadlines,
            clock=clock,
            prefix=file.runner_prefix,
        )
        reconciler = Reconciler(
            pools=pools,
            ledger=ledger,
            bus=bus,
            github=github,
            doorbells=doorbells,
            news=news,
            telemetry=telemetry,
            deadlines=file.deadlines,
            clock=clock,
        )
        plane = ControlPlane(
            pools=pools,
            ledger=ledger,
            access=access,
            bus=bus,
            clock=clock,
            github=github,
            intake=intake,
            claims=claims,
            explanations=Explanations(ledger, pools),
            news=news,
            runner_prefix=file.runner_prefix,
        )
        app = build(
            plane, secrets=settings.webhook_secrets, tokens=file.tokens, telemetry=telemetry
        )
        await stack.enter_async_context(doorbells.open())
        await stack.enter_async_context(reconciler.open())
        yield Running(plane, app)
