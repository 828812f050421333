"""deploy/terraform: real `terraform validate` and `terraform test`, without Azure and offline."""

import re
import subprocess
import tomllib
from pathlib import Path

import msgspec
import pytest

from mayfly.cli.environment import path_hook
from mayfly.cli.settings import File
from mayfly.model.pools import checked
from tests.docs.pages import PAGES, blocks
from tests.terraform.stage import MODULES, Stage, program

# The first run on a machine makes the environments, behind whoever came first.
pytestmark = pytest.mark.timeout(400)

FOLDERS = sorted({str(file.parent.relative_to(MODULES)) for file in MODULES.rglob("*.tf")})
TESTED = sorted(
    {str(file.parents[1].relative_to(MODULES)) for file in MODULES.rglob("*.tftest.hcl")}
)
RUNNERS = "azure-container-apps"


def test_every_file_is_formatted():
    command = [program(), "fmt", "-check", "-diff", "-recursive", str(MODULES)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_terraform_finds_a_module_valid(stage: Stage, folder: str):
    assert stage.run(folder, "get").code == 0
    ran = stage.run(folder, "validate", "-no-color")
    assert ran.code == 0, ran.output


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('sku_name            = "Standard"', "bogus_argument = true", "Unsupported argument"),
        ("address_space       =", "address_spaces =", "Unsupported argument"),
        ("name                           =", "# ", "Missing required argument"),
        ("delegation {", "delegations {", "Unsupported block type"),
        (
            'resource "azurerm_nat_gateway"',
            'resource "azurerm_gnat_gateway"',
            "Invalid resource type",
        ),
        ("pull.principal_id", "pull.principal", "Unsupported attribute"),
        ("parent_id = local.vnet_id", "parent = local.vnet_id", "Unsupported argument"),
    ],
)
def test_terraform_would_say_what_is_wrong(stage: Stage, before: str, after: str, complaint: str):
    texts = {file: file.read_text() for file in (stage.modules / RUNNERS).glob("*.tf")}
    assert any(before in text for text in texts.values())
    for file, text in texts.items():
        file.write_text(text.replace(before, after))
    assert stage.run(RUNNERS, "get").code == 0
    ran = stage.run(RUNNERS, "validate", "-no-color")
    assert ran.code == 1
    assert complaint in ran.output


@pytest.mark.parametrize("folder", TESTED)
def test_the_tests_of_a_module_pass(stage: Stage, folder: str):
    assert stage.run(folder, "get").code == 0
    ran = stage.run(folder, "test", "-no-color")
    assert ran.code == 0, ran.output
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", ran.output)


def test_every_module_that_is_not_an_example_has_tests():
    ours = [folder for folder in FOLDERS if not {"examples", "tests"} & set(Path(folder).parts)]
    assert ours == TESTED


@pytest.mark.parametrize("folder", TESTED)
def test_every_variable_that_may_be_refused_has_a_run_in_which_it_is(folder: str):
    text = (MODULES / folder / "variables.tf").read_text()
    variables = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
    tests = "\n".join(file.read_text() for file in (MODULES / folder / "tests").glob("*.hcl"))
    refused = set(re.findall(r"expect_failures = \[var\.(\w+)\]", tests))
    assert {name for name, body in variables if "validation {" in body} <= refused
    assert all("description = " in body for _, body in variables)


@pytest.mark.parametrize("folder", TESTED)
def test_a_refusal_is_a_sentence(folder: str):
    texts = [file.read_text() for file in (MODULES / folder).glob("*.tf")]
    sentences = re.findall(r'error_message = "(.*)"$', "\n".join(texts), re.MULTILINE)
    assert len(sentences) == "\n".join(texts).count("error_message")
    assert [one for one in sentences if not re.fullmatch(r"[\w$].*\.", one)] == []


@pytest.mark.parametrize("file", list(MODULES.rglob("mayfly.toml")), ids=str)
def test_the_settings_of_an_example_are_accepted(file: Path):
    settings = msgspec.convert(tomllib.loads(file.read_text()), File, dec_hook=path_hook)
    checked(settings.pools, settings.labels.convention)
    assert settings.server.host == "0.0.0.0"
    assert settings.server.port == 8080


def test_the_documentation_calls_the_modules_with_variables_they_have():
    calls = [
        (match[1], set(re.findall(r"^  (\w+)\s+=", block.text, re.MULTILINE)) - {"source"})
        for block in blocks("hcl")
        if (match := re.search(r'source = ".*//deploy/terraform/([\w-]+)"', block.text))
    ]
    assert len(calls) >= 2
    for module, given in calls:
        text = (MODULES / module / "variables.tf").read_text()
        assert given <= set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))


def test_outputs_and_variables_that_the_documentation_names_exist():
    pages = [page.read_text() for page in PAGES if "deploy/terraform" in page.read_text()]
    named = set(re.findall(r"(?:the output `|output -raw )(\w+)", "\n".join(pages)))
    assert len(named) >= 4
    texts = [file.read_text() for file in MODULES.rglob("*.tf")]
    assert named <= set(re.findall(r'^output "(\w+)"', "\n".join(texts), re.MULTILINE))
