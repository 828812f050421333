"""deploy/keda: manifests that their schemas take, with the names that our buses really have."""

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import msgspec
import pytest
import typer
import yaml
from azure.mgmt.appcontainers import models

from mayfly.bus.rabbitmq.names import Names
from mayfly.bus.servicebus_links import TOPIC
from mayfly.cli.backends import backend
from mayfly.cli.environment import path_hook
from mayfly.cli.executing import File
from mayfly.cli.main import app
from tests.terraform.armnames import unknown

HERE = Path(__file__).parent
KEDA = HERE.parents[1] / "deploy" / "keda"
SCHEMA = yaml.safe_load((HERE / "scaledjob.schema.yaml").read_text())
KUBERNETES = kubernetes_validate.latest_version()
POOL = "linux"
SCALED = ("rabbitmq.yaml", "servicebus.yaml")


def documents(file: str) -> dict[str, Any]:
    """Kind to document."""
    found = yaml.safe_load_all((KEDA / file).read_text())
    return {one["kind"]: one for one in found}


def scaled_job(file: str) -> Any:
    return documents(file)["ScaledJob"]["spec"]


def event_job() -> Any:
    return yaml.safe_load((KEDA / "container-apps-job.yaml").read_text())


def containers() -> dict[str, Any]:
    found = {file: scaled_job(file)["jobTargetRef"]["template"]["spec"] for file in SCALED}
    found["container-apps-job.yaml"] = event_job()["properties"]["template"]
    return {file: one["containers"][0] for file, one in found.items()}


CONTAINERS = containers()


def test_every_manifest_is_tested():
    assert {file.name for file in KEDA.iterdir()} == {*SCALED, "container-apps-job.yaml"}


@pytest.mark.parametrize("file", SCALED)
def test_a_manifest_is_what_keda_and_kubernetes_take(file: str):
    for kind, document in documents(file).items():
        if kind == "ConfigMap":
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        else:
            jsonschema.validate(document, SCHEMA)
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "mayfly-linux"},
        "spec": scaled_job(file)["jobTargetRef"],
    }
    kubernetes_validate.validate(job, KUBERNETES, strict=True)


def test_a_wrong_word_would_be_noticed():
    document = documents(SCALED[0])["ScaledJob"]
    document["spec"]["scalingStrategy"] = {"strategi": "accurate"}
    with pytest.raises(jsonschema.ValidationError, match="strategi"):
        jsonschema.validate(document, SCHEMA)


@pytest.mark.parametrize("file", SCALED)
def test_what_leaves_the_queue_at_the_claim_is_counted_so(file: str):
    """With the default strategy executors at work would be taken off what waits."""
    spec = scaled_job(file)
    assert spec["scalingStrategy"]["strategy"] == "accurate"
    assert spec["rollout"]["strategy"] == "gradual"
    (trigger,) = spec["triggers"]
    each = trigger["metadata"].get("value") or trigger["metadata"].get("messageCount")
    assert each == "1"


def test_the_queue_is_the_one_our_bus_makes():
    (trigger,) = scaled_job("rabbitmq.yaml")["triggers"]
    assert trigger["metadata"]["queueName"] == Names().queue(POOL)
    assert trigger["metadata"]["protocol"] == "amqp", "by HTTP it counts what is leased, too"


def test_the_subscription_is_the_one_our_bus_makes():
    (trigger,) = scaled_job("servicebus.yaml")["triggers"]
    (rule,) = event_job()["properties"]["configuration"]["eventTriggerConfig"]["scale"]["rules"]
    for metadata in (trigger["metadata"], rule["metadata"]):
        assert (metadata["topicName"], metadata["subscriptionName"]) == (TOPIC, POOL)
        assert metadata["messageCount"] == "1"


@pytest.mark.parametrize("file", SCALED)
def test_a_trigger_finds_its_authentication(file: str):
    (trigger,) = scaled_job(file)["triggers"]
    name = documents(file)["TriggerAuthentication"]["metadata"]["name"]
    assert trigger["authenticationRef"]["name"] == name


def test_the_event_job_has_no_name_that_azure_does_not_know():
    job = event_job()
    assert list(unknown(job, models.Job)) == []
    configuration = job["properties"]["configuration"]
    lifecycles = {one["identity"]: one["lifecycle"] for one in configuration["identitySettings"]}
    assert lifecycles == dict.fromkeys(job["identity"]["userAssignedIdentities"], "None")


def test_both_manifests_start_the_same_executor():
    one, other = (scaled_job(file)["jobTargetRef"] for file in SCALED)
    assert one == other


@pytest.mark.parametrize("file", CONTAINERS)
def test_a_container_gives_its_executor_options_there_are(file: str):
    """The image's entry point is `mayfly executor --once`."""
    container = CONTAINERS[file]
    assert "command" not in container, "it would replace the entry point"
    commands: Any = typer.main.get_command(app)
    parameters = commands.commands["executor"].params
    options = {option for one in parameters for option in one.opts}
    arguments = container["args"]
    assert {word for word in arguments if word.startswith("-")} <= options
    assert arguments[arguments.index("--pool") + 1] == POOL
    variables = {one.envvar for one in parameters if one.envvar} | {"MAYFLY_TOKEN"}
    assert {one["name"] for one in container["env"]} <= variables


@pytest.mark.parametrize("file", SCALED)
def test_the_settings_of_the_executor_are_accepted(file: str):
    text = documents(file)["ConfigMap"]["data"]["executor.toml"]
    settings = msgspec.convert(tomllib.loads(text), File, dec_hook=path_hook)
    driver = backend("drivers", settings.executor.driver)
    msgspec.convert(settings.runner, driver.Settings, dec_hook=path_hook)
    assert settings.executor.idle_seconds, "a pod too many would wait for ever"
