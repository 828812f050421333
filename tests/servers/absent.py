"""A server that is not installed: tests that need it are skipped, and fail where CI is set."""

import os
from typing import NoReturn

import pytest


def absent(reason: str) -> NoReturn:
    """Ends the test; nothing is left out in silence."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
