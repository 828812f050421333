"""The HTTP API against its own description: whatever is sent, the answer is as documented."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from schemathesis import Case
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tests.fakes.web import World, signed, world

URL = "http://mayfly.test"


class Serving:
    """The app with the real engine, asked from outside of its event loop."""

    def __init__(self, runner: asyncio.Runner, here: World) -> None:
        self._runner = runner
        self._here = here

    def ask(self, case: Case[Any]) -> Any:
        """The answer to a case, by the right caller."""
        call = case.as_transport_kwargs(base_url=URL)
        call.pop("allow_redirects", None)
        prepared = requests.Request(**call).prepare()
        body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
        content = body if isinstance(body, bytes) else b""
        prepared.headers.update(self._proof(case.path, content))
        request = self._here.client.build_request(
            str(prepared.method),
            str(prepared.url),
            headers={name: str(value) for name, value in prepared.headers.items()},
            content=content,
        )
        return self._runner.run(self._here.client.send(request))

    def _proof(self, path: str, body: bytes) -> dict[str, str]:
        if path.startswith("/webhooks"):
            return {"x-hub-signature-256": signed(body)["x-hub-signature-256"]}
        executor = path.startswith(("/v1/claims", "/v1/leases/")) or path.endswith(
            ("/lease", "/attend")
        )
        return self._here.bearer("executor" if executor else "operator")


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        made = world(engine=True, longest_wait=timedelta(milliseconds=1))
        here = runner.run(stack.enter_async_context(made))
        yield Serving(runner, here)
        runner.run(stack.aclose())


async def _description() -> dict[str, Any]:
    async with world() as here:
        answer = await here.client.get("/schema/openapi.json", headers=here.bearer("operator"))
        described: dict[str, Any] = answer.json()
        return described


# While tests are collected, because every operation becomes a test of its own.
DESCRIPTION = asyncio.run(_description())
# Who may call what is another test's matter: here the right caller asks.
GENERATION = GenerationConfig(with_security_parameters=False, deterministic=True)
CONFIG = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=GENERATION)))
schema = schemathesis.openapi.from_dict(DESCRIPTION, config=CONFIG)


@schema.exclude(path="/v1/events").parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_documented(case: Case[Any], serving: Serving):
    # Another test tries every caller on every path.
    excluded = [ignored_auth]
    texts = case.path.startswith(("/v1/claims", "/v1/leases/")) or case.path.endswith("/attend")
    # A ticket that is none is refused, whoever asks.
    texts = texts or case.path.startswith("/v1/tickets/")
    if texts or case.path.startswith("/v1/executors/"):
        # Texts of an executor must be printable, and which executors an operator means
        # must be said, which the schema of the protocol does not say.
        excluded.append(positive_data_acceptance)
    case.validate_response(serving.ask(case), excluded_checks=excluded)


def test_the_description_is_valid_openapi():
    validate(DESCRIPTION)
