"""The composition root: the parts of the control plane, each opened once and closed in order."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from mayfly.backends import OpenAccessRules, OpenBus, OpenStore
from mayfly.cli.backends import backend
from mayfly.cli.launchers import open_launchers
from mayfly.cli.settings import AccessRulesTable, IntakeKind, Settings
from mayfly.engine.admission import Admission
from mayfly.engine.aftermath import Aftermath
from mayfly.engine.claims import Claims
from mayfly.engine.clock import SystemClock
from mayfly.engine.deliveries import DeliveryLog
from mayfly.engine.doorbells import Doorbells
from mayfly.engine.executors import Executors
from mayfly.engine.explanations import Explanations
from mayfly.engine.intake import Intake
from mayfly.engine.news import News
from mayfly.engine.offers import Offers
from mayfly.engine.orphans import Orphans
from mayfly.engine.pending import PendingChecks
from mayfly.engine.plane import ControlPlane
from mayfly.engine.reconciler import Reconciler
from mayfly.engine.reflections import Reflections
from mayfly.engine.retries import Retries
from mayfly.engine.reviews import Reviews
from mayfly.engine.scaler import Scaler, lanes
from mayfly.engine.sweeps import Sweeps
from mayfly.engine.tickets import Tickets
from mayfly.engine.versions import Versions
from mayfly.github.app import open_github
from mayfly.github.secrets import Secret
from mayfly.model.deadlines import Deadlines
from mayfly.model.pools import Convention, Pool
from mayfly.ports import AccessRules, Bus, Clock, GitHub, Launcher, Ledger
from mayfly.store.declared import DeclaredAccessRules
from mayfly.telemetry import Telemetry
from mayfly.web.app import Front, build

REVIEW_PAUSE = timedelta(milliseconds=250)
"""Between two pages of 500 jobs: 100,000 take under two minutes, at a tenth of a core."""


class Running(NamedTuple):
    """A control plane at work."""

    plane: ControlPlane
    app: Front


class Stages(NamedTuple):
    """What works on the ledger and the bus, connected to each other."""

    admission: Admission
    doorbells: Doorbells
    intake: Intake
    claims: Claims
    reconciler: Reconciler
    explanations: Explanations
    retries: Retries
    reviews: Reviews
    scaler: Scaler


def connected(
    *,
    pools: tuple[Pool, ...],
    convention: Convention,
    ledger: Ledger,
    access: AccessRules,
    bus: Bus,
    github: GitHub,
    clock: Clock,
    deadlines: Deadlines,
    prefix: str,
    telemetry: Telemetry,
    news: News,
    pull: bool,
    launchers: Mapping[str, Launcher] | None = None,
) -> Stages:
    """The stages over any backends; nothing of them runs yet."""
    admission = Admission(pools, convention, access)
    doorbells = Doorbells(bus, pools, telemetry)
    launches = ledger.launches
    scaler = Scaler(
        lanes(pools, launchers or {}, launches, news, telemetry, deadlines), launches, news
    )
    aftermath = Aftermath(doorbells, news, telemetry, clock, scaler.wake)
    intake = Intake(ledger, admission, aftermath, clock)
    claims = Claims(
        pools=pools,
        ledger=ledger,
        bus=bus,
        github=github,
        admission=admission,
        record=intake.submit,
        aftermath=aftermath,
        news=news,
        telemetry=telemetry,
        deadlines=deadlines,
        clock=clock,
        prefix=prefix,
        pull=pull,
    )
    sweeps = Sweeps(
        ledger=ledger,
        github=github,
        access=access,
        record=intake.submit,
        telemetry=telemetry,
        clock=clock,
    )
    log = DeliveryLog(
        ledger=ledger,
        github=github,
        record=intake.submit,
        revived=(intake.revived, sweeps.revived),
        telemetry=telemetry,
        clock=clock,
        pull=pull,
    )
    orphans = Orphans(
        ledger=ledger, github=github, news=news, telemetry=telemetry, clock=clock, prefix=prefix
    )
    versions = Versions(
        ledger=ledger, github=github, news=news, telemetry=telemetry, clock=clock, prefix=prefix
    )
    reconciler = Reconciler(
        ledger=ledger,
        github=github,
        judging=intake.judging,
        doorbells=doorbells,
        aftermath=aftermath,
        telemetry=telemetry,
        deadlines=deadlines,
        clock=clock,
        duties=(log, sweeps, orphans, versions, PendingChecks(ledger, intake.decide_again), scaler),
        lanes={lane.name: lane for lane in scaler.lanes},
    )
    return Stages(
        admission,
        doorbells,
        intake,
        claims,
        reconciler,
        Explanations(ledger, pools, versions.outlook),
        Retries(ledger, aftermath, news),
        Reviews(
            access,
            partial(intake.review, pause=REVIEW_PAUSE),
            timedelta(seconds=deadlines.turn_seconds),
        ),
        scaler,
    )


async def kept_apart(
    table: AccessRulesTable, key: Secret | None, clock: Clock, stack: AsyncExitStack
) -> AccessRules | None:
    """The rules that are kept apart from the ledger, opened until `stack` closes; None: none."""
    if table.backend is None or table.url is None:
        return None
    open_rules: OpenAccessRules = backend("access_rules", table.backend).open_access_rules
    plain = key.reveal() if key else None
    opening = open_rules(table.url, clock, database=table.database, key=plain)
    return await stack.enter_async_context(opening)


@asynccontextmanager
async def open_plane(settings: Settings) -> AsyncIterator[Running]:
    """Everything but the listening socket, for as long as the context lives."""
    file, pools, clock = settings.file, settings.pools, SystemClock()
    pull = file.github.intake is IntakeKind.PULL
    consumes = file.github.intake is IntakeKind.BUS
    open_store: OpenStore = backend("stores", file.store.backend).open_store
    open_bus: OpenBus = backend("buses", file.bus.backend).open_bus
    telemetry, news = Telemetry([pool.name for pool in pools]), News(clock)
    async with AsyncExitStack() as stack:
        ledger, stored = await stack.enter_async_context(
            open_store(settings.store_url.reveal(), clock, file.deadlines)
        )
        bus = await stack.enter_async_context(
            open_bus(settings.bus_url.reveal(), clock, settings.subjects)
        )
        github = await stack.enter_async_context(open_github(settings.github, clock))
        telemetry.budget_read_by(github.least_share)
        kept = await kept_apart(file.access_rules, settings.access_key, clock, stack)
        access = DeclaredAccessRules(settings.rules, kept or stored)
        launchers = await stack.enter_async_context(
            open_launchers(file.launchers, pools, file.server.url, clock)
        )
        stages = connected(
            pools=pools,
            convention=file.labels.convention,
            ledger=ledger,
            access=access,
            bus=bus,
            github=github,
            clock=clock,
            deadlines=file.deadlines,
            prefix=file.runner_prefix,
            telemetry=telemetry,
            news=news,
            pull=pull,
            launchers=launchers,
        )
        plane = ControlPlane(
            pools=pools,
            ledger=ledger,
            access=access,
            bus=bus,
            clock=clock,
            github=github,
            intake=stages.intake,
            claims=stages.claims,
            executors=Executors(ledger, news, file.deadlines),
            explanations=stages.explanations,
            retries=stages.retries,
            offers=Offers(ledger, github, clock),
            news=news,
            tickets=Tickets(ledger.launches, news, telemetry),
            runner_prefix=file.runner_prefix,
        )
        app = build(
            plane,
            secrets=settings.webhook_secrets,
            tokens=file.tokens,
            telemetry=telemetry,
            pull=pull,
            consumes=consumes,
        )
        await stack.enter_async_context(stages.doorbells.open())
        await stack.enter_async_context(stages.scaler.open())
        await stack.enter_async_context(stages.reconciler.open())
        await stack.enter_async_context(stages.reviews.open())
        if consumes:
            reflections = Reflections(bus, stages.intake.submit, telemetry)
            await stack.enter_async_context(reflections.open())
        yield Running(plane, app)
