"""What an operator watches: every metric, and the logs' form."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from mayfly.model.access import Admitted, Decision, Reason
from mayfly.model.changes import PoolUse
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import GitHubRefused, RateLimited, RefusalKind, Transient
from mayfly.model.executors import Standing
from mayfly.model.runners import LIVE, ClaimState
from mayfly.telemetry.launches import LaunchFigures
from mayfly.telemetry.launches import LaunchRefusal as LaunchRefusal
from mayfly.telemetry.logs import HIDDEN as HIDDEN
from mayfly.telemetry.logs import configure_logs as configure_logs


class WebhookResult(StrEnum):
    """How a request to the webhook endpoint was answered."""

    RECORDED = "recorded"
    REFLECTED = "reflected"
    REFUSED = "refused"
    PING = "ping"
    STAR = "star"
    INSTALLATION = "installation"
    IGNORED = "ignored"
    UNAUTHENTIC = "unauthentic"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    NOT_JSON = "not_json"
    WRONG_TYPE = "wrong_type"
    WRONG_METHOD = "wrong_method"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"
    DISCONNECTED = "disconnected"


class Ignored(StrEnum):
    """Why an authentic delivery changed nothing."""

    UNKNOWN_EVENT = "unknown_event"
    UNUSED_ACTION = "unused_action"
    MALFORMED = "malformed"


class Correction(StrEnum):
    """What the reconciler put right; each is the trace of something that was lost or went wrong."""

    DOORBELL_RUNG = "doorbell_rung"
    CLAIM_LOST = "claim_lost"
    CLAIM_RELIEVED = "claim_relieved"
    CLAIM_OVERDUE = "claim_overdue"
    RUNNER_UNSERVED = "runner_unserved"
    RUNNER_DELETED = "runner_deleted"
    REGISTRATION_ABANDONED = "registration_abandoned"
    ORPHAN_DELETED = "orphan_deleted"
    JOB_CHECKED = "job_checked"
    DELIVERY_FETCHED = "delivery_fetched"
    DELIVERY_REPEATED = "delivery_repeated"
    COUNTER_REPAIRED = "counter_repaired"


class GitHubFailure(StrEnum):
    """GitHub's failures that are nobody's refusal."""

    RATE_LIMITED = "rate_limited"
    UNREACHABLE = "unreachable"


CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of `Telemetry.scrape`."""
_WAITS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200)
"""Seconds: from a parked machine that answers at once to a pool that is too small."""
_ENDS: Final = tuple(state for state in ClaimState if state not in LIVE)
_ADMITTED: Final = "admitted"


class Telemetry:
    """Every metric of one control plane, in a registry of its own.

    Label values are pools of mayfly.toml and members of enums, all created at start, so that a
    series exists before its first event and no stranger can make a new one.
    """

    def __init__(
        self,
        pools: Iterable[str],
        *,
        registry: CollectorRegistry | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self._pools = tuple(pools)
        self._monotonic = monotonic
        self._heard_at = monotonic()
        self._read_at = monotonic()
        self._declare_jobs()
        self._declare_webhooks()
        self._declare_corrections()
        self._declare_pools()
        self.launches = LaunchFigures(self.registry, self._pools)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def job_decided(self, decision: Decision) -> None:
        """Admission has decided about a job it had not seen."""
        word = _ADMITTED if isinstance(decision, Admitted) else decision.reason.value
        self._decided[word].inc()

    def job_started(self, pool: str, waited: timedelta) -> None:
        """A job of `pool` began on a runner, `waited` after GitHub queued it."""
        self._job_waited.labels(pool).observe(max(0.0, waited.total_seconds()))

    def runner_online(self, pool: str, after: timedelta) -> None:
        """A claim of `pool` got its runner registered, `after` it was made."""
        self._runner_online.labels(pool).observe(max(0.0, after.total_seconds()))

    def claim_ended(self, pool: str, end: ClaimState) -> None:
        """A claim of `pool` came to one of its ends."""
        self._claim_ended.labels(pool, end.value).inc()

    def corrected(self, correction: Correction, times: int = 1) -> None:
        """The reconciler put something right."""
        self._corrected.labels(correction.value).inc(times)

    def doorbells_rung(self, pool: str, times: int = 1) -> None:
        """Runner requests were published for `pool`."""
        self._doorbell_rung.labels(pool).inc(times)

    def webhook_answered(self, result: WebhookResult) -> None:
        """The webhook endpoint has answered a request."""
        self._answered[result].inc()

    def delivery_received(self) -> None:
        """GitHub has proven that it reaches us: an authentic delivery came in."""
        self._heard_at = self._monotonic()

    def log_read(self) -> None:
        """The delivery log was read to its end, and everything in it is in the ledger."""
        self._read_at = self._monotonic()

    def delivery_ignored(self, reason: Ignored) -> None:
        """An authentic delivery changed nothing."""
        self._delivery_ignored.labels(reason.value).inc()

    def job_misplaced(self, pool: str) -> None:
        """GitHub gave one of the pool's runners to a job that was refused."""
        self._job_misplaced.labels(pool).inc()

    def github_refused(self, error: GitHubRefused | Transient) -> None:
        """GitHub said no, or did not answer."""
        self._github_refused.labels(_kind_of(error)).inc()

    def budget_read_by(self, share: Callable[[], float]) -> None:
        """`share` tells, at each scrape, the part of GitHub's hour that is left, 0 to 1."""
        self._budget_remaining.set_function(share)

    def pools_seen(
        self,
        uses: Mapping[str, PoolUse],
        stalled: Iterable[DemandGroup],
        executors: Sequence[Standing],
    ) -> None:
        """The ledger's totals, read just before a scrape."""
        stalls = [group.pool for group in stalled]
        serving = [one.executor.pool for one in executors if one.serves]
        broken = [one.executor.pool for one in executors if one.executor.broken]
        for name in self._pools:
            use = uses.get(name, PoolUse(used=0, queued=0, open=0))
            self._pool_used.labels(name).set(use.used)
            self._pool_queued.labels(name).set(use.queued)
            self._pool_open.labels(name).set(use.open)
            self._pool_stalled.labels(name).set(stalls.count(name))
            self._pool_serving.labels(name).set(serving.count(name))
            self._pool_broken.labels(name).set(broken.count(name))

    def versions_seen(self, days: Mapping[str, float]) -> None:
        """The days GitHub's runner on some machine of each pool will still do; others: unknown."""
        for name in self._pools:
            self._version_days_left.labels(name).set(days.get(name, math.nan))

    def pools_unseen(self) -> None:
        """The ledger did not answer: no figure is better than an old one."""
        for gauge in self._of_pools:
            for name in self._pools:
                gauge.labels(name).set(math.nan)

    def scrape(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _declare_jobs(self) -> None:
        words = (_ADMITTED, *(reason.value for reason in Reason))
        decided = self._counter(
            "mayfly_job_decided_total",
            "Workflow jobs by admission's decision.",
            {"decision": words},
        )
        self._decided = {word: decided.labels(word) for word in words}
        self._job_waited = self._histogram(
            "mayfly_job_waited_seconds",
            "How long a workflow job waited for its runner: queued at GitHub until in progress.",
        )
        self._job_misplaced = self._counter(
            "mayfly_job_misplaced_total",
            "Refused jobs to which GitHub gave a runner of the pool.",
            {"pool": self._pools},
        )
        self._runner_online = self._histogram(
            "mayfly_runner_onlined_seconds",
            "How long a claim took to become a registered runner.",
        )
        self._claim_ended = Counter(
            "mayfly_claim_ended_total",
            "Claims by how they ended.",
            ("pool", "end"),
            registry=self.registry,
        )
        for pool in self._pools:
            for end in _ENDS:
                self._claim_ended.labels(pool, end.value)

    def _declare_webhooks(self) -> None:
        received = self._counter(
            "mayfly_webhook_answered_total",
            "Requests to the webhook endpoint by result.",
            {"result": [result.value for result in WebhookResult]},
        )
        self._answered = {result: received.labels(result.value) for result in WebhookResult}
        self._delivery_ignored = self._counter(
            "mayfly_delivery_ignored_total",
            "Authentic deliveries that changed nothing, by reason.",
            {"reason": [reason.value for reason in Ignored]},
        )
        age = Gauge(
            "mayfly_delivery_missed_seconds",
            "Seconds since the last authentic delivery, or since the start before the first.",
            registry=self.registry,
        )
        age.set_function(lambda: self._monotonic() - self._heard_at)
        unread = Gauge(
            "mayfly_log_missed_seconds",
            "Seconds since the delivery log was last read to its end, or since the start.",
            registry=self.registry,
        )
        unread.set_function(lambda: self._monotonic() - self._read_at)

    def _declare_corrections(self) -> None:
        self._corrected = self._counter(
            "mayfly_reconciler_corrected_total",
            "What the reconciler put right.",
            {"correction": [correction.value for correction in Correction]},
        )
        self._doorbell_rung = self._counter(
            "mayfly_doorbell_rung_total",
            "Runner requests published on the bus.",
            {"pool": self._pools},
        )
        kinds = [kind.value for kind in (*RefusalKind, *GitHubFailure)]
        self._github_refused = self._counter(
            "mayfly_github_refused_total",
            "Calls that GitHub refused or did not answer, by kind.",
            {"kind": kinds},
        )
        self._budget_remaining = Gauge(
            "mayfly_github_budget_remaining_ratio",
            "GitHub's hourly calls that are left to the installation that has the least, 0 to 1.",
            registry=self.registry,
        )
        self._budget_remaining.set(1.0)

    def _declare_pools(self) -> None:
        self._pool_used = self._gauge("mayfly_pool_used_runners", "Slots of a pool in use.")
        self._pool_queued = self._gauge("mayfly_pool_queued_jobs", "Admitted jobs that wait.")
        self._pool_open = self._gauge(
            "mayfly_pool_open_runners", "Runners still to be made: queued jobs without a claim."
        )
        self._pool_stalled = self._gauge(
            "mayfly_pool_stalled_groups", "Demand groups that are tried once an hour only."
        )
        self._pool_serving = self._gauge(
            "mayfly_pool_serving_executors", "Executors that speak and are in service."
        )
        self._pool_broken = self._gauge(
            "mayfly_pool_broken_executors",
            "Machines out of service because they could not prepare three times in a row.",
        )
        self._version_days_left = self._gauge(
            "mayfly_runner_version_days_left",
            "Days until GitHub gives a runner of the oldest version in a pool no jobs any more.",
        )
        self.versions_seen({})
        totals = (self._pool_used, self._pool_queued, self._pool_open, self._pool_stalled)
        self._of_pools = (*totals, self._pool_serving, self._pool_broken)

    def _counter(self, name: str, text: str, values: Mapping[str, Iterable[str]]) -> Counter:
        ((label, members),) = values.items()
        counter = Counter(name, text, (label,), registry=self.registry)
        for member in members:
            counter.labels(member)
        return counter

    def _histogram(self, name: str, text: str) -> Histogram:
        histogram = Histogram(name, text, ("pool",), buckets=_WAITS, registry=self.registry)
        for pool in self._pools:
            histogram.labels(pool)
        return histogram

    def _gauge(self, name: str, text: str) -> Gauge:
        gauge = Gauge(name, text, ("pool",), registry=self.registry)
        for pool in self._pools:
            gauge.labels(pool)
        return gauge


def _kind_of(error: GitHubRefused | Transient) -> str:
    if isinstance(error, GitHubRefused):
        return error.kind.value
    if isinstance(error, RateLimited):
        return GitHubFailure.RATE_LIMITED.value
    return GitHubFailure.UNREACHABLE.value
