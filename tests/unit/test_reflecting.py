"""At the edge: decided, put on the bus, and answered only after the bus has confirmed it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest
from structlog.testing import capture_logs

from mayfly.bus.memory import MemoryBus
from mayfly.engine.admission import Admission
from mayfly.engine.news import News
from mayfly.engine.reflecting import EdgeIntake
from mayfly.model.access import AccessRule
from mayfly.model.errors import Transient
from mayfly.model.jobs import InstallationId, JobState, WorkflowJobEvent
from mayfly.model.pools import Convention, Pool
from mayfly.model.requests import EVENTS, Message, ReflectedEvent
from mayfly.ports import AccessRules
from mayfly.store.declared import DeclaredAccessRules, NoRules
from mayfly.telemetry import Telemetry, WebhookResult
from tests.fakes.clocks import ManualClock
from tests.fakes.web import job_event

ALLOWED = AccessRule(label="linux", owner="octo")
NOW = timedelta(0)


class Away:
    """Rules that cannot be read."""

    async def find(self, owner: str, repository: str, label: str) -> AccessRule | None:
        raise Transient("the account is away")

    async def rules(self) -> list[AccessRule]:
        raise Transient("the account is away")

    async def grant(self, rule: AccessRule) -> None: ...
    async def revoke(self, rule: AccessRule) -> bool:
        return False


class Silent(MemoryBus):
    """Never confirms."""

    async def publish(self, messages: Sequence[Message]) -> None:
        await asyncio.Event().wait()


class Edge:
    """An edge reflector's intake over a bus in memory."""

    def __init__(
        self,
        *,
        forwards_refused: bool = True,
        rules: AccessRules | None = None,
        silent: bool = False,
    ) -> None:
        clock = ManualClock()
        self.bus = (Silent if silent else MemoryBus)(clock)
        self.telemetry = Telemetry(["linux"])
        pools = (Pool(name="linux"),)
        access = rules or DeclaredAccessRules((ALLOWED,), NoRules())
        self.intake = EdgeIntake(
            self.bus,
            Admission(pools, Convention.SEQUENCE, access),
            News(clock),
            self.telemetry,
            prefix="mayfly",
            forwards_refused=forwards_refused,
            patience=timedelta(seconds=0.05),
        )

    async def reflected(self) -> list[WorkflowJobEvent]:
        """What a control plane finds."""
        found = []
        while lease := await self.bus.lease(EVENTS, NOW):
            assert isinstance(lease.message, ReflectedEvent)
            found.append(lease.message.event)
        return found


def event_with(**fields: object) -> WorkflowJobEvent:
    return msgspec.structs.replace(job_event(), **fields)


async def test_an_admitted_event_is_on_the_bus_as_github_told_it():
    edge, event = Edge(), job_event()
    assert await edge.intake.take(event) is WebhookResult.REFLECTED
    assert await edge.reflected() == [event]


@pytest.mark.parametrize("state", JobState)
async def test_every_state_of_a_job_goes_on(state: JobState):
    edge = Edge()
    await edge.intake.take(job_event(state))
    assert [event.state for event in await edge.reflected()] == [state]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"labels": ("linux", "self-hosted")}, "not_self_hosted"),
        ({"labels": ("self-hosted", "arm64")}, "unknown_pool"),
        ({"owner": "stranger"}, "not_allowed"),
    ],
)
async def test_a_refused_job_is_said_counted_and_forwarded_unless_it_is_to_be_dropped(
    fields: dict[str, object], reason: str
):
    event = event_with(**fields)
    for forwards, result, found in (
        (True, WebhookResult.REFLECTED, [event]),
        (False, WebhookResult.REFUSED, []),
    ):
        edge = Edge(forwards_refused=forwards)
        with capture_logs() as logs:
            assert await edge.intake.take(event) is result
        assert [entry["event"] for entry in logs] == ["job.refused"]
        assert await edge.reflected() == found
        count = edge.telemetry.registry.get_sample_value
        assert count("mayfly_job_decided_total", {"decision": reason}) == 1


@pytest.mark.parametrize("forwards", [True, False])
async def test_a_job_for_githubs_own_runners_stops_here_without_a_word(forwards: bool):
    edge = Edge(forwards_refused=forwards)
    with capture_logs() as logs:
        event = event_with(labels=("ubuntu-latest",))
        assert await edge.intake.take(event) is WebhookResult.REFUSED
    assert (logs, await edge.reflected()) == ([], [])


async def test_a_refused_job_that_took_a_runner_of_ours_goes_on_in_any_case():
    edge = Edge(forwards_refused=False)
    ours = event_with(owner="stranger", runner_name="mayfly-01jd-1", state=JobState.IN_PROGRESS)
    theirs = event_with(owner="stranger", runner_name="box", state=JobState.IN_PROGRESS)
    assert await edge.intake.take(ours) is WebhookResult.REFLECTED
    assert await edge.intake.take(theirs) is WebhookResult.REFUSED
    assert await edge.reflected() == [ours]


@pytest.mark.parametrize("forwards", [True, False])
async def test_rules_that_cannot_be_read_lose_no_event(forwards: bool):
    edge = Edge(forwards_refused=forwards, rules=Away())
    assert await edge.intake.take(job_event()) is WebhookResult.REFLECTED
    assert len(await edge.reflected()) == 1


async def test_a_bus_that_does_not_confirm_in_time_is_said_to_github():
    with pytest.raises(Transient, match="did not confirm the event within"):
        await Edge(silent=True).intake.take(job_event())


async def test_an_installation_is_the_delivery_logs_business():
    edge = Edge()
    await edge.intake.revived(InstallationId(5))
    assert await edge.reflected() == []
