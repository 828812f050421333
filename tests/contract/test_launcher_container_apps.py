"""Azure Container Apps: what is sent to start an execution, and what its refusals mean."""

import asyncio
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
from tests.fakes.stand_ins import ContainerApps, in_container_apps, launcher_of
from tests.servers.arm import KEPT, NO_CORES, TEMPLATE
from tests.servers.platforms import Reply

TICKET = Ticket("mft_of-the-tests")
REFUSED = {"error": {"code": "Nope", "message": f"of {TICKET.reveal()} nothing is made"}}


def launch(number: int = 1) -> Launch:
    return Launch(id=LaunchId(f"01kbq{number:021d}"), pool="linux", wanted_at=NOON)


@pytest.fixture
async def azure(tmp_path: Path) -> AsyncIterator[ContainerApps]:
    async with in_container_apps(tmp_path) as platform:
        yield platform


@pytest.fixture
async def launcher(azure: ContainerApps) -> AsyncIterator[Launcher]:
    async with azure.opened() as opened:
        yield opened


def starts(azure: ContainerApps) -> list[Any]:
    return [each.json() for each in azure.server.endpoint.told("POST", "/start")]


async def test_the_job_s_own_template_is_sent_back_with_our_variables(
    launcher: Launcher, azure: ContainerApps
):
    init = {"name": "init", "image": "i", "env": [{"name": "S", "secretRef": "proxy"}]}
    azure.server.put("mayfly-linux", template={"initContainers": [init]})
    await launcher.start(launch(), TICKET)
    (sent,) = starts(azure)
    (was,) = TEMPLATE["containers"]
    assert sent["initContainers"] == [init]
    assert sent["containers"] == [
        {name: was[name] for name in ("name", "image", "command", "args")}
        | {
            "resources": {"cpu": 2.0, "memory": "4Gi"},
            "env": [
                {"name": "PROXY_PASSWORD", "secretRef": "proxy"},
                {"name": "LANG", "value": "C.UTF-8"},
                {"name": "MAYFLY_URL", "value": "https://mayfly.example.org"},
                {"name": "MAYFLY_POOL", "value": "linux"},
                {"name": "MAYFLY_LAUNCH", "value": launch().id},
                {"name": "MAYFLY_TICKET", "value": TICKET.reveal()},
            ],
        }
    ]


@pytest.mark.parametrize("status", [200, 202])
async def test_a_start_whose_answer_is_lost_is_not_sent_again(
    launcher: Launcher, azure: ContainerApps, status: int
):
    azure.server.accepts_with = status
    azure.server.endpoint.lose("POST", "/start")
    with pytest.raises(Transient):
        await launcher.start(launch(), TICKET)
    await launcher.start(launch(), TICKET)
    assert len(starts(azure)) == 1
    assert len(azure.server.of(launch().id)) == 1


@pytest.mark.parametrize("status", [500, 503, 504])
async def test_a_start_that_fails_is_sent_once(
    launcher: Launcher, azure: ContainerApps, status: int
):
    azure.server.endpoint.instead("POST", "/start", Reply(status, b"<html>", {"Retry-After": "9"}))
    with pytest.raises(Transient) as caught:
        await launcher.start(launch(), TICKET)
    assert len(starts(azure)) == 1
    assert caught.value.retry_at == NOON + timedelta(seconds=9)


async def test_who_is_slowed_down_asks_nothing_until_then(launcher: Launcher, azure: ContainerApps):
    slow = {"error": {"code": "TooManyRequests", "message": "The request was throttled."}}
    azure.server.endpoint.instead("POST", "/start", Reply(429, slow, {"Retry-After": "17"}))
    with pytest.raises(Transient, match="throttled") as caught:
        await launcher.start(launch(), TICKET)
    assert caught.value.retry_at == NOON + timedelta(seconds=17)
    heard = len(azure.server.endpoint.heard)
    azure.clock.advance(16.9)
    for ask in (launcher.start(launch(2), TICKET), launcher.launched("linux")):
        with pytest.raises(Transient) as caught:
            await ask
        assert caught.value.retry_at == NOON + timedelta(seconds=17)
    assert len(azure.server.endpoint.heard) == heard
    azure.clock.advance(0.1)
    await launcher.start(launch(), TICKET)
    assert azure.server.of(launch().id)


async def test_starts_go_out_at_most_five_a_second(launcher: Launcher, azure: ContainerApps):
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(launcher.start(launch(number), TICKET) for number in range(4)))
    assert loop.time() - began >= 0.6
    assert len(starts(azure)) == 4


async def test_too_few_cores_are_for_another_time(launcher: Launcher, azure: ContainerApps):
    azure.server.most_running = 1
    await launcher.start(launch(1), TICKET)
    with pytest.raises(Transient) as caught:
        await launcher.start(launch(2), TICKET)
    assert NO_CORES in str(caught.value)


async def test_a_missing_right_is_named_with_its_role(launcher: Launcher, azure: ContainerApps):
    azure.server.allowed = False
    asks = (launcher.start(launch(), TICKET), launcher.launched("linux"))
    for ask in (*asks, launcher.stop("linux", launch().id)):
        with pytest.raises(Permanent, match=r"Container Apps Jobs Operator .* mayfly-linux"):
            await ask


@pytest.mark.parametrize("status", [400, 401, 422])
async def test_a_refusal_is_told_without_the_ticket(
    launcher: Launcher, azure: ContainerApps, status: int
):
    azure.server.endpoint.instead("POST", "/start", Reply(status, REFUSED))
    with pytest.raises(Permanent, match="Nope: of … nothing is made"):
        await launcher.start(launch(), TICKET)


async def test_a_job_that_is_not_there_is_named(launcher: Launcher, azure: ContainerApps):
    del azure.server.jobs["mayfly-linux"]
    with pytest.raises(Permanent, match="jobs/mayfly-linux/executions was not found"):
        await launcher.start(launch(), TICKET)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"replicaRetryLimit": 1}, "replicaRetryLimit 0"),
        ({"triggerType": "Event"}, "triggerType Manual"),
        ({"manualTriggerConfig": {"parallelism": 2}}, "parallelism 1"),
        ({"template": {"volumes": [{"name": "cache"}]}}, "has volumes"),
        (
            {"template": {"containers": [*TEMPLATE["containers"], {"name": "b", "image": "b"}]}},
            "containers executor, b; name the executor's",
        ),
    ],
)
async def test_a_job_that_is_no_job_for_executors_is_not_started(
    launcher: Launcher, azure: ContainerApps, changes: dict[str, Any], said: str
):
    azure.server.put("mayfly-linux", **changes)
    with pytest.raises(Permanent, match=said):
        await launcher.start(launch(), TICKET)
    assert starts(azure) == []


async def test_the_named_container_alone_is_told(azure: ContainerApps):
    other = {"name": "proxy", "image": "p", "env": [{"name": "A", "value": "1"}]}
    azure.server.put("mayfly-linux", template={"containers": [other, *TEMPLATE["containers"]]})
    azure.settings = msgspec.structs.replace(azure.settings, container="executor")
    async with azure.opened() as launcher:
        await launcher.start(launch(), TICKET)
    (sent,) = starts(azure)
    assert sent["containers"][0] == other
    assert TICKET.reveal() in json.dumps(sent["containers"][1])


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("Processing", LaunchState.STARTING),
        ("Running", LaunchState.RUNNING),
        ("Degraded", LaunchState.RUNNING),
        ("Unknown", LaunchState.RUNNING),
        ("Stopped", LaunchState.ENDED),
        ("Succeeded", LaunchState.ENDED),
        ("Failed", LaunchState.FAILED),
    ],
)
async def test_azure_s_states_have_a_meaning(
    launcher: Launcher, azure: ContainerApps, status: str, state: LaunchState
):
    await launcher.start(launch(), TICKET)
    azure.server.becomes(launch().id, status)
    (one,) = await launcher.launched("linux")
    assert (one.state, one.detail) == (state, status)


async def test_what_lives_is_found_behind_all_that_has_ended(
    launcher: Launcher, azure: ContainerApps
):
    await launcher.start(launch(), TICKET)
    (living,) = azure.server.executions
    for number in range(KEPT + 30):
        name = f"old-{number}"
        env = [{"name": "MAYFLY_LAUNCH", "value": name}, {"name": "MAYFLY_POOL", "value": "linux"}]
        old = {"status": "Succeeded", "template": {"containers": [{"name": "x", "env": env}]}}
        azure.server.executions.insert(0, living | {"name": name, "properties": old})
    azure.server.becomes(launch().id, "Running")
    found = await launcher.launched("linux")
    assert len(found) == KEPT + 1
    await launcher.start(launch(), TICKET)
    assert len(starts(azure)) == 1
    await launcher.stop("linux", launch().id)
    assert living["properties"]["status"] == "Stopped"


async def test_executions_that_others_have_started_are_left_alone(
    launcher: Launcher, azure: ContainerApps
):
    await launcher.start(launch(), TICKET)
    ours = azure.server.executions[0]
    azure.server.executions.append(
        ours | {"name": "by-hand", "properties": {"status": "Running", "template": TEMPLATE}}
    )
    assert [one.id for one in await launcher.launched("linux")] == [launch().id]


async def test_of_two_executions_of_a_launch_the_living_one_counts_and_both_are_stopped(
    launcher: Launcher, azure: ContainerApps
):
    await launcher.start(launch(), TICKET)
    (first,) = azure.server.executions
    second = {"status": "Running", "template": first["properties"]["template"]}
    azure.server.executions.append(first | {"name": "doubled", "properties": second})
    first["properties"]["status"] = "Failed"
    (one,) = await launcher.launched("linux")
    assert one.state is LaunchState.RUNNING
    first["properties"]["status"] = "Running"
    await launcher.stop("linux", launch().id)
    assert {one["properties"]["status"] for one in azure.server.executions} == {"Stopped"}


async def test_the_identity_s_token_goes_to_no_other_host(launcher: Launcher, azure: ContainerApps):
    elsewhere = {"value": [], "nextLink": "http://127.0.0.2:1/steal?api-version=1"}
    azure.server.endpoint.instead("GET", "/executions", Reply(200, elsewhere))
    with pytest.raises(Permanent, match="another host"):
        await launcher.launched("linux")


async def test_a_machine_that_gets_no_token_is_told_what_it_lacks(
    launcher: Launcher, azure: ContainerApps
):
    azure.server.endpoint.instead("GET", "/msi/token", Reply(400, {"message": "no identity"}))
    with pytest.raises(Transient, match="give it a managed identity"):
        await launcher.start(launch(), TICKET)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"job": "Mayfly_{pool}"}, "Mayfly_linux"),
        ({"job": "{pool}-" + "x" * 32}, "at most 32"),
        ({"endpoint": "http://management.azure.com"}, "http:// goes only to this machine"),
        ({"endpoint": "management.azure.com"}, "is not like"),
        ({"endpoint": "https://[::1"}, "is not like"),
        ({"endpoint": "https://management.azure.com:https"}, "is not like"),
        ({"endpoint": "https://ü..b"}, "is not a URL such as"),
    ],
)
async def test_settings_that_can_never_work_are_refused(
    azure: ContainerApps, changes: dict[str, Any], said: str
):
    azure.settings = msgspec.structs.replace(azure.settings, **changes)
    with pytest.raises(InvalidSettings, match=said):
        async with launcher_of("container_apps", azure.settings):
            pass
