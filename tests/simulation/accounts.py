"""Accounts: owners, their repositories, and what the App may see of them."""

from enum import Enum
from random import Random

from mayfly.model.access import AccessRule
from mayfly.model.jobs import InstallationId
from tests.simulation.plans import Plan

REPOSITORIES = {
    "octo": ("hello", "world", "tools"),
    "umbra": ("shade", "mirror"),
    "solo": ("blog",),
}


class Access(Enum):
    """What an owner lets the App do."""

    INSTALLED = "installed"
    SUSPENDED = "suspended"
    REMOVED = "removed"


class Owner:
    """An account with the App installed."""

    def __init__(self, name: str, installation: int, *, organization: bool) -> None:
        self.name = name
        self.installation = InstallationId(installation)
        self.organization = organization
        self.access = Access.INSTALLED
        self.kept_out = False
        """Whether the App was ever suspended or removed."""
        self.former: list[InstallationId] = []
        """Ids the App had here before it was installed anew."""

    @property
    def reachable(self) -> bool:
        return self.access is Access.INSTALLED

    def keep_out(self, access: Access) -> None:
        self.access = access
        self.kept_out = True

    def let_back(self) -> None:
        """A suspension ends; a removal does not."""
        if self.access is Access.SUSPENDED:
            self.access = Access.INSTALLED

    def install_anew(self) -> None:
        """After a removal; GitHub gives it another id."""
        self.former.append(self.installation)
        self.installation = InstallationId(self.installation + 100)
        self.access = Access.INSTALLED


class Repository:
    """Where jobs come from. `changes` counts what moves its list of runs."""

    def __init__(self, owner: Owner, name: str) -> None:
        self.owner = owner
        self.name = name
        self.full_name = f"{owner.name}/{name}"
        self.scopes = (f"repos/{self.full_name}".lower(), f"orgs/{owner.name}".lower())
        self.changes = 0


class Accounts:
    """Everybody at GitHub, and the truth about who may use which pool."""

    def __init__(self, plan: Plan, dice: Random) -> None:
        self.owners = [
            Owner("octo", 11, organization=True),
            Owner("umbra", 12, organization=True),
            Owner("solo", 13, organization=False),
        ]
        self.repositories = [
            Repository(owner, name) for owner in self.owners for name in REPOSITORIES[owner.name]
        ]
        self._rules: dict[tuple[str, str], AccessRule] = {}
        self.ever_allowed: dict[tuple[str, str], None] = {}
        """(full name, pool), now or at any time before."""
        for each in plan.pools:
            self._allow_some(each.pool.name, dice, wide=each.wide)

    def allow(self, rule: AccessRule) -> None:
        self._rules[rule.subject, rule.label] = rule
        for repository in self.repositories:
            if self.allowed(repository, rule.label):
                self.ever_allowed[repository.full_name, rule.label] = None

    def disallow(self, rule: AccessRule) -> None:
        self._rules.pop((rule.subject, rule.label), None)

    def allowed(self, repository: Repository, pool: str) -> bool:
        """By the rules as the operator has them now."""
        subjects = (repository.owner.name, repository.full_name)
        return any((subject, pool) in self._rules for subject in subjects)

    def rules(self) -> list[AccessRule]:
        return list(self._rules.values())

    def users_of(self, pool: str) -> list[Repository]:
        return [each for each in self.repositories if self.allowed(each, pool)]

    def strangers_to(self, pool: str) -> list[Repository]:
        return [each for each in self.repositories if not self.allowed(each, pool)]

    def find(self, full_name: str) -> Repository | None:
        wanted = full_name.lower()
        return next((r for r in self.repositories if r.full_name.lower() == wanted), None)

    def owner_of(self, installation: InstallationId) -> Owner:
        owners = (one for one in self.owners if installation in {one.installation, *one.former})
        return next(owners)

    def access_of(self, installation: InstallationId) -> Access:
        owner = self.owner_of(installation)
        return Access.REMOVED if installation in owner.former else owner.access

    def _allow_some(self, pool: str, dice: Random, *, wide: bool) -> None:
        """Always `octo`, and perhaps others; a whole owner, or its first repository only."""
        for owner in self.owners[: dice.randint(1, len(self.owners))]:
            name = next(each.name for each in self.repositories if each.owner is owner)
            self.allow(AccessRule(label=pool, owner=owner.name, repository=None if wide else name))
