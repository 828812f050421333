"""Owners, repositories, installations and the App, as GitHub writes them in JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from mayfly.simulator.accounts import Installation, Owner, Repository
from mayfly.simulator.settings import Settings
from mayfly.simulator.tokens import Token

Json = dict[str, object]

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)

USER_LINKS = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}

REPOSITORY_LINKS = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}


def moment(at: datetime) -> str:
    """ISO 8601 with whole seconds and Z, as GitHub writes every time."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node_id(kind: str, number: int) -> str:
    """An opaque id; GitHub's older form is this very base64."""
    return base64.b64encode(f"0{len(kind)}:{kind}{number}".encode()).decode()


def user(owner: Owner, base: str) -> Json:
    """A `simple-user`."""
    url = f"{base}/users/{owner.login}"
    return {
        "login": owner.login,
        "id": owner.id,
        "node_id": node_id(owner.type, owner.id),
        "avatar_url": f"{base}/avatars/u/{owner.id}?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{base}/{owner.login}",
        **{name: url + path for name, path in USER_LINKS.items()},
        "type": owner.type,
        "user_view_type": "public",
        "site_admin": False,
    }


def organization(owner: Owner, base: str) -> Json:
    """The `organization` of a webhook."""
    url = f"{base}/orgs/{owner.login}"
    return {
        "login": owner.login,
        "id": owner.id,
        "node_id": node_id(owner.type, owner.id),
        "url": url,
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events",
        "hooks_url": f"{url}/hooks",
        "issues_url": f"{url}/issues",
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"{base}/avatars/u/{owner.id}?v=4",
        "description": "",
    }


def minimal_repository(found: Repository, base: str) -> Json:
    """A `minimal-repository`, as it stands in a run."""
    url = f"{base}/repos/{found.full_name}"
    return {
        "id": found.id,
        "node_id": node_id("Repository", found.id),
        "name": found.name,
        "full_name": found.full_name,
        "private": found.private,
        "owner": user(found.owner, base),
        "html_url": f"{base}/{found.full_name}",
        "description": None,
        "fork": found.fork,
        "url": url,
        **{name: url + path for name, path in REPOSITORY_LINKS.items()},
    }


def repository(found: Repository, base: str) -> Json:
    """A whole `repository`, as in webhooks and lists."""
    html = f"{base}/{found.full_name}"
    created = moment(found.created_at)
    return minimal_repository(found, base) | {
        "created_at": created,
        "updated_at": created,
        "pushed_at": created,
        "git_url": f"{html.replace('http', 'git', 1)}.git",
        "ssh_url": f"git@github.com:{found.full_name}.git",
        "clone_url": f"{html}.git",
        "svn_url": html,
        "mirror_url": None,
        "homepage": None,
        "language": None,
        "license": None,
        "size": 0,
        "default_branch": "main",
        "visibility": "private" if found.private else "public",
        "topics": [],
        "custom_properties": {},
        **dict.fromkeys(_COUNTS, 0),
        **dict.fromkeys(_FEATURES, True),
        **dict.fromkeys(_OFF, False),
    }


_COUNTS = (
    "forks", "forks_count", "open_issues", "open_issues_count",
    "stargazers_count", "watchers", "watchers_count",
)  # fmt: skip
_FEATURES = ("has_issues", "has_projects", "has_downloads", "has_wiki", "has_pages")
_OFF = (
    "archived", "disabled", "is_template", "allow_forking",
    "has_discussions", "web_commit_signoff_required",
)  # fmt: skip


def short_repository(found: Repository) -> Json:
    """A repository as an `installation` event names it."""
    return {
        "id": found.id,
        "node_id": node_id("Repository", found.id),
        "name": found.name,
        "full_name": found.full_name,
        "private": found.private,
    }


def installation(found: Installation, settings: Settings, base: str) -> Json:
    """An `installation`."""
    suspended = found.suspended_at
    return {
        "id": found.id,
        "account": _account(found.owner, base),
        "repository_selection": found.selection,
        "access_tokens_url": f"{base}/app/installations/{found.id}/access_tokens",
        "repositories_url": f"{base}/installation/repositories",
        "html_url": f"{base}/settings/installations/{found.id}",
        "app_id": settings.app_id,
        "client_id": settings.client_id,
        "app_slug": settings.app_slug,
        "target_id": found.owner.id,
        "target_type": found.owner.type,
        "permissions": found.permissions,
        "events": ["workflow_job"],
        "created_at": moment(found.created_at),
        "updated_at": moment(suspended or found.created_at),
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": user(found.owner, base) if suspended else None,
        "suspended_at": moment(suspended) if suspended else None,
    }


def _account(owner: Owner, base: str) -> Json:
    """A user, with what GitHub's description demands here as of an enterprise."""
    return user(owner, base) | {
        "name": owner.login,
        "slug": owner.login.lower(),
        "description": None,
        "website_url": None,
        "created_at": moment(EPOCH),
        "updated_at": moment(EPOCH),
    }


def app(
    settings: Settings,
    permissions: Mapping[str, str],
    events: Sequence[str],
    installations: int,
    base: str,
) -> Json:
    """The App itself, an `integration`."""
    owner = Owner(id=1000, login="mayfly-owner", type="Organization")
    return {
        "id": settings.app_id,
        "slug": settings.app_slug,
        "client_id": settings.client_id,
        "node_id": node_id("Integration", settings.app_id),
        "owner": user(owner, base),
        "name": "Mayfly Simulator",
        "description": None,
        "external_url": base,
        "html_url": f"{base}/apps/{settings.app_slug}",
        "created_at": moment(EPOCH),
        "updated_at": moment(EPOCH),
        "permissions": dict(permissions),
        "events": list(events),
        "installations_count": installations,
    }


def token(issued: Token, repositories: Iterable[Repository] | None, base: str) -> Json:
    """An `installation-token`; repositories are listed only when it was narrowed to some."""
    answer: Json = {
        "token": issued.value,
        "expires_at": moment(issued.expires_at),
        "permissions": issued.permissions,
        "repository_selection": "all" if repositories is None else "selected",
    }
    if repositories is not None:
        answer["repositories"] = [repository(found, base) for found in repositories]
    return answer
