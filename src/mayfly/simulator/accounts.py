"""Owners, their repositories, and where the App is installed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from mayfly.simulator.refusals import Refusal, not_found
from mayfly.simulator.settings import APP_PERMISSIONS, Account, OwnerType


class Owner(Struct, frozen=True, kw_only=True):
    """A user or an organization."""

    id: int
    login: str
    type: OwnerType


class Repository(Struct, frozen=True, kw_only=True):
    """A repository of an owner."""

    id: int
    name: str
    owner: Owner
    created_at: datetime
    private: bool = True
    fork: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"


class Installation(Struct, frozen=True, kw_only=True):
    """The App on one owner, with all of its repositories or a selection."""

    id: int
    owner: Owner
    created_at: datetime
    selection: Literal["all", "selected"] = "all"
    selected: frozenset[int] = frozenset()
    permissions: dict[str, str] = field(default_factory=dict)
    suspended_at: datetime | None = None

    def covers(self, repository: Repository) -> bool:
        """Whether the App may see this repository."""
        if repository.owner.id != self.owner.id:
            return False
        return self.selection == "all" or repository.id in self.selected


class Accounts:
    """Everything that has an address on this GitHub; names are case-insensitive."""

    def __init__(self) -> None:
        self.owners: dict[str, Owner] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.installations: dict[int, Installation] = {}
        self._owner_ids = itertools.count(1001)
        self._repository_ids = itertools.count(500001)
        self._installation_ids = itertools.count(70001)

    def add(self, account: Account, now: datetime) -> Owner:
        """Create an owner with its repositories and installation."""
        owner = self.add_owner(account.login, account.type)
        for name in account.repositories:
            self.add_repository(account.login, name, now)
        if account.installed:
            self.install(
                account.login,
                now,
                installation_id=account.installation_id,
                permissions=account.permissions,
            )
        return owner

    def add_owner(self, login: str, kind: OwnerType) -> Owner:
        if login.lower() in self.owners:
            raise Refusal(409, f"owner {login!r} exists already")
        owner = Owner(id=next(self._owner_ids), login=login, type=kind)
        self.owners[login.lower()] = owner
        return owner

    def add_repository(
        self, owner: str, name: str, now: datetime, *, private: bool = True, fork: bool = False
    ) -> Repository:
        """Create a repository; on GitHub `selection = all` makes the App see it at once."""
        if (owner.lower(), name.lower()) in self.repositories:
            raise Refusal(409, f"repository {owner}/{name} exists already")
        repository = Repository(
            id=next(self._repository_ids),
            name=name,
            owner=self.owner(owner),
            created_at=now,
            private=private,
            fork=fork,
        )
        self.repositories[owner.lower(), name.lower()] = repository
        return repository

    def install(
        self,
        owner: str,
        now: datetime,
        *,
        installation_id: int | None = None,
        permissions: dict[str, str] | None = None,
    ) -> Installation:
        chosen = permissions if permissions is not None else dict(APP_PERMISSIONS)
        account = self.owner(owner)
        if self.installation_of(owner) is not None:
            raise Refusal(409, f"the App is installed on {owner} already")
        if account.type == "User":
            # A personal account has no organization to grant anything on.
            chosen = {k: v for k, v in chosen.items() if not k.startswith("organization_")}
        key = installation_id if installation_id is not None else next(self._installation_ids)
        made = Installation(id=key, owner=account, created_at=now, permissions=chosen)
        self.installations[key] = made
        return made

    def uninstall(self, installation_id: int) -> Installation:
        if installation_id not in self.installations:
            raise not_found()
        return self.installations.pop(installation_id)

    def suspend(self, installation_id: int, at: datetime | None) -> Installation:
        """Suspend the installation, or with None lift the suspension."""
        return self._put(replace(self.installation(installation_id), suspended_at=at))

    def permit(self, installation_id: int, permissions: dict[str, str]) -> Installation:
        """Replace what the installation grants; tokens handed out earlier lose it too."""
        return self._put(replace(self.installation(installation_id), permissions=permissions))

    def select(self, installation_id: int, names: frozenset[str]) -> Installation:
        """Limit the installation to the repositories of these names."""
        found = self.installation(installation_id)
        chosen = frozenset(self.repository(found.owner.login, name).id for name in names)
        return self._put(replace(found, selection="selected", selected=chosen))

    def deselect(self, repository: Repository) -> Installation:
        """Take one repository out of its owner's installation."""
        found = self.installation_of(repository.owner.login)
        if found is None:
            raise not_found()
        kept = frozenset(r.id for r in self.visible(found) if r.id != repository.id)
        return self._put(replace(found, selection="selected", selected=kept))

    def owner(self, login: str) -> Owner:
        try:
            return self.owners[login.lower()]
        except KeyError:
            raise not_found() from None

    def repository(self, owner: str, name: str) -> Repository:
        try:
            return self.repositories[owner.lower(), name.lower()]
        except KeyError:
            raise not_found() from None

    def remove_repository(self, owner: str, name: str) -> Repository:
        """Delete the repository, as its owner would."""
        found = self.repository(owner, name)
        del self.repositories[owner.lower(), name.lower()]
        return found

    def installation(self, installation_id: int) -> Installation:
        try:
            return self.installations[installation_id]
        except KeyError:
            raise not_found() from None

    def installation_of(self, login: str) -> Installation | None:
        wanted = login.lower()
        every = self.installations.values()
        return next((i for i in every if i.owner.login.lower() == wanted), None)

    def installation_for(self, repository: Repository) -> Installation | None:
        """The installation that sees this repository, if any."""
        found = self.installation_of(repository.owner.login)
        return found if found is not None and found.covers(repository) else None

    def visible(self, installation: Installation) -> Iterator[Repository]:
        """The repositories an installation sees."""
        return (r for r in self.repositories.values() if installation.covers(r))

    def _put(self, installation: Installation) -> Installation:
        self.installations[installation.id] = installation
        return installation
