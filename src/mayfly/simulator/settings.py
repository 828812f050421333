"""What a simulated GitHub is told when it starts."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

OwnerType = Literal["User", "Organization"]

APP_PERMISSIONS: dict[str, str] = {
    "actions": "write",
    "administration": "write",
    "checks": "write",
    "metadata": "read",
    "organization_self_hosted_runners": "write",
}


class Account(Struct, frozen=True, kw_only=True):
    """An owner of repositories, and the App's installation on it."""

    login: str
    type: OwnerType = "Organization"
    repositories: tuple[str, ...] = ()
    installation_id: int | None = None
    """None picks a free id; `installed = False` means no installation."""
    installed: bool = True
    permissions: dict[str, str] = field(default_factory=lambda: dict(APP_PERMISSIONS))


class Settings(Struct, frozen=True, kw_only=True):
    """How the simulator listens, which App it knows, and how strict it is."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 picks a free port."""
    public_url: str | None = None
    """The address written into JIT configs and links, when it is not the one listened on."""
    app_id: int = 4711
    client_id: str = "Iv23liMayflySimulator"
    app_slug: str = "mayfly-simulator"
    app_public_key: str = ""
    """PEM; empty refuses every App token. `generate_app_key` makes a pair."""
    webhook_url: str | None = None
    """None: deliveries fail and stand in the delivery log all the same."""
    webhook_secret: str = "simulated-secret"  # noqa: S105 - a simulator's default, guards nothing
    webhook_timeout_seconds: float = 10.0
    webhook_concurrency: int = 32
    """1 gives one total order; deliveries of one job are always in order."""
    accounts: tuple[Account, ...] = (Account(login="octo-org", repositories=("octo-repo",)),)
    workflows: tuple[str, ...] = ()
    """YAML files dispatched on the first repository once the simulator listens."""
    runner_lost_after_seconds: float = 5.0
    poll_seconds: float = 30.0
    """The longest a runner's long poll is held."""
    runner_flow: Literal["v1", "v2"] = "v1"
    """How a runner that speaks GitHub's own protocol gets its job: from the pipelines service, or
    from the broker and the run service."""
    runner_encryption: Literal["sha1", "sha256", "plain"] = "sha1"
    """The hash under which such a runner gets the key of its messages; `plain` seals nothing."""
    use_v2_registration: bool = False
    """Whether `configure` is sent on to the API for runner administration."""
    runner_lock_seconds: float = 90.0
    """How long such a runner may be silent after it renewed its job, which it does every 60 s."""
    assignment: Literal["oldest-runner", "random"] = "oldest-runner"
    reuse_job_ids: bool = False
    """True: a re-run keeps the job's id, an oddity seen in the field."""
    runner_version: str = "2.336.0"
    """What runners say they are, and the newest release until another is offered."""
    runner_archive_bytes: int = 64 * 1024
    """About the size of the runner's archive, some 200 MB on GitHub."""
    token_seconds: int = 3600
    rate_limit: int = 5000
    secondary_points_per_minute: int | None = None
    """900 on GitHub, per endpoint (GET 1, others 5); None switches the limit off."""
    seed: int = 0
