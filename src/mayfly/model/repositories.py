"""Repositories: where jobs come from, and what their runs look like from outside."""

from datetime import datetime
from typing import NamedTuple

from mayfly.model.jobs import InstallationId


class Repository(NamedTuple):
    """A repository an installation may see."""

    installation: InstallationId
    owner: str
    name: str

    @property
    def full_name(self) -> str:
        """`owner/repository`."""
        return f"{self.owner}/{self.name}"


class Run(NamedTuple):
    """A workflow run that is not over."""

    id: int
    attempt: int
    updated_at: datetime
    """GitHub moves it whenever one of the run's jobs changes."""


class Runs(NamedTuple):
    """An answer, and the ETag by which to ask whether it is still the same."""

    runs: list[Run]
    etag: str | None
