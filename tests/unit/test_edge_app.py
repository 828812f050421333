"""The edge reflector as an application: under a server, and in Azure's own ASGI adapter."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import azure.functions as func
import httpx
import pytest

from mayfly.bus import sql
from mayfly.cli import edge_settings
from mayfly.cli.reflecting import hosted, open_edge
from mayfly.cli.settings import as_toml
from mayfly.engine.clock import SystemClock
from mayfly.model.errors import InvalidSettings, Transient
from mayfly.model.requests import EVENTS
from mayfly.web.hosting import Hosted
from mayfly.web.tokens import Role, new_token
from tests.fakes.clocks import ManualClock
from tests.fakes.web import OLD_SECRET, SECRET, payload, signed

LONG = timedelta(minutes=1)
"""A machine with much to do makes a database in more than the usual 8 s."""
PATH = "/webhooks/github"
DEPLOYED = Path(__file__).parents[2] / "deploy" / "azure-functions"
METRICS, METRICS_TOKEN = new_token("prometheus", Role.METRICS)
SETTINGS = """\
# reflector.toml
[bus]
url = "sqlite:///{folder}/bus.sqlite"

[[pools]]
name = "linux"

[[pools]]
name = "ubuntu-latest"

[[access]]
owner = "Codertocat"
pool = "linux"

{tokens}
"""
SECRETS = {
    "MAYFLY_WEBHOOK_SECRET": SECRET.decode(),
    "MAYFLY_WEBHOOK_SECRET_OLD": OLD_SECRET.decode(),
}


def settings(folder: Path, text: str = SETTINGS, **environment: str) -> edge_settings.EdgeSettings:
    path = folder / "reflector.toml"
    path.write_text(text.format(folder=folder, tokens=as_toml(METRICS_TOKEN)))
    return edge_settings.load(path, SECRETS | environment)


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = Hosted(partial(open_edge, settings(folder)), SystemClock(), patience=LONG)
    transport = httpx.ASGITransport(app=cast("Any", app))
    async with httpx.AsyncClient(transport=transport, base_url="http://edge.test") as client:
        try:
            yield client
        finally:
            await app.close()


@pytest.fixture(autouse=True, scope="module")
def _imported() -> None:
    """What the first opening imports is no part of what is timed."""
    asyncio.run(_opened_once())


async def _opened_once() -> None:
    with TemporaryDirectory() as folder:
        async with sql.open_bus(f"sqlite:///{folder}/bus.sqlite", SystemClock(), [EVENTS]):
            pass


def queued(*labels: str) -> bytes:
    whole = json.loads(payload("workflow_job.queued"))
    whole["workflow_job"]["labels"] = list(labels)
    return json.dumps(whole).encode()


async def depth(folder: Path) -> int:
    """What waits for a control plane."""
    async with sql.open_bus(f"sqlite:///{folder}/bus.sqlite", SystemClock(), [EVENTS]) as bus:
        return await bus.depth(EVENTS)


def request(body: bytes, headers: dict[str, str], method: str = "POST") -> func.HttpRequest:
    url = f"https://my-function.azurewebsites.net{PATH}"
    return func.HttpRequest(method=method, url=url, headers=headers, body=body)


async def test_a_genuine_event_is_on_the_bus_once_it_is_answered(tmp_path: Path):
    body = queued("self-hosted", "linux")
    async with served(tmp_path) as client:
        answer = await client.post(PATH, content=body, headers=signed(body))
        assert (answer.status_code, answer.json()) == (202, {"result": "reflected"})
        assert await depth(tmp_path) == 1
        elsewhere = queued("windows-latest")
        answer = await client.post(PATH, content=elsewhere, headers=signed(elsewhere))
        assert (answer.status_code, answer.json()) == (202, {"result": "refused"})
        answer = await client.post(PATH, content=body, headers=signed(b"another"))
        assert answer.status_code == 401
        assert await depth(tmp_path) == 1


async def test_both_webhook_secrets_work_while_one_replaces_the_other(tmp_path: Path):
    body = queued("self-hosted", "linux")
    async with served(tmp_path) as client:
        for secret in (SECRET, OLD_SECRET):
            headers = signed(body, secret=secret)
            assert (await client.post(PATH, content=body, headers=headers)).status_code == 202


async def test_probes_and_figures(tmp_path: Path):
    body = queued("self-hosted", "linux")
    async with served(tmp_path) as client:
        await client.post(PATH, content=body, headers=signed(body))
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        assert (await client.get("/readyz")).status_code == 401
        assert (await client.get("/metrics")).status_code == 401
        bearer = {"authorization": f"Bearer {METRICS}"}
        assert (await client.get("/readyz", headers=bearer)).json() == {"status": "ready"}
        figures = (await client.get("/metrics", headers=bearer)).text
        assert 'mayfly_webhook_answered_total{result="reflected"} 1.0' in figures
        assert (await client.get("/v1/jobs", headers=bearer)).status_code == 404


async def test_azures_adapter_carries_a_delivery(tmp_path: Path):
    app = hosted(settings(tmp_path))
    middleware = func.AsgiMiddleware(app)
    assert await middleware.notify_startup()
    body = queued("self-hosted", "linux")
    named = {name.title(): value for name, value in signed(body).items()}
    for headers, status in ((named, 202), (signed(b"another"), 401)):
        answer = await middleware.handle_async(request(body, headers))
        assert answer.status_code == status
    assert await depth(tmp_path) == 1
    await middleware.notify_shutdown()


async def test_azures_adapter_needs_no_start(tmp_path: Path):
    app = hosted(settings(tmp_path))
    body = queued("self-hosted", "linux")
    answers = await asyncio.gather(
        *(func.AsgiMiddleware(app).handle_async(request(body, signed(body))) for _ in range(5))
    )
    assert [answer.status_code for answer in answers] == [202] * 5
    await app.close()


async def test_the_function_that_is_deployed_takes_a_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "function_app.py").write_text((DEPLOYED / "function_app.py").read_text())
    settings(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    spec = spec_from_file_location("function_app", tmp_path / "function_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "function_app", module)
    spec.loader.exec_module(module)
    (registered,) = module.app.get_functions()
    assert registered.get_function_name() == "reflect"
    trigger = registered.get_trigger()
    assert trigger.route == "{*path}"
    assert trigger.auth_level is func.AuthLevel.ANONYMOUS
    body = queued("self-hosted", "linux")
    answer = await registered.get_user_function()(request(body, signed(body)), None)
    assert (answer.status_code, json.loads(answer.get_body())) == (202, {"result": "reflected"})
    await module.middleware._app.close()


def test_the_settings_that_are_deployed_are_whole():
    path = DEPLOYED / "reflector.toml"
    loaded = edge_settings.load(path, {"MAYFLY_WEBHOOK_SECRET": "of a test"})
    assert loaded.file.bus.backend == "servicebus"
    assert json.loads((DEPLOYED / "host.json").read_text())["extensions"]["http"] == {
        "routePrefix": "",
        "maxConcurrentRequests": 100,
    }


class Doors:
    """Something to open, which is away until it is not."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Any]:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        yield self._answer

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def status_of(app: Hosted) -> int:
    return int((await func.AsgiMiddleware(app).handle_async(request(b"", {}))).status_code)


async def test_what_cannot_be_opened_yet_is_answered_503_and_tried_again():
    doors = Doors(Transient("the bus is away"), Transient("still away"))
    app = Hosted(cast("Any", doors), ManualClock())
    assert [await status_of(app) for _ in range(4)] == [503, 503, 202, 202]
    assert doors.tries == 3
    await app.close()


async def test_what_can_never_be_opened_fails_the_start_and_is_503_where_there_is_none():
    doors = Doors(InvalidSettings("the user lacks rights"), InvalidSettings("still"))
    app = Hosted(cast("Any", doors), ManualClock())
    assert not await func.AsgiMiddleware(app).notify_startup()
    assert await status_of(app) == 503


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("url = ", "backend = 'memory'\nurl = "), "not one that an edge reflector"),
        (('url = "sqlite:///{folder}/bus.sqlite"', ""), "names no url"),
        (('name = "ubuntu-latest"', 'name = "Events"'), "give the pool another one"),
        (("[bus]", "private_key_file = 'app.pem'\n[bus]"), "unknown field `private_key_file`"),
        (('pool = "linux"', 'pool = "windows"'), "known: linux"),
    ],
)
def test_settings_that_cannot_be_used_are_a_sentence(
    tmp_path: Path, change: tuple[str, str], sentence: str
):
    with pytest.raises(InvalidSettings, match=sentence):
        settings(tmp_path, SETTINGS.replace(*change))


def test_a_key_vault_reference_that_was_not_resolved_is_not_taken_for_the_secret(tmp_path: Path):
    reference = "@Microsoft.KeyVault(SecretUri=https://my.vault.azure.net/secrets/webhook)"
    with pytest.raises(InvalidSettings, match="MAYFLY_WEBHOOK_SECRET is a Key Vault reference"):
        settings(tmp_path, MAYFLY_WEBHOOK_SECRET=reference)
