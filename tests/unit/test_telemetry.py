"""What an operator watches: series that exist from the start, logs without secrets."""

import json
import logging
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import structlog

from mayfly.model.access import Admitted, Reason, Refused, Scope
from mayfly.model.changes import PoolUse
from mayfly.model.demand import DemandGroup
from mayfly.model.errors import GitHubRefused, GitHubUnreachable, RateLimited, RefusalKind
from mayfly.model.executors import Executor, Standing
from mayfly.model.jobs import GroupId, InstallationId
from mayfly.model.runners import ClaimState
from mayfly.telemetry import (
    HIDDEN,
    Correction,
    GitHubFailure,
    Ignored,
    Telemetry,
    WebhookResult,
    configure_logs,
)
from tests.fakes.clocks import NOON


class Seconds:
    """A monotonic clock in a test's hands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def telemetry(seconds: Seconds) -> Telemetry:
    return Telemetry(["linux", "arm64"], monotonic=seconds)


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, labels)


def group_of(pool: str) -> DemandGroup:
    return DemandGroup(
        id=GroupId(1),
        installation=InstallationId(7),
        scope=Scope("repos/o/r"),
        pool=pool,
        owner="o",
        variant=None,
        labels=("self-hosted", pool),
    )


def test_two_planes_in_one_process_do_not_collide():
    one, other = Telemetry(["linux"]), Telemetry(["linux"])
    one.doorbells_rung("linux", 3)
    assert value(one, "mayfly_doorbell_rung_total", pool="linux") == 3
    assert value(other, "mayfly_doorbell_rung_total", pool="linux") == 0


def test_every_series_exists_before_its_first_event(telemetry: Telemetry):
    expected: list[tuple[str, dict[str, str]]] = [
        *(("mayfly_job_decided_total", {"decision": reason.value}) for reason in Reason),
        ("mayfly_job_decided_total", {"decision": "admitted"}),
        *(("mayfly_webhook_answered_total", {"result": r.value}) for r in WebhookResult),
        *(("mayfly_delivery_ignored_total", {"reason": r.value}) for r in Ignored),
        *(("mayfly_reconciler_corrected_total", {"correction": c.value}) for c in Correction),
        *(("mayfly_github_refused_total", {"kind": k.value}) for k in RefusalKind),
        *(("mayfly_github_refused_total", {"kind": k.value}) for k in GitHubFailure),
        *(
            ("mayfly_claim_ended_total", {"pool": pool, "end": end})
            for pool in ("linux", "arm64")
            for end in ("done", "withdrawn", "failed", "lost", "retired")
        ),
        ("mayfly_job_waited_seconds_count", {"pool": "linux"}),
        ("mayfly_runner_onlined_seconds_count", {"pool": "arm64"}),
        ("mayfly_doorbell_rung_total", {"pool": "arm64"}),
        ("mayfly_pool_open_runners", {"pool": "linux"}),
        ("mayfly_pool_stalled_groups", {"pool": "arm64"}),
    ]
    for name, labels in expected:
        assert value(telemetry, name, **labels) == 0, (name, labels)


def test_every_event_moves_its_own_series(telemetry: Telemetry):
    admitted = Admitted(pool="linux", variant=None, scope=Scope("repos/o/r"), rule="")
    telemetry.job_decided(admitted)
    telemetry.job_decided(Refused(reason=Reason.NOT_ALLOWED, sentence="no"))
    telemetry.job_started("linux", timedelta(seconds=42))
    telemetry.runner_online("linux", timedelta(seconds=7))
    telemetry.claim_ended("linux", ClaimState.LOST)
    telemetry.corrected(Correction.RUNNER_DELETED, 2)
    telemetry.webhook_answered(WebhookResult.RECORDED)
    telemetry.delivery_ignored(Ignored.MALFORMED)
    telemetry.github_refused(GitHubRefused(RefusalKind.SUSPENDED, ""))
    telemetry.github_refused(RateLimited(""))
    telemetry.github_refused(GitHubUnreachable(""))
    uses = {"linux": PoolUse(used=3, queued=9, open=6)}
    broken = Executor(pool="linux", machine="m1", seen_at=NOON, unprepared=3, reason="no disk")
    sound = Executor(pool="linux", machine="m2", seen_at=NOON)
    standings = [Standing(broken, None, absent=False), Standing(sound, None, absent=False)]
    telemetry.pools_seen(uses, [group_of("linux")] * 2, standings)
    for name, labels, expected in [
        ("mayfly_job_decided_total", {"decision": "admitted"}, 1),
        ("mayfly_job_decided_total", {"decision": "not_allowed"}, 1),
        ("mayfly_job_waited_seconds_sum", {"pool": "linux"}, 42),
        ("mayfly_runner_onlined_seconds_sum", {"pool": "linux"}, 7),
        ("mayfly_pool_serving_executors", {"pool": "linux"}, 1),
        ("mayfly_pool_broken_executors", {"pool": "linux"}, 1),
        ("mayfly_claim_ended_total", {"pool": "linux", "end": "lost"}, 1),
        ("mayfly_reconciler_corrected_total", {"correction": "runner_deleted"}, 2),
        ("mayfly_webhook_answered_total", {"result": "recorded"}, 1),
        ("mayfly_delivery_ignored_total", {"reason": "malformed"}, 1),
        ("mayfly_github_refused_total", {"kind": "installation_suspended"}, 1),
        ("mayfly_github_refused_total", {"kind": "rate_limited"}, 1),
        ("mayfly_github_refused_total", {"kind": "unreachable"}, 1),
        ("mayfly_pool_used_runners", {"pool": "linux"}, 3),
        ("mayfly_pool_queued_jobs", {"pool": "linux"}, 9),
        ("mayfly_pool_open_runners", {"pool": "linux"}, 6),
        ("mayfly_pool_stalled_groups", {"pool": "linux"}, 2),
        ("mayfly_pool_stalled_groups", {"pool": "arm64"}, 0),
    ]:
        assert value(telemetry, name, **labels) == expected, (name, labels)


def test_silence_of_github_shows_even_before_the_first_delivery(
    telemetry: Telemetry, seconds: Seconds
):
    seconds.now += 60
    assert value(telemetry, "mayfly_delivery_missed_seconds") == 60
    telemetry.delivery_received()
    seconds.now += 5
    assert value(telemetry, "mayfly_delivery_missed_seconds") == 5


def test_what_is_left_of_githubs_hour_is_read_at_the_scrape(telemetry: Telemetry):
    assert value(telemetry, "mayfly_github_budget_remaining_ratio") == 1
    shares = iter([0.5, 0.25])
    telemetry.budget_read_by(lambda: next(shares))
    assert value(telemetry, "mayfly_github_budget_remaining_ratio") == 0.5
    assert value(telemetry, "mayfly_github_budget_remaining_ratio") == 0.25


def test_a_clock_that_went_back_does_not_count_negative(telemetry: Telemetry):
    telemetry.job_started("linux", timedelta(seconds=-3))
    assert value(telemetry, "mayfly_job_waited_seconds_sum", pool="linux") == 0


def test_names_are_noun_verb_unit_and_labels_few(telemetry: Telemetry):
    text = telemetry.scrape().decode()
    for metric in telemetry.registry.collect():
        if not metric.name.startswith("mayfly_"):
            continue
        assert metric.name.count("_") >= 2, metric.name
        assert f"# HELP {metric.name}" in text
        for sample in metric.samples:
            labels = set(sample.labels) - {"le"}
            assert labels <= {
                "pool",
                "end",
                "decision",
                "result",
                "reason",
                "correction",
                "kind",
                "phase",
            }
    assert "process_cpu_seconds_total" in text


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.usefixtures("_logging_as_before")
def test_an_entry_is_one_line_of_json(capsys: pytest.CaptureFixture[str]):
    configure_logs(json=True)
    structlog.get_logger().info("runner.registered", pool="linux")
    structlog.get_logger().debug("runner.seen")
    (entry,) = logged(capsys)
    assert (entry["event"], entry["level"], entry["pool"]) == ("runner.registered", "info", "linux")
    assert entry["at"].endswith("Z")


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.parametrize(
    "name",
    [
        "token",
        "registration_token",
        "jit_config",
        "encoded_jit_config",
        "signature",
        "headers",
        "body",
        "payload",
        "Authorization",
        "webhook_secret",
        "secrets",
        "private_key",
        "password",
    ],
)
def test_a_field_named_like_a_secret_loses_its_value(capsys: pytest.CaptureFixture[str], name: str):
    configure_logs(json=True)
    structlog.get_logger().warning("thing.happened", **{name: "hunter2", "deep": {name: "hunter2"}})
    (entry,) = logged(capsys)
    assert (entry[name], entry["deep"]) == (HIDDEN, {name: HIDDEN})


@pytest.mark.usefixtures("_logging_as_before")
def test_an_error_is_logged_with_its_trace(capsys: pytest.CaptureFixture[str]):
    configure_logs(json=True)
    structlog.get_logger().error("request.failed", exc_info=ValueError("odd"))
    (entry,) = logged(capsys)
    assert "ValueError: odd" in entry["exception"]


@pytest.mark.usefixtures("_logging_as_before")
def test_libraries_are_heard_from_warnings_on_in_the_same_form(capsys: pytest.CaptureFixture[str]):
    configure_logs(json=True)
    logging.getLogger("httpx").info("GET https://api.github.com/?token=hunter2")
    logging.getLogger("some.library").error("Cancel %s running task(s)", 3)
    (entry,) = logged(capsys)
    assert (entry["event"], entry["logger"]) == ("library.logged", "some.library")
    assert entry["message"] == "Cancel 3 running task(s)"


@pytest.mark.usefixtures("_logging_as_before")
def test_people_get_lines_to_read(capsys: pytest.CaptureFixture[str]):
    configure_logs(json=False, level="debug")
    structlog.get_logger().debug("runner.seen", pool="linux")
    text = capsys.readouterr().err
    assert "runner.seen" in text
    assert "pool=linux" in text
    assert sys.stderr is not None
