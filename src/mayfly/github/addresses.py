"""Paths of GitHub's API, made of names that strangers chose."""

from typing import NamedTuple
from urllib.parse import urlsplit

from mayfly.github.refusals import Asked
from mayfly.model.access import GITHUB_NAME, Scope
from mayfly.model.errors import GitHubRefused, RefusalKind

ACTIONS = "actions=read"
"""The permission it takes to look at runs and jobs."""

REPOSITORY_RUNNERS = "administration=write"
ORGANIZATION_RUNNERS = "organization_self_hosted_runners=write"
"""The permissions it takes to register runners.

Source: https://docs.github.com/rest/authentication/permissions-required-for-github-apps
"""

_DOTS = {".", ".."}


class Address(NamedTuple):
    """Where runners are registered or jobs run."""

    path: str
    """`repos/OWNER/REPO` or `orgs/OWNER`."""
    label: str
    """For people."""
    runner_permission: str
    """What it takes to register runners there."""

    @property
    def place(self) -> str:
        """The path on GitHub's own pages: `OWNER/REPO` or `OWNER`."""
        return self.path.partition("/")[2]

    def asked(self, what: str, needs: str = "") -> Asked:
        """What is asked there: `what` is a verb phrase that reads well before `for PLACE`."""
        return Asked(f"{what} for {self.label}", self.label, needs or self.runner_permission)


def web(api_url: str) -> str:
    """Where the pages of the GitHub at this API address are, without a slash at the end.

    `https://api.github.com` and `https://api.NAME.ghe.com` have a host of their own for the API,
    GitHub Enterprise Server has the path `/api/v3`.
    """
    parts = urlsplit(api_url)
    host = parts.netloc.removeprefix("api.") if not parts.path.strip("/") else parts.netloc
    return f"{parts.scheme}://{host}"


def of_scope(scope: Scope) -> Address:
    """The address of a scope; GitHubRefused when it is not one."""
    match scope.split("/"):
        case ["repos", owner, repository]:
            return of_repository(owner, repository)
        case ["orgs", owner]:
            return of_organization(owner)
    raise _no_name(scope)


def of_repository(owner: str, repository: str) -> Address:
    """The address of a repository; GitHubRefused when GitHub can have no such names."""
    path = f"repos/{_checked(owner)}/{_checked(repository)}"
    return Address(path, f"{owner}/{repository}", REPOSITORY_RUNNERS)


def of_organization(owner: str) -> Address:
    """The address of an organization; GitHubRefused when GitHub can have no such name."""
    path = f"orgs/{_checked(owner)}"
    return Address(path, f"organization {owner}", ORGANIZATION_RUNNERS)


def _checked(name: str) -> str:
    if name in _DOTS or not GITHUB_NAME.fullmatch(name):
        raise _no_name(name)
    return name


def _no_name(name: str) -> GitHubRefused:
    return GitHubRefused(
        RefusalKind.INVALID_REQUEST,
        f"{name[:120]!r} is not a name GitHub gives to owners or repositories; nothing was asked",
    )
