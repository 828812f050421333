"""The HTTP side over memory backends and stages that do what a test tells them."""

import hashlib
import hmac
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import httpx
import pytest

from mayfly.bus.memory import open_bus
from mayfly.cli.wiring import connected
from mayfly.engine.aftermath import Aftermath
from mayfly.engine.claims import Claims
from mayfly.engine.doorbells import Doorbells
from mayfly.engine.executors import Executors
from mayfly.engine.explanations import Explanations
from mayfly.engine.intake import Intake
from mayfly.engine.news import News
from mayfly.engine.offers import Offers
from mayfly.engine.plane import ControlPlane
from mayfly.engine.retries import Retries
from mayfly.engine.tickets import Tickets
from mayfly.model.access import Admitted, Decision, Scope
from mayfly.model.deadlines import Deadlines
from mayfly.model.demand import demand_of
from mayfly.model.jobs import InstallationId, JobId, JobKey, JobState, WorkflowJob, WorkflowJobEvent
from mayfly.model.pools import Convention, Pool
from mayfly.model.protocol import (
    ClaimOrder,
    ConfiguredOrder,
    Entrusted,
    FinishOrder,
    Granted,
    HeartbeatAnswer,
    Order,
    Registered,
    StartedAnswer,
    StartedOrder,
)
from mayfly.model.runners import Claim, ClaimId
from mayfly.ports import AccessRules, Clock, Ledger, OperableBus
from mayfly.store.memory import open_store
from mayfly.telemetry import Telemetry, WebhookResult
from mayfly.web.app import Front, build
from mayfly.web.tokens import Role, Token, new_token
from tests.fakes.clocks import NOON, ManualClock
from tests.fakes.github import FakeGitHub

SECRET = b"a webhook secret of the tests"
OLD_SECRET = b"the webhook secret before it"
POOLS = (Pool(name="linux", max=4), Pool(name="arm64", max=2))
SHARED = Path(__file__).parents[2].parent / "shared" / "fixtures"


class ScriptedIntake:
    """Takes every event, or fails as told."""

    def __init__(self) -> None:
        self.events: list[WorkflowJobEvent] = []
        self.failure: Exception | None = None
        self.reviews = 0
        self.revivals: list[InstallationId] = []

    async def revived(self, installation: InstallationId) -> None:
        self.revivals.append(installation)

    async def review(self) -> None:
        self.reviews += 1

    async def take(self, event: WorkflowJobEvent) -> WebhookResult:
        await self.submit(event)
        return WebhookResult.RECORDED

    async def submit(self, event: WorkflowJobEvent) -> Decision:
        if self.failure is not None:
            raise self.failure
        self.events.append(event)
        return Admitted(pool="linux", variant=None, scope=Scope("repos/octo/hello"), rule="a rule")


class ScriptedClaims:
    """Grants one claim to everybody, or fails as told."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.granted: str | None = None
        self.finished: list[FinishOrder] = []

    async def claim(self, order: ClaimOrder) -> Granted | None:
        self._fail()
        if self.granted is None:
            return None
        return Granted(
            claim=self.granted,
            pool=order.pool,
            variant=None,
            labels=("self-hosted", "linux"),
            scope="repos/octo/hello",
            guard=True,
            heartbeat_seconds=20,
        )

    async def register(self, claim: ClaimId, boot: str) -> Registered:
        self._fail()
        return Registered(name=f"mayfly-{claim}-1", generation=1, jit_config="a-jit-config")

    async def entrust(self, claim: ClaimId, boot: str) -> Entrusted:
        self._fail()
        return Entrusted(
            name=f"mayfly-{claim}-1",
            generation=1,
            labels=("self-hosted", "linux"),
            url="https://github.com/octo/hello",
            token="a-registration-token",
        )

    async def configured(self, claim: ClaimId, order: ConfiguredOrder) -> None:
        self._fail()

    async def heartbeat(self, claim: ClaimId, boot: str) -> HeartbeatAnswer:
        self._fail()
        return HeartbeatAnswer(order=Order.CONTINUE)

    async def started(self, claim: ClaimId, order: StartedOrder) -> StartedAnswer:
        self._fail()
        return StartedAnswer(allowed=True)

    async def finish(self, claim: ClaimId, order: FinishOrder) -> None:
        self._fail()
        self.finished.append(order)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class World(NamedTuple):
    """Everything a test of the HTTP side needs."""

    app: Front
    client: httpx.AsyncClient
    plane: ControlPlane
    intake: ScriptedIntake
    claims: ScriptedClaims
    telemetry: Telemetry
    clock: ManualClock
    tokens: Mapping[str, str]
    claim: Claim

    def bearer(self, name: str) -> dict[str, str]:
        """The header of one caller."""
        return {"authorization": f"Bearer {self.tokens[name]}"}

    def figure(self, metric: str, **labels: str) -> float:
        """A metric's value; a series that does not exist fails the test."""
        value = self.telemetry.registry.get_sample_value(metric, labels)
        assert value is not None, f"{metric} {labels} does not exist"
        return value


@asynccontextmanager
async def world(
    *,
    ledger: Ledger | None = None,
    bus: OperableBus | None = None,
    access: AccessRules | None = None,
    longest_wait: timedelta = timedelta(seconds=30),
    secrets: tuple[bytes, ...] = (SECRET,),
    engine: bool = False,
    pull: bool = False,
) -> AsyncIterator[World]:
    """The app over memory backends with one queued job and one claim for it.

    Intake and claims are scripted, or with `engine` the real ones.
    """
    clock, github = ManualClock(), FakeGitHub()
    intake, claims = ScriptedIntake(), ScriptedClaims()

    def seconds() -> float:
        return (clock.now() - NOON).total_seconds()

    telemetry = Telemetry([pool.name for pool in POOLS], monotonic=seconds)
    plain, tokens = _tokens()
    async with AsyncExitStack() as stack:
        real_bus = await stack.enter_async_context(open_bus("", clock, []))
        real_ledger, rules = await stack.enter_async_context(open_store("", clock, Deadlines()))
        claim = await _one_claim(real_ledger, clock)
        news, doorbells = News(clock), Doorbells(bus or real_bus, POOLS, telemetry)
        await stack.enter_async_context(doorbells.open())
        plane = ControlPlane(
            pools=POOLS,
            ledger=ledger or real_ledger,
            access=access or rules,
            bus=bus or real_bus,
            clock=clock,
            github=github,
            intake=cast("Intake", intake),
            claims=cast("Claims", claims),
            explanations=Explanations(real_ledger, POOLS, lambda _: None),
            executors=Executors(ledger or real_ledger, news, Deadlines()),
            retries=Retries(real_ledger, Aftermath(doorbells, news, telemetry, clock), news),
            offers=Offers(ledger or real_ledger, github, clock),
            news=news,
            tickets=Tickets(real_ledger.launches, news, telemetry),
        )
        if engine:
            plane = await stack.enter_async_context(_with_engine(plane, telemetry))
        app = build(
            plane,
            secrets=secrets,
            tokens=tokens,
            telemetry=telemetry,
            longest_wait=longest_wait,
            pull=pull,
        )
        transport = httpx.ASGITransport(app=cast("Any", app))
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://mayfly.test")
        )
        yield World(app, client, plane, intake, claims, telemetry, clock, plain, claim)


def signed(body: bytes, event: str = "workflow_job", secret: bytes = SECRET) -> dict[str, str]:
    """The headers of a genuine delivery."""
    signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
    return {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-hub-signature-256": f"sha256={signature}",
    }


def payload(name: str) -> bytes:
    """An example payload that GitHub publishes."""
    path = SHARED / "webhooks" / f"{name}.json"
    if not path.exists():
        reason = f"{path} is missing"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return path.read_bytes()


def job_event(state: JobState = JobState.QUEUED, job_id: int = 1) -> WorkflowJobEvent:
    """A job of octo/hello for the pool linux, created a minute before noon."""
    return WorkflowJobEvent(
        key=JobKey(JobId(job_id), 1),
        state=state,
        run_id=9,
        name="test",
        workflow="CI",
        labels=("self-hosted", "linux"),
        installation=InstallationId(5),
        owner="octo",
        owner_is_organization=True,
        repository="hello",
        html_url="https://github.com/octo/hello/actions/runs/9/job/1",
        branch="main",
        conclusion=None,
        created_at=NOON - timedelta(minutes=1),
        started_at=None,
        completed_at=None,
        runner_name=None,
        delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958",
    )


def admitted_job(state: JobState = JobState.QUEUED, job_id: int = 1) -> WorkflowJob:
    """The ledger's row for `job_event`."""
    event = job_event(state, job_id)
    decision = Admitted(
        pool="linux", variant=None, scope=Scope("repos/octo/hello"), rule="AllowOwner octo → linux"
    )
    demand = demand_of(decision, "octo", InstallationId(5), ("linux", "self-hosted"))
    return WorkflowJob(event=event, decision=decision, group=demand.group, received_at=NOON)


@asynccontextmanager
async def _with_engine(plane: ControlPlane, telemetry: Telemetry) -> AsyncIterator[ControlPlane]:
    stages = connected(
        pools=plane.pools,
        convention=Convention.SEQUENCE,
        ledger=plane.ledger,
        access=plane.access,
        bus=plane.bus,
        github=plane.github,
        clock=plane.clock,
        deadlines=Deadlines(),
        prefix=plane.runner_prefix,
        telemetry=telemetry,
        news=plane.news,
        pull=True,
    )
    async with stages.doorbells.open():
        yield plane._replace(intake=stages.intake, claims=stages.claims)


async def _one_claim(ledger: Ledger, clock: Clock) -> Claim:
    await ledger.record([admitted_job()])
    order = ClaimOrder(pool="linux", machine="m1", boot="b1", key="k1")
    claim = await ledger.claim(order, 4, None)
    assert claim is not None
    return claim


def _tokens() -> tuple[dict[str, str], list[Token]]:
    made = {
        "executor": new_token("executor", Role.EXECUTOR, ("linux",)),
        "stranger": new_token("stranger", Role.EXECUTOR, ("arm64",)),
        "both": new_token("both", Role.EXECUTOR, ("linux", "arm64")),
        "operator": new_token("operator", Role.OPERATOR),
        "metrics": new_token("metrics", Role.METRICS),
    }
    return {name: plain for name, (plain, _) in made.items()}, [kept for _, kept in made.values()]
