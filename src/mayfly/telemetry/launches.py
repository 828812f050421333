"""The figures of launches, by pool."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

from mayfly.model.launches import LIVE, LaunchPhase


class LaunchRefusal(StrEnum):
    """Why a platform did not start an executor."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    SILENT = "silent"


class LaunchFigures:
    """What is launched, what came of it, and who came with a ticket in vain."""

    def __init__(self, registry: CollectorRegistry, pools: Iterable[str]) -> None:
        self._pools = tuple(pools)
        self._live = Gauge(
            "mayfly_launch_live",
            "Launched executors, by how far they have come, at the last turn of the scaler.",
            ("pool", "phase"),
            registry=registry,
        )
        self._started = Counter(
            "mayfly_launch_started",
            "Executors a platform has accepted to start.",
            ("pool",),
            registry=registry,
        )
        self._written_off = Counter(
            "mayfly_launch_written_off",
            "Executors that did not claim in time, or fell silent before.",
            ("pool",),
            registry=registry,
        )
        self._refused = Counter(
            "mayfly_launch_refused",
            "Starts that a platform refused or did not answer.",
            ("pool", "reason"),
            registry=registry,
        )
        self._misused = Counter(
            "mayfly_ticket_refused",
            "Tickets that gave nothing: used twice, too late, or never ours.",
            registry=registry,
        )
        for pool in self._pools:
            self._started.labels(pool)
            self._written_off.labels(pool)
            for phase in sorted(LIVE):
                self._live.labels(pool, phase.value)
            for reason in LaunchRefusal:
                self._refused.labels(pool, reason.value)

    def seen(self, pool: str, phases: Mapping[LaunchPhase, int]) -> None:
        """How many there are."""
        for phase, count in phases.items():
            self._live.labels(pool, phase.value).set(count)

    def started(self, pool: str) -> None:
        """A platform has accepted one."""
        self._started.labels(pool).inc()

    def written_off(self, pool: str) -> None:
        """One was given up."""
        self._written_off.labels(pool).inc()

    def refused(self, pool: str, reason: LaunchRefusal) -> None:
        """A platform did not start one."""
        self._refused.labels(pool, reason.value).inc()

    def ticket_refused(self) -> None:
        """Somebody came with a ticket that gives nothing."""
        self._misused.inc()
