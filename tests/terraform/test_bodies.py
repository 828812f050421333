"""What the modules would send to Azure: names and words that Azure's own SDK and our code know."""

import json
import re
from copy import deepcopy
from typing import Any

import pytest
import typer
from azure.mgmt.appcontainers import models

from mayfly.bus.servicebus_links import TOPIC
from mayfly.bus.servicebus_topics import RULE
from mayfly.cli.main import app
from mayfly.model.requests import KEPT_FOR, LARGEST_DELIVERIES, LEASE_TIME
from tests.terraform.armnames import names, unknown
from tests.terraform.stage import MODULES, Stage

pytestmark = pytest.mark.timeout(400)


def made(stage: Stage, folder: str, file: str) -> dict[str, Any]:
    """Address to values of all that the first run of a file of tests has made."""
    assert stage.run(folder, "get").code == 0
    ran = stage.run(folder, "test", "-json", "-verbose", f"-filter=tests/{file}")
    assert ran.code == 0, ran.output
    lines = [json.loads(line) for line in ran.output.splitlines() if line.startswith("{")]
    state = next(line["test_state"] for line in lines if line["type"] == "test_state")
    resources = state["root_module"]["resources"]
    return {one["address"]: one["values"] for one in resources}


@pytest.fixture(scope="module")
def jobs(
    providers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Pool to the job that terraform would send to Azure."""
    stage = Stage(tmp_path_factory.mktemp("jobs"), providers)
    resources = made(stage, "azure-container-apps", "jobs.tftest.hcl")
    found = {
        match[1]: values
        for address, values in resources.items()
        if (match := re.fullmatch(r'azapi_resource\.job\["(.*)"\]', address))
    }
    assert set(found) == {"linux", "gpu"}
    return found


def test_a_job_has_no_name_that_azure_does_not_know(jobs: dict[str, Any]):
    for job in jobs.values():
        assert list(unknown(job["body"], models.Job)) == []


def test_an_unknown_name_would_be_noticed(jobs: dict[str, Any]):
    body = deepcopy(jobs["linux"]["body"])
    properties = body["properties"]
    properties["configuration"]["identitySetting"] = properties["configuration"]["identitySettings"]
    properties["template"]["containers"][0]["environment"] = []
    assert list(unknown(body, models.Job)) == [
        ".properties.configuration.identitySetting",
        ".properties.template.containers.environment",
    ]


def test_the_words_of_a_job_are_azures(jobs: dict[str, Any]):
    for job in jobs.values():
        configuration = job["body"]["properties"]["configuration"]
        assert configuration["triggerType"] in {one.value for one in models.TriggerType}
        lifecycles = {one.value for one in models.IdentitySettingsLifeCycle}
        assert {one["lifecycle"] for one in configuration["identitySettings"]} <= lifecycles


def test_a_start_can_send_all_of_a_jobs_template(jobs: dict[str, Any]):
    """A start replaces the template, and takes less: what it has no name for would be lost."""
    for job in jobs.values():
        template = job["body"]["properties"]["template"]
        assert list(unknown(template, models.JobExecutionTemplate)) == []
        assert set(template["containers"][0]) <= names(models.JobExecutionContainer)


def test_a_job_gives_its_executor_options_there_are(jobs: dict[str, Any]):
    """The image's entry point is `mayfly executor --once`."""
    container = jobs["gpu"]["body"]["properties"]["template"]["containers"][0]
    assert "command" not in container, "it would replace the entry point"
    commands: Any = typer.main.get_command(app)
    parameters = commands.commands["executor"].params
    options = {option for one in parameters for option in one.opts}
    assert {word for word in container["args"] if word.startswith("-")} <= options
    variables = {one.envvar for one in parameters if one.envvar}
    ours = {one["name"] for one in container["env"] if one["name"].startswith("MAYFLY_")}
    assert ours == {"MAYFLY_URL"}
    assert ours <= variables


def test_no_module_has_a_use_for_the_apps_key():
    text = "\n".join(file.read_text() for file in MODULES.rglob("*.tf"))
    for resource in ("azurerm_key_vault_key", "azurerm_key_vault_secret", "tls_private_key"):
        assert f'"{resource}"' not in text, "it would stand in the state"
    assert "PRIVATE_KEY" not in text


def test_the_bus_is_made_as_the_code_expects_it(stage: Stage):
    found = made(stage, "service-bus", "topic.tftest.hcl")
    topic = found["azurerm_servicebus_topic.this"]
    assert topic["name"] == TOPIC
    assert topic["default_message_ttl"] == f"P{KEPT_FOR.days}D"
    assert topic["requires_duplicate_detection"]
    subscription = found['azurerm_servicebus_subscription.pool["linux"]']
    assert subscription["lock_duration"] == f"PT{LEASE_TIME.seconds}S"
    assert subscription["max_delivery_count"] == LARGEST_DELIVERIES
    assert subscription["default_message_ttl"] == f"P{KEPT_FOR.days}D"
    assert found['azurerm_servicebus_subscription_rule.pool["linux"]']["name"] == RULE
