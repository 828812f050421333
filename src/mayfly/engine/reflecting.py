"""Reflecting: at the edge an event is decided and put on the bus, for a control plane."""

import asyncio
from datetime import timedelta

from mayfly.engine.admission import Admission
from mayfly.engine.news import News
from mayfly.model.access import Admitted, Decision, Reason, Refused
from mayfly.model.errors import Transient
from mayfly.model.jobs import InstallationId, WorkflowJobEvent
from mayfly.model.labels import SELF_HOSTED
from mayfly.model.requests import ReflectedEvent
from mayfly.ports import Bus
from mayfly.telemetry import Telemetry, WebhookResult

PATIENCE = timedelta(seconds=8)
"""For the bus to confirm: GitHub gives up after 10 s, and is to hear that it failed."""

_ELSEWHERE = frozenset({Reason.NOT_SELF_HOSTED, Reason.UNKNOWN_POOL})


class EdgeIntake:
    """Keeps nothing: what the bus has not confirmed was not taken."""

    def __init__(
        self,
        bus: Bus,
        admission: Admission,
        news: News,
        telemetry: Telemetry,
        *,
        prefix: str,
        forwards_refused: bool,
        patience: timedelta = PATIENCE,
    ) -> None:
        self._bus = bus
        self._admission = admission
        self._news = news
        self._telemetry = telemetry
        self._ours = f"{prefix}-"
        self._forwards_refused = forwards_refused
        self._patience = patience

    async def take(self, event: WorkflowJobEvent) -> WebhookResult:
        """REFLECTED once the bus has confirmed it; REFUSED when it goes no further.

        Transient when the bus does not confirm it in time; it may have it all the same, and to
        record an event twice changes nothing.
        """
        decision = await self._admission.decide(event)
        self._telemetry.job_decided(decision)
        if isinstance(decision, Refused) and not decision.pending and not is_elsewhere(event):
            self._tell(event, decision)
        if not self._travels(event, decision):
            return WebhookResult.REFUSED
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                await self._bus.publish([ReflectedEvent(event=event)])
        except TimeoutError as error:
            seconds = self._patience.total_seconds()
            raise Transient(f"the bus did not confirm the event within {seconds:.0f} s") from error
        return WebhookResult.REFLECTED

    async def revived(self, installation: InstallationId) -> None:
        """Nothing: the control plane learns of it from the delivery log."""
        del installation

    def _travels(self, event: WorkflowJobEvent, decision: Decision) -> bool:
        """The control plane decides again: this only spares it what it has no use for."""
        if isinstance(decision, Admitted) or decision.pending:
            return True
        if (event.runner_name or "").startswith(self._ours):
            return True  # a runner of ours has it, so the ledger must know, whoever may use it
        return self._forwards_refused and not is_elsewhere(event, decision)

    def _tell(self, event: WorkflowJobEvent, refused: Refused) -> None:
        self._news.publish(
            "job.refused",
            job=event.key.id,
            repository=event.full_name,
            name=event.name,
            state=event.state.word,
            runner=event.runner_name,
            reason=refused.sentence,
        )


def is_elsewhere(event: WorkflowJobEvent, refused: Refused | None = None) -> bool:
    """Whether it asks for no self-hosted runner, so that nobody expects one of ours."""
    names_us = any(label.lower() == SELF_HOSTED for label in event.labels)
    return not names_us and (refused is None or refused.reason in _ELSEWHERE)
