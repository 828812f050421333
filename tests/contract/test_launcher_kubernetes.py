"""Kubernetes: what a Job looks like, and what the API server's refusals mean."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mayfly.model.errors import InvalidSettings, Permanent, Transient
from mayfly.model.launches import Launch, LaunchId, LaunchState, Ticket
from mayfly.ports import Launcher
from tests.fakes.clocks import NOON
from tests.fakes.stand_ins import TEMPLATE, Kubernetes, in_kubernetes
from tests.servers.platforms import Reply

TICKET = Ticket("mft_of-the-tests")


def launch(number: int = 1, pool: str = "linux") -> Launch:
    return Launch(id=LaunchId(f"01kbq{number:021d}"), pool=pool, wanted_at=NOON)


NAME = f"mayfly-{launch().id}"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Kubernetes]:
    async with in_kubernetes(tmp_path) as platform:
        yield platform


@pytest.fixture
async def launcher(cluster: Kubernetes) -> AsyncIterator[Launcher]:
    async with cluster.opened() as opened:
        yield opened


async def test_a_job_has_one_pod_once_without_rights_of_its_own(
    launcher: Launcher, cluster: Kubernetes
):
    await launcher.start(launch(), TICKET)
    job = cluster.server.kept["jobs"][NAME]
    labels = {
        "app.kubernetes.io/managed-by": "mayfly",
        "mayfly/pool": "linux",
        "mayfly/launch": launch().id,
    }
    assert job["metadata"]["labels"] == labels
    spec, template = job["spec"], job["spec"]["template"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["ttlSecondsAfterFinished"] == 600
    assert template["metadata"]["labels"] == labels | {"team": "builds"}
    assert template["spec"]["restartPolicy"] == "Never"
    assert template["spec"]["automountServiceAccountToken"] is False
    assert template["spec"]["serviceAccountName"] == "executor"


async def test_the_ticket_is_in_a_secret_that_goes_with_the_job(
    launcher: Launcher, cluster: Kubernetes
):
    await launcher.start(launch(), TICKET)
    job, secret = cluster.server.kept["jobs"][NAME], cluster.server.kept["secrets"][NAME]
    assert TICKET.reveal() not in json.dumps(job)
    assert secret["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": NAME, "uid": job["metadata"]["uid"]}
    ]
    cluster.server.pod(NAME, phase="Running")
    await launcher.stop("linux", launch().id)
    assert cluster.server.kept == {"jobs": {}, "secrets": {}, "pods": {}}


async def test_a_start_that_was_cut_off_before_the_secret_goes_on(
    launcher: Launcher, cluster: Kubernetes
):
    cluster.server.endpoint.miss("POST", "/secrets")
    with pytest.raises(Transient):
        await launcher.start(launch(), TICKET)
    assert cluster.server.kept["secrets"] == {}
    await launcher.start(launch(), TICKET)
    assert len(cluster.server.made) == 1
    environment = cluster.server.environment(cluster.server.kept["jobs"][NAME])
    assert environment["MAYFLY_TICKET"] == TICKET.reveal()
    assert environment["LANG"] == "C.UTF-8"


async def test_a_quota_is_told_from_a_missing_right(launcher: Launcher, cluster: Kubernetes):
    cluster.server.most_jobs = 1
    await launcher.start(launch(1), TICKET)
    with pytest.raises(Transient, match=r"exceeded quota: executors, .* limited: count/jobs"):
        await launcher.start(launch(2), TICKET)
    cluster.server.forbidden = {("create", "jobs")}
    with pytest.raises(Permanent, match=r'cannot create resource "jobs" .* give the service'):
        await launcher.start(launch(3), TICKET)


@pytest.mark.parametrize(
    "right", [("create", "secrets"), ("list", "jobs"), ("list", "pods"), ("delete", "jobs")]
)
async def test_each_right_that_is_missing_is_named(
    launcher: Launcher, cluster: Kubernetes, right: tuple[str, str]
):
    cluster.server.forbidden = {right}

    async def whole_life() -> None:
        await launcher.start(launch(), TICKET)
        await launcher.launched("linux")
        await launcher.stop("linux", launch().id)

    with pytest.raises(Permanent, match=f'cannot {right[0]} resource "{right[1]}"'):
        await whole_life()


async def test_a_token_that_was_renewed_is_used(launcher: Launcher, cluster: Kubernetes):
    cluster.server.token = "the next token"
    with pytest.raises(Permanent, match=r"does not accept the token in .*/token"):
        await launcher.launched("linux")
    cluster.settings.token_file.write_text("the next token\n")
    assert await launcher.launched("linux") == []


@pytest.mark.parametrize("status", [429, 500, 503, 504])
async def test_an_api_server_with_too_much_to_do_is_for_another_time(
    launcher: Launcher, cluster: Kubernetes, status: int
):
    busy = {"kind": "Status", "message": "the server is busy", "reason": "TooManyRequests"}
    cluster.server.endpoint.instead("POST", "/jobs", Reply(status, busy, {"Retry-After": "3"}))
    with pytest.raises(Transient, match="busy") as caught:
        await launcher.start(launch(), TICKET)
    assert caught.value.retry_at == NOON + timedelta(seconds=3)


async def test_a_refusal_is_told_without_the_ticket(launcher: Launcher, cluster: Kubernetes):
    invalid = {"kind": "Status", "message": f"{TICKET.reveal()} is invalid", "reason": "Invalid"}
    cluster.server.endpoint.instead("POST", "/secrets", Reply(422, invalid))
    with pytest.raises(Permanent, match="refused: … is invalid"):
        await launcher.start(launch(), TICKET)


async def test_a_template_that_kubernetes_does_not_take_is_refused_in_its_words(
    cluster: Kubernetes,
):
    cluster.settings.template.write_text(TEMPLATE.replace("image:", "immage:"))
    async with cluster.opened() as launcher:
        with pytest.raises(Permanent, match="immage"):
            await launcher.start(launch(), TICKET)


async def test_a_job_of_that_name_that_is_not_ours_is_nobody_s_executor(
    launcher: Launcher, cluster: Kubernetes
):
    await launcher.start(launch(), TICKET)
    cluster.server.kept["jobs"][NAME]["metadata"]["labels"] = {}
    with pytest.raises(Permanent, match="not Mayfly's; delete it"):
        await launcher.start(launch(), TICKET)


@pytest.mark.parametrize(
    ("status", "state", "detail"),
    [
        ({}, LaunchState.STARTING, ""),
        ({"active": 1, "ready": 0}, LaunchState.STARTING, ""),
        ({"active": 1, "ready": 1}, LaunchState.RUNNING, ""),
        (
            {"conditions": [{"type": "Complete", "status": "True"}]},
            LaunchState.ENDED,
            "",
        ),
        (
            {
                "conditions": [
                    {"type": "FailureTarget", "status": "False"},
                    {
                        "type": "Failed",
                        "status": "True",
                        "reason": "BackoffLimitExceeded",
                        "message": "Job has reached the specified backoff limit",
                    },
                ]
            },
            LaunchState.FAILED,
            "BackoffLimitExceeded: Job has reached the specified backoff limit",
        ),
    ],
)
async def test_a_job_s_status_has_a_meaning(
    launcher: Launcher,
    cluster: Kubernetes,
    status: dict[str, Any],
    state: LaunchState,
    detail: str,
):
    await launcher.start(launch(), TICKET)
    cluster.server.becomes(NAME, **status)
    (one,) = await launcher.launched("linux")
    assert (one.state, one.detail) == (state, detail)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "True"},
                    {
                        "type": "Ready",
                        "status": "False",
                        "reason": "ContainersNotReady",
                        "message": "containers with unready status: [executor]",
                    },
                ],
                "containerStatuses": [
                    {
                        "state": {
                            "waiting": {
                                "reason": "ImagePullBackOff",
                                "message": "Back-off pulling image",
                            }
                        }
                    }
                ],
            },
            "ImagePullBackOff: Back-off pulling image",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available",
                    }
                ]
            },
            "Unschedulable: 0/3 nodes are available",
        ),
    ],
)
async def test_of_a_pod_that_does_not_start_it_is_said_why(
    launcher: Launcher, cluster: Kubernetes, status: dict[str, Any], why: str
):
    await launcher.start(launch(), TICKET)
    cluster.server.becomes(NAME, active=1, ready=0)
    cluster.server.pod(NAME, phase="Pending", **status)
    (one,) = await launcher.launched("linux")
    assert (one.state, one.detail) == (LaunchState.STARTING, why)


async def test_launches_are_listed_over_all_pages(launcher: Launcher, cluster: Kubernetes):
    cluster.server.page = 2
    for number in range(5):
        await launcher.start(launch(number), TICKET)
    await launcher.start(launch(9, "gpu"), TICKET)
    assert [one.id for one in await launcher.launched("linux")] == [
        launch(number).id for number in range(5)
    ]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("spec: {}", "has no spec.containers"),
        ("just words", "has no spec.containers"),
        ("spec: {containers: [", "cannot be read"),
        ("spec: {containers: [{name: a}, {name: b}]}", "containers a, b; name the executor's"),
        ("spec: {restartPolicy: Always, containers: [{name: a}]}", "restartPolicy Always"),
        ("metadata: ours\nspec: {containers: [{name: a}]}", "metadata that is not labels"),
        ("metadata: {labels: [a]}\nspec: {containers: [{name: a}]}", "metadata that is not labels"),
        ("spec: {containers: [{name: a, env: [A]}]}", "an env that is not a list like"),
        ("spec: {containers: [{name: a, env: {A: b}}]}", "an env that is not a list like"),
        ("spec: &a {containers: [{name: a}], b: *a}", "cannot be read: maximum recursion"),
        ("[" * 3000, "cannot be read: maximum recursion"),
    ],
)
async def test_a_template_no_executor_can_be_made_of_is_refused_at_the_start(
    cluster: Kubernetes, template: str, said: str
):
    cluster.settings.template.write_text(template)
    with pytest.raises(InvalidSettings, match=said):
        async with cluster.opened():
            pass


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"server": "http://cluster.example"}, "unencrypted"),
        ({"token_file": Path("/nowhere")}, "kubectl create token"),
        ({"ca_file": Path("/nowhere")}, "ca_file /nowhere"),
        ({"namespace": None}, "namespace is not set"),
        ({"namespace": "../kube-system"}, "'../kube-system' can be none"),
        ({"keep_seconds": 0}, "keep_seconds is 0"),
        ({"container": "other"}, "containers executor; name the executor's"),
        ({"template": Path("/nowhere")}, "template /nowhere cannot be read"),
    ],
)
async def test_settings_that_can_never_work_are_refused(
    cluster: Kubernetes, changes: dict[str, Any], said: str
):
    cluster.settings = msgspec.structs.replace(cluster.settings, **changes)
    with pytest.raises(InvalidSettings, match=said):
        async with cluster.opened():
            pass
