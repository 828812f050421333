"""What an installation token opens: repositories, organizations, permissions."""

from __future__ import annotations

from msgspec import Struct

from mayfly.simulator.accounts import Installation, Repository
from mayfly.simulator.refusals import Refusal, not_found, not_permitted
from mayfly.simulator.runners import Scope
from mayfly.simulator.tokens import BAD_CREDENTIALS, Token
from mayfly.simulator.world import World

LEVELS = {"read": 1, "write": 2, "admin": 3}

RUNNERS_READ = "administration:read"
RUNNERS_WRITE = "administration:write"
ORG_RUNNERS_READ = "organization_self_hosted_runners:read"
ORG_RUNNERS_WRITE = "organization_self_hosted_runners:write"
ACTIONS_READ = "actions:read"
ACTIONS_WRITE = "actions:write"
CHECKS_WRITE = "checks:write"


class Entry(Struct, frozen=True, kw_only=True):
    """A recognised installation token and its installation as it is now."""

    token: Token
    installation: Installation


def enter(world: World, authorization: str | None) -> Entry:
    """Recognise an installation token; refuses expired tokens and suspended installations."""
    token = world.tokens.recognise(authorization, world.now())
    installation = world.accounts.installations.get(token.installation_id)
    if installation is None:
        raise Refusal(401, BAD_CREDENTIALS)
    if installation.suspended_at is not None:
        raise Refusal(403, "This installation has been suspended")
    return Entry(token=token, installation=installation)


def enter_repository(
    world: World, authorization: str | None, owner: str, repo: str, permission: str
) -> Repository:
    """The repository, when the token opens it; 404 hides the others, as GitHub does."""
    entry = enter(world, authorization)
    repository = world.accounts.repository(owner, repo)
    ids = entry.token.repository_ids
    if not entry.installation.covers(repository) or (ids is not None and repository.id not in ids):
        raise not_found()
    _demand(entry, permission)
    return repository


def enter_organization(world: World, authorization: str | None, org: str, permission: str) -> Scope:
    """The organization's scope, when the token opens it."""
    entry = enter(world, authorization)
    owner = world.accounts.owner(org)
    if owner.type != "Organization" or owner.id != entry.installation.owner.id:
        raise not_found()
    _demand(entry, permission)
    return Scope(owner=owner.login)


def scope_of(repository: Repository) -> Scope:
    return Scope(owner=repository.owner.login, repo=repository.name)


def _demand(entry: Entry, permission: str) -> None:
    name, _, level = permission.partition(":")
    # The installation may have lost a permission since the token was made.
    for held in (entry.token.permissions, entry.installation.permissions):
        if LEVELS.get(held.get(name, ""), 0) < LEVELS[level]:
            raise not_permitted()
