"""One set of providers for all tests of a worker, and a copy of the modules for each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.terraform.stage import Stage, attached, program


@pytest.fixture(scope="session")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """They take a second to start, and once as long as it takes to make their environments."""
    program()
    with attached(tmp_path_factory.mktemp("providers")) as found:
        yield found


@pytest.fixture
def stage(tmp_path: Path, providers: dict[str, Any]) -> Stage:
    """Modules that a test may break."""
    return Stage(tmp_path, providers)
