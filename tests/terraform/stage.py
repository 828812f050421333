"""Terraform with providers that have a schema and nothing else, in a copy of deploy/terraform."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from shutil import copytree, ignore_patterns, which
from threading import Timer
from typing import Any, NamedTuple

import pytest

from tests.servers.absent import absent
from tests.terraform import schemas

HERE = Path(__file__).parent
MODULES = HERE.parents[1] / "deploy" / "terraform"
_EMPTY: schemas.Schema = {"attributes": {}, "blocks": {}}

AZAPI: dict[str, Any] = {
    "provider": _EMPTY,
    "data": {},
    "resource": {
        # The arguments that are used here, from the provider's documentation (azapi 2.4).
        "azapi_resource": {
            "attributes": {
                "id": ("string", "computed"),
                "type": ("string", "required"),
                "name": ("string", "optional"),
                "parent_id": ("string", "optional"),
                "location": ("string", "optional"),
                "tags": (["map", "string"], "optional"),
                "body": ("dynamic", "optional"),
                "locks": (["list", "string"], "optional"),
            },
            "blocks": {
                "identity": (
                    *("list", 0, 1),
                    {
                        "attributes": {
                            "type": ("string", "required"),
                            "identity_ids": (["list", "string"], "optional"),
                            "principal_id": ("string", "computed"),
                            "tenant_id": ("string", "computed"),
                        },
                        "blocks": {},
                    },
                ),
            },
        },
    },
}
AZURERM_PROVIDER: schemas.Schema = {
    "attributes": {
        "subscription_id": ("string", "optional"),
        "storage_use_azuread": ("bool", "optional"),
    },
    "blocks": {"features": ("list", 1, 1, _EMPTY)},
}


def program() -> str:
    """Terraform; without it the test is skipped, also under CI, as CONTRIBUTING.md says."""
    found = which("terraform")
    if found is None:
        pytest.skip("there is no terraform on this machine, and no package of it to install")
    return found


def cache() -> Path:
    """Kept from run to run, whatever the checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mayfly-tests" / "terraform"


def environment(part: str) -> Path:
    """A part of what `install` makes; made when it is not there yet."""
    command = [str(HERE / "install"), str(cache()), part, sys.executable]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if ran.returncode:
        absent(f"tests/terraform/install {part} failed:\n{ran.stderr}")
    return Path(ran.stdout.strip())


def schema_file() -> Path:
    """The schema of what the modules use of azurerm, read again when something of that changes."""
    wheel = next(environment("azurerm").glob("*.whl"))
    used = schemas.used([MODULES])
    source = Path(schemas.__file__).read_text()
    key = sha256(repr((wheel.name, used, source, AZURERM_PROVIDER)).encode()).hexdigest()[:16]
    file = cache() / f"azurerm-{key}.json"
    if not file.exists():
        read = {"provider": AZURERM_PROVIDER, **schemas.read(wheel, used)}
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(read))
        partial.rename(file)
    return file


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    output: str


class Stage:
    """A copy of the modules, and a terraform that asks our providers and no network."""

    def __init__(self, folder: Path, attached: Mapping[str, Any]) -> None:
        self.modules = folder / "modules"
        self._program = program()
        copytree(MODULES, self.modules, ignore=ignore_patterns(".terraform*"))
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            # Else a machine's own settings would be read, or a warning printed that there are none.
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_REATTACH_PROVIDERS": json.dumps(attached),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }

    def run(self, module: str, *arguments: str) -> Ran:
        """A command of terraform in a module; bounded."""
        ran = subprocess.run(
            [self._program, f"-chdir={self.modules / module}", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=self._environment,
        )
        return Ran(ran.returncode, ran.stdout + ran.stderr)


@contextmanager
def attached(folder: Path) -> Iterator[dict[str, Any]]:
    """The providers, as long as this is open; what terraform wants to know of them."""
    azapi = folder / "azapi.json"
    azapi.write_text(json.dumps(AZAPI))
    files = {"hashicorp/azurerm": schema_file(), "azure/azapi": azapi}
    with ExitStack() as stack:
        found: dict[str, Any] = {}
        for source, file in files.items():
            found |= stack.enter_context(_serving(source, file))
        yield found


@contextmanager
def _serving(source: str, schema: Path) -> Iterator[dict[str, Any]]:
    python = environment("tf") / "bin" / "python"
    command = [str(python), "-u", str(HERE / "provider.py"), source, str(schema)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        # Whatever happens it ends, and with it the output that is read here.
        ending = Timer(300, process.kill)
        ending.start()
        try:
            assert process.stdout
            line = next(line for line in process.stdout if "TF_REATTACH_PROVIDERS=" in line)
            yield json.loads(line.partition("=")[2].strip().strip("'"))
        finally:
            ending.cancel()
            process.kill()
